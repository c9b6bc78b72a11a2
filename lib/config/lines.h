/// Logical lines of main.cf and master.cf.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "lib/base/result.h"
#include "lib/config/main_cf.h"

namespace postern {

/// Cuts text into logical lines: a line that begins with white space continues the one before; empty lines and
/// lines whose first visible character is # are left out, also between continuations.  Line ends become nothing,
/// so a continuation keeps its white space.
class LogicalLines {
public:
    explicit LogicalLines(std::string_view text) : rest_(text) {}

    /// False at the end.  `line` has no white space at its end; number() is where it began.
    /// Errors: syntax for a first line that begins with white space, and for a NUL byte.
    Result<bool> next(std::string& line);

    unsigned number() const { return number_; }

private:
    bool take_line(std::string_view& line);
    bool put_back_ = false;
    std::string_view rest_, current_;
    unsigned read_ = 0;      ///< lines read so far
    unsigned number_ = 0;
};

/// Takes a whole file apart: each logical line goes through `parse` (Result<Entry>(std::string_view)), and what comes
/// of it, with its member `where` set to "file:line", to `add`.
/// Errors: too_big for a file longer than kMaxConfigFile; else config, with file, line and what is wrong.
template <class Parse, class Add>
Result<void> parse_lines(std::string_view text, std::string_view file, Parse parse, Add add) {
    if (text.size() > kMaxConfigFile) {
        return Error(Errc::too_big, fmt::format("{}: longer than {} bytes", file, kMaxConfigFile));
    }
    LogicalLines lines(text);
    std::string line;
    for (;;) {
        const Result<bool> more = lines.next(line);
        if (!more) {
            return Error(Errc::config, fmt::format("{}:{}: {}", file, lines.number(), more.error().what));
        }
        if (!*more) {
            return {};
        }
        auto entry = parse(line);
        if (!entry) {
            return Error(Errc::config, fmt::format("{}:{}: {}", file, lines.number(), entry.error().what));
        }
        entry->where = fmt::format("{}:{}", file, lines.number());
        add(*std::move(entry));
    }
}

}  // namespace postern
