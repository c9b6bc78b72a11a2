#include "lib/mail/header.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "lib/base/strings.h"
#include "lib/mail/scan.h"

namespace postern {

namespace {

/// Length of the line at the start of `text`, with its line feed if it has one.
std::size_t line_length(std::string_view text) {
    const void* end = text.empty() ? nullptr : std::memchr(text.data(), '\n', text.size());
    return end == nullptr ? text.size() : static_cast<std::size_t>(static_cast<const char*>(end) - text.data()) + 1;
}

std::string_view without_line_end(std::string_view line) {
    if (!line.empty() && line.back() == '\n') {
        line.remove_suffix(1);
        if (!line.empty() && line.back() == '\r') {
            line.remove_suffix(1);
        }
    }
    return line;
}

bool is_empty_line(std::string_view text) {
    return !text.empty() && (text[0] == '\n' || (text.size() > 1 && text[0] == '\r' && text[1] == '\n'));
}

bool is_mbox_from(std::string_view line) {
    while (!line.empty() && line.front() == '>') {
        line.remove_prefix(1);
    }
    return line.substr(0, 5) == "From ";
}

}  // namespace

MessageParts split_message(std::string_view message) {
    std::size_t at = 0;
    while (at < message.size()) {
        const std::string_view rest = message.substr(at);
        if (is_empty_line(rest)) {
            return {message.substr(0, at), rest.substr(line_length(rest)), true};
        }
        at += line_length(rest);
    }
    return {message, {}, false};
}

std::size_t header_name_length(std::string_view line) {
    std::size_t length = 0;
    while (length < line.size() && line[length] > ' ' && line[length] < 127 && line[length] != ':') {
        ++length;
    }
    std::size_t colon = length;
    while (colon < line.size() && (line[colon] == ' ' || line[colon] == '\t')) {
        ++colon;
    }
    return colon < line.size() && line[colon] == ':' ? length : 0;
}

bool HeaderReader::next(HeaderField& field) {
    if (first_) {
        first_ = false;
        if (is_mbox_from(rest_) && header_name_length(without_line_end(rest_.substr(0, line_length(rest_)))) == 0) {
            rest_.remove_prefix(line_length(rest_));
        }
    }
    if (rest_.empty() || separator_) {
        return false;
    }
    if (is_empty_line(rest_)) {
        separator_ = true;
        rest_.remove_prefix(line_length(rest_));
        return false;
    }
    std::size_t end = line_length(rest_);
    while (end < rest_.size() && (rest_[end] == ' ' || rest_[end] == '\t')) {
        end += line_length(rest_.substr(end));
    }
    field.whole = without_line_end(rest_.substr(0, end));
    rest_.remove_prefix(end);
    const std::size_t length = header_name_length(field.whole);
    field.name = field.whole.substr(0, length);
    field.value = length == 0 ? field.whole : field.whole.substr(field.whole.find(':', length) + 1);
    return true;
}

std::vector<HeaderField> split_header(std::string_view header, std::size_t max_fields) {
    std::vector<HeaderField> fields;
    HeaderReader reader(header);
    HeaderField field;
    while (fields.size() < max_fields && reader.next(field)) {
        fields.push_back(field);
    }
    return fields;
}

HeaderField find_field(std::string_view header, std::string_view name) {
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        if (equals_ignoring_case(field.name, name)) {
            return field;
        }
    }
    return {};
}

std::string unfold(std::string_view value) {
    std::string out;
    out.reserve(value.size());
    std::size_t at = 0;
    while (at < value.size()) {
        const std::size_t end = value.find_first_of("\r\n", at);
        if (end == std::string_view::npos) {
            out.append(value, at, value.size() - at);
            break;
        }
        out.append(value, at, end - at);
        const bool line_end = value[end] == '\n' || (end + 1 < value.size() && value[end + 1] == '\n');
        if (!line_end) {
            out += '\r';   // a bare CR is data
        }
        at = end + 1;
    }
    return std::string(trim(out));
}

std::string strip_comments(std::string_view value) {
    std::string out;
    Scanner in(value);
    while (!in.at_end()) {
        const std::size_t begin = in.position();
        if (in.at('"')) {
            std::string ignored;
            in.quoted_string(ignored);
            out += in.between(begin, in.position());
        } else if (in.skip_cfws()) {
            if (!out.empty() && !in.at_end()) {
                out += ' ';
            }
        } else {
            out += in.take();
        }
    }
    return out;
}

// --- HeaderScanner ----------------------------------------------------------------------------------------

std::string_view HeaderScanner::feed(std::string_view piece) {
    while (!done_ && !piece.empty()) {
        const std::size_t length = line_length(piece);
        const bool complete = piece[length - 1] == '\n';
        const std::size_t room = limits_.max_field_bytes - std::min(line_.size(), limits_.max_field_bytes);
        const std::size_t wanted = length - (complete ? 1 : 0);
        if (wanted > room) {
            const bool continues = in_field_ && (line_.empty() ? piece[0] : line_[0]) <= ' ';
            std::string start = line_;
            start.append(piece.substr(0, std::min<std::size_t>(wanted, 1000)));
            if (!continues && header_name_length(start) == 0) {   // a long line of the body
                body_start_ = std::move(line_);
                line_.clear();
                end_field();
                end_header(true);
                return piece;
            }
            truncated_ = true;
        }
        line_.append(piece.substr(0, std::min(wanted, room)));
        header_bytes_ += length;
        piece.remove_prefix(length);
        if (complete) {
            line_complete(true);
        }
    }
    return piece;
}

void HeaderScanner::finish() {
    if (done_) {
        return;
    }
    if (!line_.empty()) {
        line_complete(false);
    }
    if (!done_) {
        end_field();
        end_header(true);
    }
}

std::vector<std::string> HeaderScanner::take_fields() { return std::exchange(fields_, {}); }

void HeaderScanner::line_complete(bool has_newline) {
    const std::string original = line_;
    if (has_newline && !line_.empty() && line_.back() == '\r') {
        line_.pop_back();
    }
    const bool first = std::exchange(first_line_, false);
    if (line_.empty()) {
        end_field();
        return end_header(false);
    }
    if (in_field_ && (line_[0] == ' ' || line_[0] == '\t')) {
        const std::size_t used = std::min(field_.size() + 1, limits_.max_field_bytes);
        truncated_ = truncated_ || line_.size() > limits_.max_field_bytes - used;
        if (used < limits_.max_field_bytes) {
            field_ += '\n';
            field_.append(line_, 0, limits_.max_field_bytes - used);
        }
        line_.clear();
        return;
    }
    const bool is_field = header_name_length(line_) > 0;
    if (first && !is_field && is_mbox_from(line_)) {
        mbox_from_ = std::exchange(line_, {});
        return;
    }
    end_field();
    if (!is_field || header_bytes_ > limits_.max_header_bytes || field_count_ >= limits_.max_fields) {
        body_start_ = original + (has_newline ? "\n" : "");
        line_.clear();
        return end_header(true);
    }
    field_ = std::exchange(line_, {});
    in_field_ = true;
    ++field_count_;
}

void HeaderScanner::end_field() {
    if (in_field_) {
        fields_.push_back(std::exchange(field_, {}));
        in_field_ = false;
    }
}

void HeaderScanner::end_header(bool missing_separator) {
    done_ = true;
    missing_separator_ = missing_separator;
}

}  // namespace postern
