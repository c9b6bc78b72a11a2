#include "cleanup/splitter.h"

#include <utility>

#include "lib/mail/header.h"

namespace postern::cleanup {
namespace {

/// A line of the header may be as long as the field, and some more that is dropped.
constexpr std::size_t kMaxFields = 20000;

/// ">" any number of times, then "From ": an mbox separator in front of the message (RFC 4155).
bool is_from_line(std::string_view line) {
    const std::size_t start = line.find_first_not_of('>');
    return start != std::string_view::npos && line.substr(start, 5) == "From ";
}

}  // namespace

void ContentSplitter::feed(std::string_view piece) {
    while (!header_done_ && !piece.empty()) {
        const std::size_t end = piece.find('\n');
        const std::size_t take = end == std::string_view::npos ? piece.size() : end + 1;
        if (line_.size() + field_.size() <= header_limit_) {
            line_.append(piece.substr(0, take));
        } else {
            header_too_big_ = true;
            header_done_ = true;
        }
        piece.remove_prefix(take);
        if (end != std::string_view::npos) {
            header_line(std::exchange(line_, {}));
        }
    }
    if (!piece.empty()) {
        body_.append(piece);
        last_byte_ = piece.back();
    }
}

void ContentSplitter::header_line(std::string line) {
    const bool first = field_count_ == 0 && field_.empty();
    if (first && is_from_line(line)) {
        from_line_ = true;
        line.insert(0, "X-Mailbox-Line: ");
    }
    const bool continues = !field_.empty() && (line[0] == ' ' || line[0] == '\t');
    if (continues) {
        if (field_.size() + line.size() <= field_limit_) {
            field_ += line;
        }
        return;
    }
    end_field();
    if (header_name_length(line) > 0) {
        if (line.size() > field_limit_) {
            line.resize(field_limit_ > 0 ? field_limit_ - 1 : 0);
            line += '\n';
        }
        field_ = std::move(line);
        return;
    }
    if (line != "\n") {
        if (field_count_ == 0) {
            body_ += '\n';
        } else {
            missing_separator_ = true;
        }
    }
    body_ += line;
    last_byte_ = '\n';
    header_done_ = true;
}

void ContentSplitter::end_field() {
    if (field_.empty()) {
        return;
    }
    header_bytes_ += field_.size();
    if (++field_count_ > kMaxFields || header_bytes_ > header_limit_) {
        header_too_big_ = true;
        header_done_ = true;
    }
    fields_.push_back(std::exchange(field_, {}));
}

void ContentSplitter::finish() {
    if (!header_done_) {
        if (!line_.empty()) {
            line_ += '\n';
            header_line(std::exchange(line_, {}));
        }
        if (!header_done_) {
            end_field();
            header_done_ = true;
        }
    }
    if (last_byte_ != '\n') {
        body_ += '\n';
        last_byte_ = '\n';
    }
}

}  // namespace postern::cleanup
