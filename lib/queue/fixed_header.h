/// The fixed header of a queue file, version 1 (queue_file(5)).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern::queue {

/// Lengths and checksums of the extents; the extents follow one another from kFixedHeaderSize on.
struct FixedHeader {
    std::uint64_t body_length = 0;
    std::uint64_t headers_length = 0;
    std::uint64_t envelope_length = 0;
    std::uint32_t body_crc = 0;
    std::uint32_t headers_crc = 0;
    std::uint32_t envelope_crc = 0;
};

/// kFixedHeaderSize bytes.
std::string encode_fixed_header(const FixedHeader& header);

/// `bytes` begins with a fixed header; `file_size` bounds what it may say.  Errors: corrupt.
Result<FixedHeader> decode_fixed_header(std::string_view bytes, std::uint64_t file_size);

}  // namespace postern::queue
