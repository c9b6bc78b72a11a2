/// The text formats behind lookup tables: logical lines (postconf(5)), "key value" (postmap(1)) and
/// "name: value" (aliases(5)).  Shared by texthash, the pattern tables, postmap and postalias.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

/// Cuts text into logical lines: a line that begins with white space continues the one before; empty lines
/// and lines whose first visible byte is "#" are left out, also inside a logical line.
class MapLines {
public:
    explicit MapLines(std::string_view text) : text_(text) {}

    /// The next logical line in `line`, without line ends.  False at the end.
    bool next(std::string& line);

    /// The physical line where the last logical line began and ended, from 1.
    int first_line() const { return first_line_; }
    int last_line() const { return last_line_; }

private:
    std::string_view take_physical();

    std::string_view text_;
    int physical_ = 0;
    int first_line_ = 0;
    int last_line_ = 0;
};

inline constexpr std::size_t kMaxTextFile = std::size_t{1} << 30;

struct MapEntry {
    std::string key;
    std::string value;
};

/// "key value".  White space inside "..." belongs to the key, which keeps its quotes: keys are addresses in
/// external form (postmap(1)).  Surrounding white space goes.  Errors: syntax.
Result<MapEntry> parse_map_line(std::string_view line);

/// aliases(5): "name: value, value"; the name may be quoted as in RFC 5322 and is then unquoted.
/// The value's items are kept as they are, joined by ", ".  Errors: syntax.
Result<MapEntry> parse_alias_line(std::string_view line);

/// Whole file in memory; at most `limit` bytes.  Errors: not_found, denied, io, too_big.
Result<std::string> read_text_file(const std::string& path, std::size_t limit = kMaxTextFile);
Result<std::string> read_text_fd(int fd, const std::string& path, std::size_t limit = kMaxTextFile);

}  // namespace postern
