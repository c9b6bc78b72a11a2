/// POP3 command lines (RFC 1939 section 3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern::pop3d {

/// RFC 2449 section 4: a command line has at most 255 octets, CRLF included.
inline constexpr std::size_t kMaxCommandLine = 253;

/// One command, taken apart.  The views point into the line.
struct Command {
    std::string verb;                ///< upper case
    std::string_view argument;       ///< all after the one space behind the verb, as it stands: a password may have spaces
};

Command split_command(std::string_view line);

/// The words of an argument, at most three (nothing takes more than two).
std::vector<std::string_view> words(std::string_view argument);

/// A message number from 1 to `count`, as RFC 1939 writes it.  Errors are what the client is told.
Result<std::uint32_t> parse_message_number(std::string_view word, std::uint32_t count);

/// A number of lines for TOP; huge ones are cut to the largest there is.
std::optional<std::uint64_t> parse_line_count(std::string_view word);

}  // namespace postern::pop3d
