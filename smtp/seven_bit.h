/// 8-bit content for servers that take 7 bits (RFC 6152 section 3, RFC 2045 section 6).
#pragma once

#include <string>
#include <string_view>

namespace postern::smtp {

/// The message with every 8-bit body part as quoted-printable (text) or base64 (all else), and transfer encodings that
/// fit.  Parts without 8-bit bytes keep their bytes; header fields keep theirs, which only SMTPUTF8 can carry.
/// `message` has LF line ends, headers first.
std::string to_seven_bit(std::string_view message);

}  // namespace postern::smtp
