#include "smtp/reply.h"

#include <algorithm>
#include <utility>

namespace postern::smtp {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// One to three digits.
std::size_t number_length(std::string_view text) {
    std::size_t digits = 0;
    while (digits < text.size() && is_digit(text[digits])) {
        ++digits;
    }
    return digits <= 3 ? digits : 0;
}

void append_printable(std::string& out, std::string_view line) {
    for (const char c : line) {
        const auto byte = static_cast<unsigned char>(c);
        out += byte < 32 || byte == 127 ? '?' : c;
    }
}

}  // namespace

std::string Reply::one_line() const {
    std::string line = text;
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
}

std::size_t enhanced_code_length(std::string_view text) {
    if (text.size() < 5 || (text[0] != '2' && text[0] != '4' && text[0] != '5') || text[1] != '.') {
        return 0;
    }
    const std::size_t subject = number_length(text.substr(2));
    if (subject == 0 || 2 + subject >= text.size() || text[2 + subject] != '.') {
        return 0;
    }
    const std::size_t detail = number_length(text.substr(3 + subject));
    const std::size_t length = 3 + subject + detail;
    return detail > 0 && (length == text.size() || text[length] == ' ') ? length : 0;
}

ReplyParser::State ReplyParser::feed(std::string_view line) {
    const bool coded = line.size() >= 3 && line[0] >= '2' && line[0] <= '5' && is_digit(line[1]) && is_digit(line[2]) &&
                       (line.size() == 3 || line[3] == ' ' || line[3] == '-');
    if (!coded) {
        return State::garbage;
    }
    if (finished_) {
        reply_ = Reply();
        finished_ = false;
    }
    // The last line's code counts, as in Postfix; a server that changes its mind half-way is believed at the end.
    reply_.code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
    if (reply_.text.size() < kMaxText) {
        reply_.text += reply_.text.empty() ? "" : "\n";
        append_printable(reply_.text, line.substr(0, kMaxText));
    }
    if (line.size() > 3 && line[3] == '-') {
        return State::more;
    }
    const std::string_view rest = line.size() > 4 ? line.substr(4) : std::string_view();
    const std::size_t length = enhanced_code_length(rest);
    reply_.dsn = length > 0 && rest[0] == line[0] ? std::string(rest.substr(0, length)) : std::string(1, line[0]) + ".0.0";
    finished_ = true;
    return State::done;
}

Reply ReplyParser::take() {
    finished_ = true;
    return std::exchange(reply_, Reply());
}

}  // namespace postern::smtp
