/// Small text helpers.  Everything works on bytes; case rules are ASCII's, whatever the locale.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern {

bool equals_ignoring_case(std::string_view a, std::string_view b);
bool starts_with_ignoring_case(std::string_view text, std::string_view prefix);
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
inline char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

/// Without white space (SP, HT, CR, LF, VT, FF) at both ends.
std::string_view trim(std::string_view text);

/// Pieces between any of `separators`; empty pieces are left out.
std::vector<std::string> split(std::string_view text, std::string_view separators);
/// Pieces between single `separator` characters; empty pieces are kept.
std::vector<std::string> split_exact(std::string_view text, char separator);
/// Configuration lists: separated by comma and white space, with { } groups kept whole (braces removed
/// from the ends of such an element only by the caller).
std::vector<std::string> split_list(std::string_view text);

/// Whole text as a decimal number without sign; nothing else is accepted.
std::optional<std::uint64_t> parse_number(std::string_view text);
std::optional<std::uint64_t> parse_hex(std::string_view text);

/// For logs and replies: control characters and bytes over 127 become '?', at most `limit` bytes.
std::string printable(std::string_view text, std::size_t limit = 1000);

/// RFC 4648 section 4, strict (padding required, no line ends).
std::string base64_encode(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);

std::string hex_encode(std::string_view bytes);   ///< lower case

/// `size` bytes from the kernel's generator.
std::string random_bytes(std::size_t size);

}  // namespace postern
