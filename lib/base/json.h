/// Text for JSON (RFC 8259 section 7).
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// Appends `text` as the inside of a JSON string: quotes and control characters are escaped, what is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);
/// The whole string, with its quotes.
std::string json_quoted(std::string_view text);

}  // namespace postern
