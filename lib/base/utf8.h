/// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, at most U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postern {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";    ///< U+FFFD

/// A byte over 127 is in `text`: it is not ASCII.
bool has_eight_bit(std::string_view text);
/// The character at the start of `text`, which is not empty: its length, or minus the length of the ill-formed piece
/// that one U+FFFD stands for (Unicode table 3-7).
int utf8_character(std::string_view text);
bool valid_utf8(std::string_view text);
/// Valid UTF-8: each maximal ill-formed piece (Unicode 3.9, "substitution of maximal subparts") becomes U+FFFD.
std::string sanitize_utf8(std::string_view text);
/// The length of the longest prefix of `text` of at most `limit` bytes that does not cut a character.
std::size_t utf8_prefix(std::string_view text, std::size_t limit);
/// Appends one code point; surrogates and values over U+10FFFF become U+FFFD.
void append_utf8(std::string& out, char32_t code_point);

}  // namespace postern
