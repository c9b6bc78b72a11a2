/// What may stand in a log line.
#pragma once

#include <cstddef>

namespace postern {

/// Replaces, in place, control characters (C0, DEL and C1) and bytes that are not well-formed UTF-8
/// (RFC 3629) by '?'.
void clean_log_text(char* text, std::size_t size);

}  // namespace postern
