#include "smtpd/content.h"

#include <algorithm>
#include <cstring>

namespace postern::smtpd {

void DataDecoder::end_line(bool had_cr, std::string& content) {
    content += '\n';
    bare_newline_ = bare_newline_ || !had_cr;
    at_ = had_cr ? At::line_start : At::bare_start;
}

/// CRLF.CRLF always ends the message; a bare LF before or after the dot only where that is forgiven.
bool DataDecoder::dot_may_end(bool newline_is_bare) const {
    if (!newline_is_bare && !started_bare_) {
        return true;
    }
    return policy_ == BareNewline::accept || policy_ == BareNewline::note;
}

std::size_t DataDecoder::feed(std::string_view wire, std::string& content) {
    std::size_t i = 0;
    while (i < wire.size() && !finished_) {
        const char c = wire[i];
        switch (at_) {
        case At::line_start:
        case At::bare_start:
            started_bare_ = at_ == At::bare_start;
            at_ = At::text;
            if (c == '.') {
                at_ = At::dot;
                ++i;
            }
            break;
        case At::dot:
            if (c == '\r') {
                at_ = At::dot_cr;
                ++i;
            } else if (c == '\n' && dot_may_end(true)) {
                bare_newline_ = true;
                finished_ = true;
                ++i;
            } else {
                at_ = At::text;   // the stuffed dot is dropped, what follows is text (RFC 5321 section 4.5.2)
            }
            break;
        case At::dot_cr:
            if (c == '\n' && dot_may_end(false)) {
                bare_newline_ = bare_newline_ || started_bare_;
                finished_ = true;
                ++i;
            } else {
                at_ = At::text_cr;
            }
            break;
        case At::text_cr:
            if (c == '\n') {
                end_line(true, content);
                ++i;
            } else {
                content += '\r';
                at_ = At::text;
            }
            break;
        case At::text: {
            const auto* newline = static_cast<const char*>(std::memchr(wire.data() + i, '\n', wire.size() - i));
            std::size_t end = newline != nullptr ? static_cast<std::size_t>(newline - wire.data()) : wire.size();
            const bool had_cr = end > i && wire[end - 1] == '\r';
            content.append(wire, i, end - i - (had_cr ? 1 : 0));
            i = end;
            if (newline != nullptr) {
                end_line(had_cr, content);
                ++i;
            } else if (had_cr) {
                at_ = At::text_cr;
            }
            break;
        }
        }
    }
    return i;
}

bool unix_lines(std::string_view wire, bool& pending_cr, std::string& content) {
    std::size_t i = 0;
    bool bare_newline = false;
    while (i < wire.size()) {
        const bool ends_line = pending_cr && wire[i] == '\n';
        if (pending_cr && !ends_line) {
            content += '\r';
        }
        const std::size_t cr = std::min(wire.find('\r', i), wire.size());
        const std::string_view line = wire.substr(i, cr - i);
        bare_newline = bare_newline || line.find('\n', ends_line ? 1 : 0) != std::string_view::npos;
        content += line;
        pending_cr = cr < wire.size();
        i = cr + 1;
    }
    return bare_newline;
}

}  // namespace postern::smtpd
