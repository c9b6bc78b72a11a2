#include "lib/mail/charset.h"

#include <iconv.h>

#include <cerrno>

#include "lib/base/strings.h"

namespace postern {

namespace {

constexpr std::size_t kMaxResult = 16u << 20;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// The well-formed character at the start of `text`: its length, or minus the length of the ill-formed piece
/// that one U+FFFD stands for (Unicode table 3-7).
int character(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) {
        return 1;
    }
    int length = 0;
    unsigned low = 0x80;
    unsigned high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) {
        length = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        length = 3;
        low = first == 0xE0 ? 0xA0 : 0x80;
        high = first == 0xED ? 0x9F : 0xBF;
    } else if (first >= 0xF0 && first <= 0xF4) {
        length = 4;
        low = first == 0xF0 ? 0x90 : 0x80;
        high = first == 0xF4 ? 0x8F : 0xBF;
    } else {
        return -1;
    }
    for (int i = 1; i < length; ++i) {
        if (static_cast<std::size_t>(i) >= text.size() || byte(static_cast<std::size_t>(i)) < low ||
            byte(static_cast<std::size_t>(i)) > high) {
            return -i;
        }
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

std::string from_latin1(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        append_utf8(out, static_cast<unsigned char>(c));
    }
    return out;
}

std::string convert(iconv_t converter, std::string_view bytes) {
    std::string out;
    char* in = const_cast<char*>(bytes.data());   // iconv's old signature; it does not write
    std::size_t left = bytes.size();
    bool flushing = false;
    while (out.size() < kMaxResult) {
        char buffer[4096];
        char* to = buffer;
        std::size_t room = sizeof buffer;
        const std::size_t result = iconv(converter, flushing ? nullptr : &in, flushing ? nullptr : &left, &to, &room);
        const int why = errno;
        out.append(buffer, sizeof buffer - room);
        if (result != static_cast<std::size_t>(-1)) {
            if (flushing) {
                break;
            }
            flushing = true;
        } else if (why == EILSEQ && left > 0) {
            out += kReplacement;
            ++in;
            --left;
        } else if (why == EINVAL) {   // an incomplete character at the end
            out += kReplacement;
            left = 0;
            flushing = true;
        } else if (why != E2BIG) {
            break;
        }
    }
    return out;
}

}  // namespace

bool valid_utf8(std::string_view text) {
    while (!text.empty()) {
        const int length = character(text);
        if (length < 0) {
            return false;
        }
        text.remove_prefix(static_cast<std::size_t>(length));
    }
    return true;
}

std::string sanitize_utf8(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const int length = character(text);
        const std::size_t size = static_cast<std::size_t>(length < 0 ? -length : length);
        out += length < 0 ? kReplacement : text.substr(0, size);
        text.remove_prefix(size);
    }
    return out;
}

std::size_t utf8_prefix(std::string_view text, std::size_t limit) {
    if (text.size() <= limit) {
        return text.size();
    }
    std::size_t end = limit;
    while (end > 0 && limit - end < 4 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
        --end;
    }
    return (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80 ? limit : end;
}

void append_utf8(std::string& out, char32_t c) {
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        c = 0xFFFD;
    }
    if (c < 0x80) {
        out += static_cast<char>(c);
    } else if (c < 0x800) {
        out += static_cast<char>(0xC0 | (c >> 6));
        out += static_cast<char>(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        out += static_cast<char>(0xE0 | (c >> 12));
        out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
        out += static_cast<char>(0x80 | (c & 0x3F));
    } else {
        out += static_cast<char>(0xF0 | (c >> 18));
        out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
        out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
        out += static_cast<char>(0x80 | (c & 0x3F));
    }
}

std::optional<std::string> to_utf8(std::string_view charset, std::string_view bytes) {
    bytes = bytes.substr(0, kMaxResult);
    if (equals_ignoring_case(charset, "utf-8") || equals_ignoring_case(charset, "utf8") ||
        equals_ignoring_case(charset, "us-ascii") || equals_ignoring_case(charset, "ascii")) {
        return sanitize_utf8(bytes);
    }
    if (equals_ignoring_case(charset, "iso-8859-1")) {
        return from_latin1(bytes);
    }
    if (charset.empty() || charset.size() > 64 || charset.find_first_of(std::string_view("/,\0", 3)) != std::string_view::npos) {
        return std::nullopt;   // "//TRANSLIT" and the like are no part of a name
    }
    const std::string name(charset);
    const iconv_t converter = iconv_open("UTF-8", name.c_str());
    if (converter == reinterpret_cast<iconv_t>(-1)) {
        return std::nullopt;
    }
    std::string out = convert(converter, bytes);
    iconv_close(converter);
    return sanitize_utf8(out);
}

std::string to_utf8_or_guess(std::string_view charset, std::string_view bytes) {
    std::optional<std::string> known = to_utf8(charset, bytes);
    if (known) {
        return std::move(*known);
    }
    return valid_utf8(bytes) ? std::string(bytes) : from_latin1(bytes);
}

}  // namespace postern
