#include "lib/log/clean.h"

namespace postern {
namespace {

bool continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

/// Length of the well-formed, printable UTF-8 character at `p` (RFC 3629 section 4), or 0.
std::size_t character(const unsigned char* p, std::size_t left) {
    const unsigned char c = p[0];
    if (c >= 0xC2 && c <= 0xDF) {
        const bool c1_control = c == 0xC2 && left >= 2 && p[1] < 0xA0;
        return left >= 2 && continuation(p[1]) && !c1_control ? 2 : 0;
    }
    if (c >= 0xE0 && c <= 0xEF) {
        if (left < 3 || !continuation(p[1]) || !continuation(p[2])) {
            return 0;
        }
        const bool overlong = c == 0xE0 && p[1] < 0xA0;
        const bool surrogate = c == 0xED && p[1] > 0x9F;
        const bool line_separator = c == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9);
        return overlong || surrogate || line_separator ? 0 : 3;
    }
    if (c >= 0xF0 && c <= 0xF4) {
        if (left < 4 || !continuation(p[1]) || !continuation(p[2]) || !continuation(p[3])) {
            return 0;
        }
        const bool overlong = c == 0xF0 && p[1] < 0x90;
        const bool too_high = c == 0xF4 && p[1] > 0x8F;
        return overlong || too_high ? 0 : 4;
    }
    return 0;
}

}  // namespace

void clean_log_text(char* text, std::size_t size) {
    auto* p = reinterpret_cast<unsigned char*>(text);
    std::size_t i = 0;
    while (i < size) {
        if (p[i] < 0x80) {
            if (p[i] < 0x20 || p[i] == 0x7F) {
                p[i] = '?';
            }
            ++i;
            continue;
        }
        const std::size_t length = character(p + i, size - i);
        if (length == 0) {
            p[i] = '?';
            ++i;
        } else {
            i += length;
        }
    }
}

void append_json_string(std::string& out, std::string_view text) {
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
        }
        out += c;
    }
}

}  // namespace postern
