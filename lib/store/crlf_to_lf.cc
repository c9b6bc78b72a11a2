#include "lib/store/crlf_to_lf.h"

#include <algorithm>

namespace postern::store {

void CrlfToLf::feed(std::string_view bytes, std::string& out) {
    while (!bytes.empty()) {
        if (held_cr_) {
            held_cr_ = false;
            if (bytes[0] == '\n' && !last_was_cr_) {
                out += '\n';
                ++bare_;
                bytes.remove_prefix(1);
                continue;
            }
            // CR CR LF stays as it is: stored as CR LF it would come out with one CR less.
            out += '\r';
            last_was_cr_ = true;
        }
        const std::size_t end = bytes.find('\r');
        const std::string_view plain = bytes.substr(0, end);
        if (!plain.empty()) {
            bare_ += static_cast<std::uint64_t>(std::count(plain.begin(), plain.end(), '\n'));
            bare_ -= plain[0] == '\n' && last_was_cr_ ? 1 : 0;
            out += plain;
            last_was_cr_ = false;
        }
        if (end == std::string_view::npos) {
            return;
        }
        held_cr_ = true;
        bytes.remove_prefix(end + 1);
    }
}

void CrlfToLf::finish(std::string& out) {
    if (held_cr_) {
        held_cr_ = false;
        out += '\r';
    }
}

}  // namespace postern::store
