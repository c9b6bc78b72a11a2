/// LIST patterns (RFC 3501 section 6.3.8).
#pragma once

#include <string>
#include <string_view>

namespace postern::imapd {

/// Whether `name` matches: "*" stands for anything, "%" for anything without `separator`.  The level INBOX is
/// compared without case.  Both are in modified UTF-7.  Takes time in the product of the lengths at worst.
bool matches_pattern(std::string_view pattern, std::string_view name, char separator);

}  // namespace postern::imapd
