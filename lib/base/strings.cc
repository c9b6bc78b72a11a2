#include "lib/base/strings.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace postern {

bool equals_ignoring_case(std::string_view a, std::string_view b) {
    return a.size() == b.size() && starts_with_ignoring_case(a, b);
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
    if (text.size() < prefix.size()) {
        return false;
    }
    for (std::size_t i = 0; i < prefix.size(); ++i) {
        if (lower(text[i]) != lower(prefix[i])) {
            return false;
        }
    }
    return true;
}

std::string to_lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        c = lower(c);
    }
    return out;
}

std::string to_upper(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        c = upper(c);
    }
    return out;
}

std::string_view trim(std::string_view text) {
    constexpr std::string_view kSpace = " \t\r\n\v\f";
    const auto first = text.find_first_not_of(kSpace);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::vector<std::string> split(std::string_view text, std::string_view separators) {
    std::vector<std::string> out;
    std::size_t at = 0;
    while ((at = text.find_first_not_of(separators, at)) != std::string_view::npos) {
        const std::size_t end = std::min(text.find_first_of(separators, at), text.size());
        out.emplace_back(text.substr(at, end - at));
        at = end;
    }
    return out;
}

std::vector<std::string> split_exact(std::string_view text, char separator) {
    std::vector<std::string> out;
    std::size_t at = 0;
    for (;;) {
        const std::size_t end = text.find(separator, at);
        out.emplace_back(text.substr(at, end - at));
        if (end == std::string_view::npos) {
            return out;
        }
        at = end + 1;
    }
}

std::vector<std::string> split_list(std::string_view text) {
    constexpr std::string_view kSeparators = ", \t\r\n";
    std::vector<std::string> out;
    std::size_t at = 0;
    while ((at = text.find_first_not_of(kSeparators, at)) != std::string_view::npos) {
        int depth = 0;
        std::size_t end = at;
        for (; end < text.size(); ++end) {
            const char c = text[end];
            if (c == '{') {
                ++depth;
            } else if (c == '}') {
                --depth;
            } else if (depth <= 0 && kSeparators.find(c) != std::string_view::npos) {
                break;
            }
        }
        out.emplace_back(text.substr(at, end - at));
        at = end;
    }
    return out;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
    if (text.empty()) {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        const auto digit = static_cast<std::uint64_t>(c - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return std::nullopt;
        }
        value = value * 10 + digit;
    }
    return value;
}

std::optional<std::uint64_t> parse_hex(std::string_view text) {
    if (text.empty() || text.size() > 16) {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    for (const char c : text) {
        const char l = lower(c);
        if (l >= '0' && l <= '9') {
            value = value << 4 | static_cast<std::uint64_t>(l - '0');
        } else if (l >= 'a' && l <= 'f') {
            value = value << 4 | static_cast<std::uint64_t>(l - 'a' + 10);
        } else {
            return std::nullopt;
        }
    }
    return value;
}

std::string printable(std::string_view text, std::size_t limit) {
    std::string out(text.substr(0, limit));
    for (char& c : out) {
        if (c < ' ' || c > '~') {
            c = '?';
        }
    }
    return out;
}

namespace {
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}  // namespace

std::string base64_encode(std::string_view bytes) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (k < left ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            out += k <= left ? kBase64[group >> (18 - 6 * k) & 63] : '=';
        }
    }
    return out;
}

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0) {
        return std::nullopt;
    }
    std::string out;
    out.reserve(text.size() / 4 * 3);
    for (std::size_t i = 0; i < text.size(); i += 4) {
        std::uint32_t group = 0;
        std::size_t padding = 0;
        for (std::size_t k = 0; k < 4; ++k) {
            const char c = text[i + k];
            const auto digit = kBase64.find(c);
            if (c == '=' && i + 4 == text.size() && k >= 2) {
                ++padding;
                group <<= 6;
            } else if (digit == std::string_view::npos || padding > 0) {
                return std::nullopt;
            } else {
                group = group << 6 | static_cast<std::uint32_t>(digit);
            }
        }
        const std::size_t count = 3 - padding;
        for (std::size_t k = 0; k < count; ++k) {
            out += static_cast<char>(group >> (16 - 8 * k) & 255);
        }
        if ((group & ((1U << (8 * padding)) - 1)) != 0) {
            return std::nullopt;
        }
    }
    return out;
}

std::string hex_encode(std::string_view bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        out += kDigits[byte >> 4];
        out += kDigits[byte & 15];
    }
    return out;
}

std::string random_bytes(std::size_t size) {
    std::string out(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const ssize_t got = ::getrandom(out.data() + have, size - have, 0);
        if (got < 0 && errno != EINTR) {
            std::abort();   // a kernel without randomness cannot be worked with
        }
        have += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    return out;
}

}  // namespace postern
