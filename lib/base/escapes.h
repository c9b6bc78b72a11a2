/// Characters that a setting cannot contain as themselves.
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// `text` with the characters that its escapes of C mean, as Postfix reads them: \a \b \f \n \r \t \v, up to three octal digits, and any
/// other character behind a backslash as itself.
std::string without_escapes(std::string_view text);

}  // namespace postern
