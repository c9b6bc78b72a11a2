/// How entries of the services' databases are written: a version byte, a checksum, and fields (lib/ipc/codec.h).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/ipc/codec.h"
#include "lib/queue/checksum.h"

namespace postern::tlspolicy {

template <class T>
std::string seal(char version, T entry) {
    std::string body;
    std::vector<UniqueFd> no_descriptors;
    Encoder encoder(body, no_descriptors);
    fields(encoder, entry);
    std::string out(1, version);
    std::uint32_t sum = queue::crc32c(0, body);
    for (int i = 0; i < 4; ++i, sum >>= 8) {
        out += static_cast<char>(sum & 0xff);
    }
    return out + body;
}

/// Nothing for another version, a wrong checksum, or what is no T.
template <class T>
std::optional<T> unseal(char version, std::string_view bytes) {
    constexpr std::size_t kHead = 5;
    if (bytes.size() < kHead || bytes[0] != version) {
        return std::nullopt;
    }
    std::uint32_t sum = 0;
    for (std::size_t i = 4; i > 0; --i) {
        sum = sum << 8 | static_cast<unsigned char>(bytes[i]);
    }
    const std::string_view body = bytes.substr(kHead);
    if (queue::crc32c(0, body) != sum) {
        return std::nullopt;
    }
    std::deque<UniqueFd> no_descriptors;
    Decoder decoder(body, no_descriptors, 0);
    T entry;
    fields(decoder, entry);
    return decoder.finished() ? std::optional(std::move(entry)) : std::nullopt;
}

}  // namespace postern::tlspolicy
