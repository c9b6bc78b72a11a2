/// What may stand in a log line.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postern {

/// Replaces, in place, control characters (C0, DEL and C1) and bytes that are not well-formed UTF-8
/// (RFC 3629) by '?'.
void clean_log_text(char* text, std::size_t size);

/// `text` with the escapes of a JSON string (RFC 8259 section 7), without the quotes.  Expects clean text.
void append_json_string(std::string& out, std::string_view text);

}  // namespace postern
