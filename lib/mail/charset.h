/// Character sets to UTF-8 (by iconv), with U+FFFD where bytes mean nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// Text in `charset` (any name iconv knows, case ignored) as UTF-8.  Bad bytes become U+FFFD.  Nothing
/// when the character set is unknown.  The result is cut off at 16 MiB.  In a chroot without iconv's modules
/// only the Unicode forms, ASCII and ISO-8859-1 are known.
std::optional<std::string> to_utf8(std::string_view charset, std::string_view bytes);
/// The same, with unknown character sets taken as UTF-8 where the bytes are that, else as ISO-8859-1.
std::string to_utf8_or_guess(std::string_view charset, std::string_view bytes);

}  // namespace postern
