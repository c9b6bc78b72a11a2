#include "pop3d/dot_writer.h"

#include <algorithm>
#include <cstring>

namespace postern::pop3d {

bool DotWriter::write(std::string_view bytes, std::string& out) {
    while (!bytes.empty() && !done_) {
        const void* found = std::memchr(bytes.data(), '\n', bytes.size());
        const std::size_t length =
            found == nullptr ? bytes.size() : static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data());
        append(bytes.substr(0, length), out);
        if (found == nullptr) {
            break;
        }
        end_line(out);
        bytes.remove_prefix(length + 1);
    }
    return !done_;
}

void DotWriter::append(std::string_view piece, std::string& out) {
    if (piece.empty()) {
        return;
    }
    if (line_bytes_ == 0 && piece.front() == '.') {
        out += '.';
    }
    const std::size_t begin = out.size();
    out += piece;
    if (options_.replace_nuls) {
        std::replace(out.begin() + static_cast<std::ptrdiff_t>(begin), out.end(), '\0', static_cast<char>(0x80));
    }
    line_bytes_ += piece.size();
    octets_ += piece.size();
    last_cr_ = piece.back() == '\r';
}

void DotWriter::end_line(std::string& out) {
    out += last_cr_ ? "\n" : "\r\n";
    octets_ += last_cr_ ? 1 : 2;
    const bool empty = line_bytes_ == 0 || (line_bytes_ == 1 && last_cr_);
    line_bytes_ = 0;
    last_cr_ = false;
    if (in_header_) {
        in_header_ = !empty;
        lines_left_ = options_.body_lines;
        done_ = !in_header_ && lines_left_ == 0;
    } else {
        done_ = --lines_left_ == 0;
    }
}

void DotWriter::finish(std::string& out) {
    if (line_bytes_ > 0) {   // the last line has no end; a bare CR in it is none
        out += "\r\n";
    }
    if (in_header_ && options_.end_header) {
        out += "\r\n";
    }
    out += ".\r\n";
}

}  // namespace postern::pop3d
