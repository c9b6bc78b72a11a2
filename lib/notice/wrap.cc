#include "lib/notice/wrap.h"

#include <algorithm>

namespace postern {

std::string wrap_text(std::string_view text, std::size_t width, std::string_view margin) {
    std::string out;
    bool first = true;
    while (!text.empty()) {
        const std::size_t room = first ? width : width - 4;
        std::size_t end = text.size();
        if (end > room) {
            const std::size_t blank = text.rfind(' ', room);
            const std::size_t later = text.find(' ', room);
            end = blank != text.npos && blank > 0 ? blank : later == text.npos ? text.size() : later;
        }
        out += margin;
        out += first ? "" : "    ";
        out += text.substr(0, end);
        out += '\n';
        first = false;
        text.remove_prefix(end);
        text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    }
    return out;
}

}  // namespace postern
