#include "lib/mail/charset.h"

#include <iconv.h>

#include <cerrno>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"

namespace postern {

namespace {

constexpr std::size_t kMaxResult = 16u << 20;

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
            out += kReplacementCharacter;
            ++in;
            --left;
        } else if (why == EINVAL) {   // an incomplete character at the end
            out += kReplacementCharacter;
            left = 0;
            flushing = true;
        } else if (why != E2BIG) {
            break;
        }
    }
    return out;
}

}  // namespace

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
