#include "lib/mail/encoded_word.h"

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/charset.h"
#include "lib/mail/header.h"
#include "lib/mail/scan.h"
#include "lib/mail/transfer_encoding.h"

namespace postern {

namespace {

/// One encoded word at the start of a text.
struct Word {
    std::string_view charset;
    std::string bytes;
    std::size_t length = 0;   ///< of the whole word; 0 when there is none
};

int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string decode_q(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '_') {
            out += ' ';
        } else if (text[i] == '=' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
            out += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

/// encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?=" (RFC 2047 section 2, RFC 2231
/// section 5).  Longer than 75 characters and with spaces in the text, as many programs write it.
Word word_at(std::string_view text) {
    Word word;
    std::size_t i = 2;
    while (i < text.size() && i < 80 && is_atext(text[i]) && text[i] != '?' && text[i] != '=') {
        ++i;
    }
    if (i == 2 || i + 3 >= text.size() || text[i] != '?' || text[i + 2] != '?') {
        return word;
    }
    const char encoding = lower(text[i + 1]);
    const std::size_t begin = i + 3;
    const std::size_t end = text.find('?', begin);
    if ((encoding != 'q' && encoding != 'b') || end == std::string_view::npos || end + 1 >= text.size() || text[end + 1] != '=') {
        return word;
    }
    const std::string_view charset = text.substr(2, i - 2);
    word.charset = charset.substr(0, charset.find('*'));
    const std::string_view encoded = text.substr(begin, end - begin);
    word.bytes = encoding == 'q' ? decode_q(encoded) : decode_base64(encoded);
    word.length = end + 2;
    return word;
}

bool all_space(std::string_view text) {
    for (const char c : text) {
        if (!is_fws(c)) {
            return false;
        }
    }
    return true;
}

bool q_plain(unsigned char c, bool for_phrase) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        return true;
    }
    const std::string_view others = for_phrase ? "!*+-/" : "!*+-/#$%&'(),.:;<>@[]^`{|}~";
    return others.find(static_cast<char>(c)) != std::string_view::npos;
}

constexpr std::size_t kMaxCharset = 40;

bool needs_encoding(std::string_view text) {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) > 126 || (is_control(c) && c != '\t')) {
            return true;
        }
    }
    return text.find("=?") != std::string_view::npos;
}

}  // namespace

std::string decode_encoded_words(std::string_view text) {
    std::string out;
    std::string_view pending_charset;   // words of one charset are converted together
    std::string pending;
    const auto flush = [&] {
        if (!pending_charset.empty()) {
            out += to_utf8_or_guess(pending_charset, pending);
            pending_charset = {};
            pending.clear();
        }
    };
    std::size_t plain = 0;
    for (std::size_t at = text.find("=?"); at != std::string_view::npos; at = text.find("=?", at)) {
        Word word = word_at(text.substr(at));
        if (word.length == 0) {
            at += 2;
            continue;
        }
        const std::string_view between = text.substr(plain, at - plain);
        const bool adjacent = !pending_charset.empty() && all_space(between);
        if (!adjacent || !equals_ignoring_case(word.charset, pending_charset)) {
            flush();
        }
        if (!adjacent) {
            out += sanitize_utf8(between);
        }
        pending_charset = word.charset;
        pending += word.bytes;
        at += word.length;
        plain = at;
    }
    flush();
    out += sanitize_utf8(text.substr(plain));
    return out;
}

std::string decode_header_text(std::string_view raw) {
    const std::string flat = unfold(raw);
    return std::string(trim(decode_encoded_words(flat)));
}

std::string encode_header_text(std::string_view text, bool for_phrase, std::string_view charset) {
    if (!needs_encoding(text)) {
        return std::string(text);
    }
    constexpr std::string_view kHex = "0123456789ABCDEF";
    const bool utf8 = equals_ignoring_case(charset, "utf-8");
    const std::string prefix = "=?" + std::string(charset.substr(0, kMaxCharset)) + "?Q?";
    const std::size_t room = 75 - prefix.size() - 2;
    std::string out;
    while (!text.empty()) {
        std::string encoded;
        while (!text.empty()) {   // whole characters only (RFC 2047 section 5)
            std::size_t size = 1;
            while (utf8 && size < text.size() && size < 4 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) {
                ++size;
            }
            std::string character;
            for (const char c : text.substr(0, size)) {
                const unsigned char byte = static_cast<unsigned char>(c);
                if (c == ' ') {
                    character += '_';
                } else if (q_plain(byte, for_phrase)) {
                    character += c;
                } else {
                    character += '=';
                    character += kHex[byte >> 4];
                    character += kHex[byte & 15];
                }
            }
            if (encoded.size() + character.size() > room) {
                break;
            }
            encoded += character;
            text.remove_prefix(size);
        }
        out += out.empty() ? "" : "\n ";
        out += prefix;
        out += encoded;
        out += "?=";
    }
    return out;
}

}  // namespace postern
