#include "imapd/fold.h"

#include <clocale>
#include <cstring>
#include <cwctype>
#include <locale.h>

#include "lib/base/utf8.h"

namespace postern::imapd {

namespace {

/// The C library has C.UTF-8 built in or as a file; without it only ASCII is folded.
locale_t utf8_locale() {
    static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    return locale;
}

/// The character that begins at `at` and its length; 0 for ill-formed bytes.
std::size_t decode(std::string_view text, std::size_t at, char32_t& out) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const unsigned char lead = byte(0);
    const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) {
        return 0;
    }
    out = lead & (0xFFU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0U) != 0x80U) {
            return 0;
        }
        out = (out << 6) | (byte(i) & 0x3FU);
    }
    return length;
}

void lower_ascii(std::string& text) {
    for (char& c : text) {
        c = static_cast<char>(c + ((c >= 'A' && c <= 'Z') ? 32 : 0));   // the compiler makes vectors of this
    }
}

}  // namespace

std::string fold_case(std::string_view utf8) {
    std::string out(utf8);
    if (!has_eight_bit(utf8)) {
        lower_ascii(out);
        return out;
    }
    out.clear();
    const locale_t locale = utf8_locale();
    for (std::size_t at = 0; at < utf8.size();) {
        const char c = utf8[at];
        char32_t code = 0;
        const std::size_t length = static_cast<unsigned char>(c) < 0x80 ? 0 : decode(utf8, at, code);
        if (length == 0) {
            out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
            ++at;
            continue;
        }
        const wint_t lowered = locale != nullptr ? ::towlower_l(static_cast<wint_t>(code), locale) : code;
        append_utf8(out, static_cast<char32_t>(lowered));
        at += length;
    }
    return out;
}

bool contains_folded(std::string_view haystack, const std::string& needle) {
    if (needle.size() > haystack.size() && !has_eight_bit(haystack)) {
        return false;
    }
    const std::string folded = fold_case(haystack);
    return ::memmem(folded.data(), folded.size(), needle.data(), needle.size()) != nullptr;
}

}  // namespace postern::imapd
