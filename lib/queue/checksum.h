/// CRC-32C (Castagnoli), the checksum of queue files.
#pragma once

#include <cstdint>
#include <string_view>

namespace postern::queue {

/// Continues from `crc` (0 to begin) over `bytes`.
std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes);

}  // namespace postern::queue
