#include "lib/queue/fixed_header.h"

#include "lib/queue/checksum.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

constexpr std::string_view kMagic = "PosternQ";
constexpr std::uint16_t kVersion = 1;

Error corrupt(const char* why) { return {Errc::corrupt, std::string("queue file: ") + why}; }

}  // namespace

std::string encode_fixed_header(const FixedHeader& header) {
    std::string out(kMagic);
    put_number(out, kVersion);
    put_number(out, static_cast<std::uint16_t>(kFixedHeaderSize));
    put_number(out, std::uint32_t{0});
    std::uint64_t offset = kFixedHeaderSize;
    for (const std::uint64_t length : {header.body_length, header.headers_length, header.envelope_length}) {
        put_number(out, offset);
        put_number(out, length);
        offset += length;
    }
    put_number(out, offset);
    put_number(out, header.body_crc);
    put_number(out, header.headers_crc);
    put_number(out, header.envelope_crc);
    out.resize(kFixedHeaderSize - sizeof(std::uint32_t), '\0');
    put_number(out, crc32c(0, out));
    return out;
}

Result<FixedHeader> decode_fixed_header(std::string_view bytes, std::uint64_t file_size) {
    if (bytes.size() < kFixedHeaderSize) {
        return corrupt("shorter than its fixed header");
    }
    bytes = bytes.substr(0, kFixedHeaderSize);
    StoredReader in(bytes);
    if (in.take(kMagic.size()) != kMagic) {
        return corrupt("no queue file, or never completed");
    }
    StoredReader stored_crc(bytes.substr(kFixedHeaderSize - sizeof(std::uint32_t)));
    if (crc32c(0, bytes.substr(0, kFixedHeaderSize - sizeof(std::uint32_t))) != stored_crc.number<std::uint32_t>()) {
        return corrupt("wrong fixed header checksum");
    }
    if (in.number<std::uint16_t>() != kVersion || in.number<std::uint16_t>() != kFixedHeaderSize) {
        return corrupt("unknown format version");
    }
    in.number<std::uint32_t>();
    FixedHeader header;
    std::uint64_t expected = kFixedHeaderSize;
    for (std::uint64_t* length : {&header.body_length, &header.headers_length, &header.envelope_length}) {
        const auto offset = in.number<std::uint64_t>();
        *length = in.number<std::uint64_t>();
        if (offset != expected || *length > file_size - offset) {
            return corrupt("an extent lies outside the file");
        }
        expected += *length;   // stays <= file_size, so the subtraction above cannot wrap
    }
    if (in.number<std::uint64_t>() != expected || header.envelope_length > kMaxEnvelope) {
        return corrupt("bad envelope extent");
    }
    header.body_crc = in.number<std::uint32_t>();
    header.headers_crc = in.number<std::uint32_t>();
    header.envelope_crc = in.number<std::uint32_t>();
    return header;
}

}  // namespace postern::queue
