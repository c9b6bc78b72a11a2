/// Variable envelope return paths (VERP_README): a sender address that says who the recipient was.
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// Two characters, each one of `allowed` (verp_delimiter_filter).
bool valid_verp_delimiters(std::string_view delimiters, std::string_view allowed);

/// "owner@list" for "user@site" and "+=": "owner+user=site@list".  Internal form.  `delimiters` are two characters.  The null
/// sender stays what it is.
std::string verp_sender(std::string_view sender, std::string_view recipient, std::string_view delimiters);

}  // namespace postern
