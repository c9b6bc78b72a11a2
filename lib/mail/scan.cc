#include "lib/mail/scan.h"

#include <array>

namespace postern {

namespace {

constexpr std::array<bool, 256> make_atext() {
    std::array<bool, 256> table{};
    for (int c = 33; c < 256; ++c) {
        table[static_cast<std::size_t>(c)] = c != 127;
    }
    for (const char c : std::string_view("()<>[]:;@\\,.\"")) {
        table[static_cast<unsigned char>(c)] = false;
    }
    return table;
}
constexpr auto kAtext = make_atext();

}  // namespace

bool is_atext(char c) { return kAtext[static_cast<unsigned char>(c)]; }

bool Scanner::skip_cfws(std::string* out) {
    const std::size_t begin = pos_;
    while (!at_end()) {
        if (is_fws(text_[pos_])) {
            ++pos_;
        } else if (text_[pos_] == '(') {
            comment(out);
        } else {
            break;
        }
    }
    return pos_ != begin;
}

void Scanner::comment(std::string* out) {
    std::string contents;
    std::size_t depth = 0;
    while (!at_end()) {
        const char c = take();
        if (c == '\\' && !at_end()) {
            contents += take();
            continue;
        }
        if (c == ')' && --depth == 0) {
            if (out != nullptr) {
                *out = std::move(contents);
            }
            return;
        }
        if (c == '(' && depth++ == 0) {
            continue;
        }
        if (c != '\r' && c != '\n') {
            contents += c;
        }
    }
    broken_ = true;
}

void Scanner::quoted_string(std::string& out) {
    ++pos_;
    while (!at_end()) {
        const char c = take();
        if (c == '"') {
            return;
        }
        if (c == '\\' && !at_end()) {
            out += take();
        } else if (c != '\r' && c != '\n') {
            out += c;
        }
    }
    broken_ = true;
}

bool Scanner::atom(std::string& out) {
    const std::size_t begin = pos_;
    while (!at_end() && is_atext(text_[pos_])) {
        ++pos_;
    }
    out.append(text_, begin, pos_ - begin);
    return pos_ != begin;
}

}  // namespace postern
