/// Content-Transfer-Encoding (RFC 2045 section 6): decoders that take what mail brings, and encoders.
#pragma once

#include <string>
#include <string_view>

namespace postern {

enum class TransferEncoding : unsigned char { seven_bit, eight_bit, binary, quoted_printable, base64, unknown };

/// The value of a Content-Transfer-Encoding field, comments and case ignored; empty is seven_bit.
TransferEncoding parse_transfer_encoding(std::string_view value);
std::string_view transfer_encoding_name(TransferEncoding encoding);   ///< `7bit`; `7bit` for unknown

/// RFC 2045 section 6.8: characters outside the alphabet are skipped; `=` ends a quantum and what follows it
/// is decoded as if it were a new text; an incomplete quantum at the end gives what it can.
std::string decode_base64(std::string_view text);
/// RFC 2045 section 6.7: soft line breaks, white space before line ends dropped, `=` that begins no escape
/// kept as it is.  Line ends are left as they are.
std::string decode_quoted_printable(std::string_view text);
/// Decodes a body; 7bit, 8bit, binary and unknown are returned as they are.
std::string decode_transfer(TransferEncoding encoding, std::string_view body);

/// Lines of `line_length` characters, each ended by LF; "" for nothing.
std::string encode_base64_lines(std::string_view bytes, std::size_t line_length = 76);
/// Text with LF line ends; lines of at most 76 characters.  A leading dot and `From ` are encoded too.
std::string encode_quoted_printable(std::string_view text);

}  // namespace postern
