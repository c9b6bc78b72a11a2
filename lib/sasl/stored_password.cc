#include "lib/sasl/stored_password.h"

#include <fmt/format.h>

#include "lib/base/strings.h"

namespace postern {

std::optional<std::string> decode_hex(std::string_view text) {
    if (text.size() % 2 != 0) {
        return std::nullopt;
    }
    std::string out;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const auto byte = parse_hex(text.substr(i, 2));
        if (!byte) {
            return std::nullopt;
        }
        out += static_cast<char>(*byte);
    }
    return out;
}

std::optional<std::string> decode_base64(std::string_view text) {
    std::string padded(text);
    while (!padded.empty() && padded.back() == '=') {
        padded.pop_back();
    }
    padded.append((4 - padded.size() % 4) % 4, '=');
    return base64_decode(padded);
}

Error bad_data(const StoredPassword& stored) {
    return Error(Errc::syntax, fmt::format("invalid {} password data", stored.scheme));
}

std::optional<std::string> text_of(const StoredPassword& stored) {
    if (stored.encoding == "HEX") {
        return decode_hex(stored.data);
    }
    if (stored.encoding == "B64") {
        return decode_base64(stored.data);
    }
    return stored.data;
}

std::optional<std::string> digest_bytes(const StoredPassword& stored, std::size_t exact_size) {
    if (stored.encoding == "HEX" || (stored.encoding.empty() && stored.data.size() == 2 * exact_size)) {
        return decode_hex(stored.data);
    }
    return decode_base64(stored.data);
}

}  // namespace postern
