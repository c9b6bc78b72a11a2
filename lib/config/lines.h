/// Logical lines of main.cf and master.cf.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

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

}  // namespace postern
