#include "lib/dns/ascii_name.h"

#include <locale.h>

#include <algorithm>
#include <cstdint>
#include <cwctype>

#include "lib/base/utf8.h"

namespace postern {
namespace {

constexpr std::size_t kMaxName = 1024;   ///< bytes given; a name that the DNS can have is shorter
constexpr std::size_t kMaxLabel = 63;

bool is_ascii(std::u32string_view label) {
    return std::all_of(label.begin(), label.end(), [](char32_t c) { return c < 0x80; });
}

bool is_full_stop(char32_t c) { return c == U'.' || c == 0x3002 || c == 0xFF0E || c == 0xFF61; }

std::optional<std::u32string> characters(std::string_view utf8) {
    if (utf8.size() > kMaxName || !valid_utf8(utf8)) {
        return std::nullopt;
    }
    std::u32string out;
    for (std::size_t at = 0; at < utf8.size();) {
        const int length = utf8_character(utf8.substr(at));
        const auto lead = static_cast<unsigned char>(utf8[at]);
        char32_t c = length == 1 ? lead : lead & (0xFFU >> (length + 1));
        for (int i = 1; i < length; ++i) {
            c = c << 6 | (static_cast<unsigned char>(utf8[at + static_cast<std::size_t>(i)]) & 0x3FU);
        }
        out += c;
        at += static_cast<std::size_t>(length);
    }
    return out;
}

void make_lower_case(std::u32string& label) {
    static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    for (char32_t& c : label) {
        if (locale != nullptr) {
            c = static_cast<char32_t>(::towlower_l(static_cast<std::wint_t>(c), locale));
        } else if (c >= U'A' && c <= U'Z') {
            c += 32;
        }
    }
}

/// The numbers of RFC 3492 section 5.
constexpr std::uint32_t kBase = 36, kLeast = 1, kMost = 26, kSkew = 38, kDamp = 700, kFirstBias = 72;

/// Section 6.1.
std::uint32_t adapted(std::uint32_t delta, std::uint32_t count, bool first) {
    delta = first ? delta / kDamp : delta / 2;
    delta += delta / count;
    std::uint32_t k = 0;
    for (; delta > (kBase - kLeast) * kMost / 2; k += kBase) {
        delta /= kBase - kLeast;
    }
    return k + (kBase - kLeast + 1) * delta / (delta + kSkew);
}

/// A number in digits of changing weight: the inner loop of section 6.3.
void append_number(std::string& out, std::uint32_t number, std::uint32_t bias) {
    constexpr std::string_view kDigits = "abcdefghijklmnopqrstuvwxyz0123456789";
    for (std::uint32_t k = kBase;; k += kBase) {
        const std::uint32_t threshold = k <= bias ? kLeast : std::min(k - bias, kMost);
        if (number < threshold) {
            out += kDigits[number];
            return;
        }
        out += kDigits[threshold + (number - threshold) % (kBase - threshold)];
        number = (number - threshold) / (kBase - threshold);
    }
}

/// Section 6.3.  With at most kMaxName characters below 0x110000 nothing overflows 32 bits.
std::string punycode(std::u32string_view label) {
    std::string out;
    for (const char32_t c : label) {
        if (c < 0x80) {
            out += static_cast<char>(c);
        }
    }
    const auto basic = static_cast<std::uint32_t>(out.size());
    std::uint32_t done = basic, bias = kFirstBias, delta = 0;
    out += basic > 0 ? "-" : "";
    for (char32_t next = 0x80; done < label.size(); ++next, ++delta) {
        char32_t least = 0x110000;
        for (const char32_t c : label) {
            least = c >= next ? std::min(least, c) : least;
        }
        delta += (least - next) * (done + 1);
        next = least;
        for (const char32_t c : label) {
            delta += c < next ? 1 : 0;
            if (c == next) {
                append_number(out, delta, bias);
                bias = adapted(delta, done + 1, done == basic);
                delta = 0;
                ++done;
            }
        }
    }
    return out;
}

/// False when it is too long for a label.
bool append_label(std::string& out, std::u32string label) {
    if (is_ascii(label)) {
        out.append(label.begin(), label.end());
        return true;
    }
    make_lower_case(label);
    const std::string encoded = "xn--" + punycode(label);
    out += encoded;
    return encoded.size() <= kMaxLabel;
}

}  // namespace

std::optional<std::string> ascii_name(std::string_view domain) {
    if (std::all_of(domain.begin(), domain.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
        return std::string(domain);
    }
    const std::optional<std::u32string> all = characters(domain);
    if (!all) {
        return std::nullopt;
    }
    std::string out;
    for (auto at = all->begin();; ++at) {
        const auto end = std::find_if(at, all->end(), is_full_stop);
        if (!append_label(out, std::u32string(at, end))) {
            return std::nullopt;
        }
        if (end == all->end()) {
            return out;
        }
        out += '.';
        at = end;
    }
}

}  // namespace postern
