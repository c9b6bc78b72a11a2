/// xtext (RFC 3461 section 4): how ENVID, ORCPT and AUTH carry bytes in SMTP parameters.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// Printable ASCII without "=" and space; "+" only as "+XX" with upper-case hexadecimal digits.
bool valid_xtext(std::string_view text);
/// Nothing when `text` is not valid.
std::optional<std::string> xtext_decode(std::string_view text);
std::string xtext_encode(std::string_view bytes);

}  // namespace postern
