/// Passwords as Dovecot stores them for CRAM-MD5 ({CRAM-MD5} and {HMAC-MD5}; the default of `doveadm pw` before 2.3): what
/// HMAC-MD5 (RFC 2104) makes of the key before it sees a message.  A password can be checked against that; CRAM-MD5
/// itself is not offered.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postern {

inline constexpr std::size_t kCramMd5Size = 32;

/// The states of MD5 after the key's outer and inner padding, 16 bytes each.
std::string cram_md5_states(std::string_view password);

}  // namespace postern
