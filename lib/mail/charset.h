/// Character sets to UTF-8 (by iconv), with U+FFFD where bytes mean nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// RFC 3629: no overlong forms, no surrogates, at most U+10FFFF.
bool valid_utf8(std::string_view text);
/// Valid UTF-8: each maximal ill-formed piece (Unicode 3.9, "substitution of maximal subparts") becomes U+FFFD.
std::string sanitize_utf8(std::string_view text);
/// The length of the longest prefix of `text` of at most `limit` bytes that does not cut a character.
std::size_t utf8_prefix(std::string_view text, std::size_t limit);
/// Appends one code point; surrogates and values over U+10FFFF become U+FFFD.
void append_utf8(std::string& out, char32_t code_point);

/// Text in `charset` (any name iconv knows, case ignored) as UTF-8.  Bad bytes become U+FFFD.  Nothing
/// when the character set is unknown.  The result is cut off at 16 MiB.  In a chroot without iconv's modules
/// only the Unicode forms, ASCII and ISO-8859-1 are known.
std::optional<std::string> to_utf8(std::string_view charset, std::string_view bytes);
/// The same, with unknown character sets taken as UTF-8 where the bytes are that, else as ISO-8859-1.
std::string to_utf8_or_guess(std::string_view charset, std::string_view bytes);

}  // namespace postern
