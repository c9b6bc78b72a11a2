#include "lib/base/escapes.h"

#include <algorithm>

namespace postern {

std::string without_escapes(std::string_view text) {
    constexpr std::string_view kLetters = "abfnrtv", kMeanings = "\a\b\f\n\r\t\v";
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            out += text[i];
            continue;
        }
        const char c = text[++i];
        if (c < '0' || c > '7') {
            const std::size_t letter = kLetters.find(c);
            out += letter == kLetters.npos ? c : kMeanings[letter];
            continue;
        }
        unsigned value = 0;
        for (std::size_t end = std::min(i + 3, text.size()); i < end && text[i] >= '0' && text[i] <= '7'; ++i) {
            value = value * 8 + static_cast<unsigned>(text[i] - '0');
        }
        out += static_cast<char>(value & 0xff);
        --i;
    }
    return out;
}

}  // namespace postern
