#include "lib/config/lines.h"

#include "lib/base/strings.h"

namespace postern {

bool LogicalLines::take_line(std::string_view& line) {
    if (put_back_) {
        put_back_ = false;
        line = current_;
        return true;
    }
    if (rest_.empty()) {
        return false;
    }
    const std::size_t end = rest_.find('\n');
    current_ = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
    ++read_;
    line = current_;
    return true;
}

Result<bool> LogicalLines::next(std::string& line) {
    line.clear();
    bool have = false;
    std::string_view part;
    while (take_line(part)) {
        const std::string_view visible = trim(part);
        if (visible.empty() || visible.front() == '#') {
            continue;
        }
        const bool indented = part.front() == ' ' || part.front() == '\t' || part.front() == '\v' ||
                              part.front() == '\f' || part.front() == '\r';
        if (!indented && have) {
            put_back_ = true;
            break;
        }
        if (!have) {
            number_ = read_;
            have = true;
        }
        if (indented && line.empty()) {
            return Error(Errc::syntax, "a line that begins with white space continues the one before, and there is none");
        }
        if (part.find('\0') != std::string_view::npos) {
            number_ = read_;
            return Error(Errc::syntax, "the line has a NUL byte");
        }
        while (!part.empty() && (part.back() == '\r' || part.back() == ' ' || part.back() == '\t')) {
            part.remove_suffix(1);
        }
        line.append(part);
    }
    return have;
}

}  // namespace postern
