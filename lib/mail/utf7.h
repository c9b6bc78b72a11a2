/// IMAP's modified UTF-7 for mailbox names (RFC 3501 section 5.1.3).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// Nothing when `utf8` is not valid UTF-8.
std::optional<std::string> utf8_to_imap_utf7(std::string_view utf8);
/// Nothing when `mutf7` is not in its canonical form: 8-bit bytes, printable ASCII encoded, an open shift,
/// superfluous shifts, lone surrogates.
std::optional<std::string> imap_utf7_to_utf8(std::string_view mutf7);

}  // namespace postern
