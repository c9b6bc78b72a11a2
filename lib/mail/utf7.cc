#include "lib/mail/utf7.h"

#include <cstdint>

#include "lib/base/utf8.h"

namespace postern {

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// The code point at the start of valid UTF-8, which it removes.
char32_t take_code_point(std::string_view& text) {
    const unsigned first = static_cast<unsigned char>(text[0]);
    std::size_t length = 1;
    char32_t c = first;
    if (first >= 0xF0) {
        length = 4;
        c = first & 0x07;
    } else if (first >= 0xE0) {
        length = 3;
        c = first & 0x0F;
    } else if (first >= 0xC0) {
        length = 2;
        c = first & 0x1F;
    }
    for (std::size_t i = 1; i < length; ++i) {
        c = (c << 6) | (static_cast<unsigned char>(text[i]) & 0x3F);
    }
    text.remove_prefix(length);
    return c;
}

bool is_direct(unsigned char c) { return c >= 0x20 && c <= 0x7E; }

/// Appends UTF-16 as modified base64 without padding.
class Base64Writer {
public:
    explicit Base64Writer(std::string& out) : out_(out) {}
    void put(unsigned unit) {
        bits_ = (bits_ << 16) | unit;
        count_ += 16;
        while (count_ >= 6) {
            count_ -= 6;
            out_ += kAlphabet[(bits_ >> count_) & 63];
        }
    }
    void finish() {
        if (count_ > 0) {
            out_ += kAlphabet[(bits_ << (6 - count_)) & 63];
        }
    }

private:
    std::string& out_;
    std::uint64_t bits_ = 0;
    int count_ = 0;
};

/// One shifted sequence (without & and -) to UTF-8; false when it is not canonical.
bool decode_shift(std::string_view encoded, std::string& out) {
    std::uint64_t bits = 0;
    int count = 0;
    char32_t high = 0;
    for (const char c : encoded) {
        const std::size_t value = kAlphabet.find(c);
        if (value == std::string_view::npos) {
            return false;
        }
        bits = (bits << 6) | value;
        count += 6;
        if (count < 16) {
            continue;
        }
        count -= 16;
        const char32_t unit = (bits >> count) & 0xFFFF;
        if (high != 0) {
            if (unit < 0xDC00 || unit > 0xDFFF) {
                return false;
            }
            append_utf8(out, 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
            high = 0;
        } else if (unit >= 0xD800 && unit <= 0xDBFF) {
            high = unit;
        } else if ((unit >= 0xDC00 && unit <= 0xDFFF) || (unit < 0x80 && is_direct(static_cast<unsigned char>(unit)))) {
            return false;
        } else {
            append_utf8(out, unit);
        }
    }
    return high == 0 && count < 6 && (bits & ((std::uint64_t{1} << count) - 1)) == 0;
}

}  // namespace

std::optional<std::string> utf8_to_imap_utf7(std::string_view utf8) {
    if (!valid_utf8(utf8)) {
        return std::nullopt;
    }
    std::string out;
    while (!utf8.empty()) {
        if (is_direct(static_cast<unsigned char>(utf8[0]))) {
            out += utf8[0];
            out += utf8[0] == '&' ? "-" : "";
            utf8.remove_prefix(1);
            continue;
        }
        out += '&';
        Base64Writer writer(out);
        while (!utf8.empty() && !is_direct(static_cast<unsigned char>(utf8[0]))) {
            const char32_t c = take_code_point(utf8);
            if (c >= 0x10000) {
                writer.put(static_cast<unsigned>(0xD800 + ((c - 0x10000) >> 10)));
                writer.put(static_cast<unsigned>(0xDC00 + ((c - 0x10000) & 0x3FF)));
            } else {
                writer.put(static_cast<unsigned>(c));
            }
        }
        writer.finish();
        out += '-';
    }
    return out;
}

std::optional<std::string> imap_utf7_to_utf8(std::string_view mutf7) {
    std::string out;
    bool after_shift = false;   // two shifts in a row could have been one
    for (std::size_t i = 0; i < mutf7.size(); ++i) {
        const unsigned char c = static_cast<unsigned char>(mutf7[i]);
        if (!is_direct(c)) {
            return std::nullopt;
        }
        if (c != '&') {
            out += mutf7[i];
            after_shift = false;
            continue;
        }
        const std::size_t end = mutf7.find('-', i);
        if (end == std::string_view::npos) {
            return std::nullopt;
        }
        if (end == i + 1) {
            out += '&';
            after_shift = false;
        } else {
            if (after_shift || !decode_shift(mutf7.substr(i + 1, end - i - 1), out)) {
                return std::nullopt;
            }
            after_shift = true;
        }
        i = end;
    }
    return out;
}

}  // namespace postern
