/// CRC-32C (Castagnoli), the checksum of queue files.
#pragma once

#include <cstdint>
#include <string_view>

namespace postern::queue {

/// Continues from `crc` (0 to begin) over `bytes`.
std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes);

/// The same, without the processor's help; what crc32c() does where there is none.
std::uint32_t crc32c_portable(std::uint32_t crc, std::string_view bytes);

}  // namespace postern::queue
