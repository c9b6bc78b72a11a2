#include "pop3d/uidl_format.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <optional>

#include "lib/base/strings.h"

namespace postern::pop3d {

namespace {

Error bad(std::string_view what) {
    return {Errc::config, fmt::format("parameter pop3_uidl_format: \"{}\" is not known", printable(what, 40))};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Result<std::string> md5_hex(std::string_view bytes) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_md5(), nullptr) != 1) {
        return {Errc::unsupported, "MD5 is not available"};
    }
    return hex_encode(std::string_view(reinterpret_cast<const char*>(digest.data()), size));
}

Result<UidlFormat> UidlFormat::parse(std::string_view format) {
    UidlFormat out;
    while (!format.empty()) {
        if (format.front() != '%') {
            const std::size_t end = std::min(format.find('%'), format.size());
            Piece literal;
            literal.text = format.substr(0, end);
            out.pieces_.push_back(std::move(literal));
            format.remove_prefix(end);
            continue;
        }
        format.remove_prefix(1);
        Result<Piece> piece = !format.empty() && format.front() == '{' ? long_form(format) : short_form(format);
        if (!piece) {
            return piece.error();
        }
        out.needs_name_ = out.needs_name_ || piece->what == What::name;
        out.needs_header_ = out.needs_header_ || piece->what == What::md5;
        out.pieces_.push_back(std::move(*piece));
    }
    if (out.pieces_.empty()) {
        return {Errc::config, "parameter pop3_uidl_format: is empty"};
    }
    return out;
}

/// Behind `%`: modifiers, width, variable.
Result<UidlFormat::Piece> UidlFormat::short_form(std::string_view& rest) {
    Piece piece;
    std::size_t at = 0;
    for (; at < rest.size(); ++at) {
        const char c = rest[at];
        if (is_digit(c)) {
            piece.zeros = piece.zeros || (c == '0' && piece.width == 0);
            piece.width = std::min<std::size_t>(piece.width * 10 + static_cast<std::size_t>(c - '0'), kMaxUidl);
        } else if (c == 'X' || c == 'L' || c == 'U' || c == 'M') {
            piece.modifiers += c;
        } else {
            break;
        }
    }
    if (at == rest.size()) {
        return bad("%" + std::string(rest));
    }
    switch (rest[at]) {
    case 'u': piece.what = What::uid; break;
    case 'v': piece.what = What::uidvalidity; break;
    case 'f':
    case 'g': piece.what = What::name; break;
    case 'm': piece.what = What::md5; break;
    case '%': piece.text = "%"; break;
    default: return bad("%" + std::string(rest.substr(0, at + 1)));
    }
    rest.remove_prefix(at + 1);
    return piece;
}

/// At `{`: `{uid}`, `{uid | hex(8)}`.
Result<UidlFormat::Piece> UidlFormat::long_form(std::string_view& rest) {
    const std::size_t end = rest.find('}');
    if (end == std::string_view::npos) {
        return bad("%" + std::string(rest));
    }
    const std::string_view inner = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    const std::size_t bar = inner.find('|');
    const std::string_view name = trim(inner.substr(0, bar));
    Piece piece;
    if (name == "uid") {
        piece.what = What::uid;
    } else if (name == "uidvalidity") {
        piece.what = What::uidvalidity;
    } else if (name == "filename" || name == "guid") {
        piece.what = What::name;
    } else if (name == "md5") {
        piece.what = What::md5;
    } else {
        return bad(inner);
    }
    if (bar != std::string_view::npos) {
        const std::string_view filter = trim(inner.substr(bar + 1));
        const std::optional<std::uint64_t> width =
            filter.substr(0, 4) == "hex(" && filter.back() == ')' ? parse_number(filter.substr(4, filter.size() - 5)) : std::nullopt;
        if (filter != "hex" && !width) {
            return bad(inner);
        }
        piece.modifiers = "X";
        piece.zeros = true;
        piece.width = static_cast<std::size_t>(std::min<std::uint64_t>(width.value_or(0), kMaxUidl));
    }
    return piece;
}

Result<std::string> UidlFormat::value_of(const Piece& piece, const UidlValues& values) {
    const bool hex = piece.modifiers.find('X') != std::string::npos;
    const auto number = [hex](std::uint32_t value) { return hex ? fmt::format("{:x}", value) : fmt::format("{}", value); };
    std::string value = piece.text;
    switch (piece.what) {
    case What::uid: value = number(values.uid); break;
    case What::uidvalidity: value = number(values.uidvalidity); break;
    case What::name: value = values.name; break;
    case What::md5: value = values.header_md5; break;
    case What::literal: break;
    }
    for (const char modifier : piece.modifiers) {
        if (modifier == 'L' || modifier == 'U') {
            value = modifier == 'L' ? to_lower(value) : to_upper(value);
        } else if (modifier == 'M') {
            Result<std::string> digest = md5_hex(value);
            if (!digest) {
                return digest.error();
            }
            value = std::move(*digest);
        }
    }
    if (piece.zeros && value.size() < piece.width) {
        value.insert(0, piece.width - value.size(), '0');
    } else if (!piece.zeros && piece.width > 0) {
        value.resize(std::min(value.size(), piece.width));
    }
    return value;
}

Result<void> UidlFormat::append(std::string& out, const UidlValues& values) const {
    const std::size_t begin = out.size();
    for (const Piece& piece : pieces_) {
        const Result<std::string> value = value_of(piece, values);
        if (!value) {
            return value.error();
        }
        out += *value;
    }
    out.resize(std::min(out.size(), begin + kMaxUidl));
    for (std::size_t i = begin; i < out.size(); ++i) {
        out[i] = out[i] < 0x21 || out[i] > 0x7E ? '_' : out[i];
    }
    return {};
}

}  // namespace postern::pop3d
