#include "lib/log/clean.h"

#include "lib/base/utf8.h"

namespace postern {
namespace {

/// Length of the character at the start of `text` if a log line may have it, or 0.
std::size_t character(std::string_view text) {
    const int length = utf8_character(text);
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const bool c1_control = length == 2 && byte(0) == 0xC2 && byte(1) < 0xA0;
    const bool line_separator = length == 3 && byte(0) == 0xE2 && byte(1) == 0x80 && (byte(2) == 0xA8 || byte(2) == 0xA9);
    return length < 0 || c1_control || line_separator ? 0 : static_cast<std::size_t>(length);
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
        const std::size_t length = character(std::string_view(text + i, size - i));
        if (length == 0) {
            p[i] = '?';
            ++i;
        } else {
            i += length;
        }
    }
}

}  // namespace postern
