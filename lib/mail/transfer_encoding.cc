#include "lib/mail/transfer_encoding.h"

#include <array>

#include "lib/base/strings.h"
#include "lib/mail/header.h"

namespace postern {

namespace {

constexpr signed char kSkip = -1;
constexpr signed char kPad = -2;

constexpr std::array<signed char, 256> make_base64_table() {
    std::array<signed char, 256> table{};
    for (auto& entry : table) {
        entry = kSkip;
    }
    signed char value = 0;
    for (const char c : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")) {
        table[static_cast<unsigned char>(c)] = value++;
    }
    table['='] = kPad;
    return table;
}
constexpr auto kBase64 = make_base64_table();

int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

constexpr std::size_t kQuotedLine = 76;

/// One line of text without its line end, as quoted-printable with soft breaks.
void encode_quoted_line(std::string& out, std::string_view line) {
    std::size_t column = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const unsigned char c = static_cast<unsigned char>(line[i]);
        const bool last = i + 1 == line.size();
        bool plain = (c > 32 && c < 127 && c != '=') || ((c == ' ' || c == '\t') && !last);
        plain = plain && !(column == 0 && (c == '.' || (c == 'F' && line.substr(i, 5) == "From ")));
        const std::size_t width = plain ? 1 : 3;
        if (column + width > kQuotedLine - (last ? 0 : 1)) {
            out += "=\n";
            column = 0;
            plain = plain && c != '.' && c != 'F';
        }
        if (plain) {
            out += line[i];
            column += 1;
        } else {
            constexpr std::string_view kHex = "0123456789ABCDEF";
            out += '=';
            out += kHex[c >> 4];
            out += kHex[c & 15];
            column += 3;
        }
    }
}

}  // namespace

TransferEncoding parse_transfer_encoding(std::string_view value) {
    const std::string stripped = strip_comments(value);
    std::string_view word = trim(stripped);
    word = word.substr(0, word.find_first_of("; \t"));
    if (word.empty() || equals_ignoring_case(word, "7bit")) {
        return TransferEncoding::seven_bit;
    }
    if (equals_ignoring_case(word, "8bit")) {
        return TransferEncoding::eight_bit;
    }
    if (equals_ignoring_case(word, "binary")) {
        return TransferEncoding::binary;
    }
    if (equals_ignoring_case(word, "quoted-printable")) {
        return TransferEncoding::quoted_printable;
    }
    return equals_ignoring_case(word, "base64") ? TransferEncoding::base64 : TransferEncoding::unknown;
}

std::string_view transfer_encoding_name(TransferEncoding encoding) {
    switch (encoding) {
        case TransferEncoding::eight_bit: return "8bit";
        case TransferEncoding::binary: return "binary";
        case TransferEncoding::quoted_printable: return "quoted-printable";
        case TransferEncoding::base64: return "base64";
        case TransferEncoding::seven_bit:
        case TransferEncoding::unknown: break;
    }
    return "7bit";
}

std::string decode_base64(std::string_view text) {
    std::string out;
    out.reserve(text.size() / 4 * 3 + 3);
    unsigned bits = 0;
    int have = 0;   // characters of the current quantum
    const auto flush = [&] {
        if (have == 2) {
            out += static_cast<char>(bits >> 4);
        } else if (have == 3) {
            out += static_cast<char>(bits >> 10);
            out += static_cast<char>(bits >> 2);
        }
        bits = 0;
        have = 0;
    };
    for (const char c : text) {
        const signed char value = kBase64[static_cast<unsigned char>(c)];
        if (value == kSkip) {
            continue;
        }
        if (value == kPad) {
            flush();
            continue;
        }
        bits = (bits << 6) | static_cast<unsigned>(value);
        if (++have == 4) {
            out += static_cast<char>(bits >> 16);
            out += static_cast<char>(bits >> 8);
            out += static_cast<char>(bits);
            bits = 0;
            have = 0;
        }
    }
    flush();
    return out;
}

std::string decode_quoted_printable(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    std::size_t solid = 0;   // out up to here cannot be trailing white space
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\n' || (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n')) {
            out.resize(solid);
            out += c;
            solid = c == '\n' ? out.size() : solid;
            if (c == '\r') {
                out += text[++i];
                solid = out.size();
            }
        } else if (c == '=') {
            if (i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
                out += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
                i += 2;
                solid = out.size();
                continue;
            }
            std::size_t end = i + 1;   // soft line break, perhaps with white space after the "="
            while (end < text.size() && (text[end] == ' ' || text[end] == '\t' || text[end] == '\r')) {
                ++end;
            }
            if (end >= text.size() || text[end] == '\n') {
                i = end;
                solid = out.size();
            } else {
                out += c;
                solid = out.size();
            }
        } else {
            out += c;
            if (c != ' ' && c != '\t') {
                solid = out.size();
            }
        }
    }
    return out;
}

std::string decode_transfer(TransferEncoding encoding, std::string_view body) {
    if (encoding == TransferEncoding::base64) {
        return decode_base64(body);
    }
    return encoding == TransferEncoding::quoted_printable ? decode_quoted_printable(body) : std::string(body);
}

std::string encode_base64_lines(std::string_view bytes, std::size_t line_length) {
    const std::string flat = base64_encode(bytes);
    std::string out;
    out.reserve(flat.size() + flat.size() / line_length + 1);
    for (std::size_t at = 0; at < flat.size(); at += line_length) {
        out.append(flat, at, line_length);
        out += '\n';
    }
    return out;
}

std::string encode_quoted_printable(std::string_view text) {
    std::string out;
    out.reserve(text.size() + text.size() / 8);
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        encode_quoted_line(out, text.substr(0, end));
        if (end == std::string_view::npos) {
            break;
        }
        out += '\n';
        text.remove_prefix(end + 1);
    }
    return out;
}

}  // namespace postern
