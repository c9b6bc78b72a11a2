// Paths in SMTP commands (RFC 5321 section 4.1.2), strict or as forgiving as Postfix.
#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/scan.h"

namespace postern {

namespace {

const char* kSyntax = "bad address syntax";

/// Where the path ends: at white space outside quotes and brackets.
std::size_t path_end(std::string_view text) {
    bool quoted = false;
    bool angle = false;
    int depth = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\\') {
            ++i;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (quoted) {
            continue;
        } else if (c == '(') {
            ++depth;
        } else if (c == ')' && depth > 0) {
            --depth;
        } else if (c == '<') {
            angle = true;
        } else if (c == '>' && depth == 0) {
            angle = false;
        } else if ((c == ' ' || c == '\t') && !angle && depth == 0) {
            return i;
        }
    }
    return text.size();
}

/// Exactly RFC 5321's Path without its brackets; the domain is checked by the caller, here only its characters.
std::optional<Address> strict_path(std::string_view text) {
    if (!text.empty() && text.front() == '@') {   // source route: @a,@b:local@domain
        const std::size_t colon = text.find(':');
        if (colon == std::string_view::npos) {
            return std::nullopt;
        }
        for (std::size_t begin = 0; begin < colon;) {
            std::size_t end = text.find(',', begin);
            end = end == std::string_view::npos || end > colon ? colon : end;
            if (text[begin] != '@' || !valid_mail_domain(text.substr(begin + 1, end - begin - 1), true)) {
                return std::nullopt;
            }
            begin = end + 1;
        }
        text.remove_prefix(colon + 1);
    }
    Address address;
    Scanner in(text);
    if (in.at('"')) {
        in.quoted_string(address.local);
    } else {
        while (in.atom(address.local) && in.at('.')) {
            address.local += in.take();
        }
        if (address.local.empty() || address.local.back() == '.') {
            return std::nullopt;
        }
    }
    if (in.at_end()) {
        return in.broken() || address.local.empty() ? std::nullopt : std::optional(address);
    }
    if (!in.at('@') || in.broken()) {
        return std::nullopt;
    }
    in.take();
    address.domain = in.rest();
    if (address.domain.empty()) {
        return std::nullopt;
    }
    if (address.domain.front() == '[') {
        return address.domain.find(']') == address.domain.size() - 1 ? std::optional(address) : std::nullopt;
    }
    for (const char c : address.domain) {
        if (!is_atext(c) && c != '.') {
            return std::nullopt;
        }
    }
    return address;
}

/// A local part without quotes in which a backslash takes the next character as it is, as Postfix reads it: <\user@host> is
/// user@host, <a\ b@host> is "a b"@host.  Nothing when there is no such backslash.
std::optional<Address> escaped_path(std::string_view text) {
    Address address;
    std::size_t i = 0;
    for (; i < text.size() && text[i] != '@'; ++i) {
        const bool escaped = text[i] == '\\';
        i += escaped ? 1 : 0;
        if (i >= text.size() || (!escaped && !is_atext(text[i]) && text[i] != '.')) {
            return std::nullopt;
        }
        address.local += text[i];
    }
    if (address.local.size() == i || i + 1 == text.size()) {
        return std::nullopt;
    }
    address.domain = i < text.size() ? text.substr(i + 1) : std::string_view();
    const bool plain = std::all_of(address.domain.begin(), address.domain.end(), [](char c) { return is_atext(c) || c == '.'; });
    return plain || valid_address_literal(address.domain) ? std::optional(address) : std::nullopt;
}

/// One address with comments, white space and a display name, as header fields have them.
std::optional<Address> lenient_path(std::string_view text) {
    const std::vector<ListAddress> list = parse_address_list(text, {.max_entries = 2, .only_deliverable = false});
    if (list.size() != 1 || list[0].kind != ListAddress::Kind::mailbox || list[0].local.empty()) {
        return std::nullopt;
    }
    Scanner in(text);   // quotes and comments without end are no address
    std::string ignored;
    while (!in.at_end()) {
        if (in.at('"')) {
            in.quoted_string(ignored);
        } else if (!in.skip_cfws()) {
            if (in.take() == '\\' && !in.at_end()) {
                in.take();
            }
        }
    }
    const std::string& domain = list[0].domain;
    const bool open_literal = !domain.empty() && domain.front() == '[' && domain.back() != ']';
    const bool dangling = domain.empty() && list[0].local.find('@') == std::string::npos && text.find('@') != std::string_view::npos &&
                          list[0].invalid && trim(text).back() == '@';
    const bool two_words = list[0].invalid && list[0].local.find_first_of(" <>") != std::string::npos;
    if (in.broken() || open_literal || dangling || two_words) {
        return std::nullopt;
    }
    return list[0].address();
}

bool has_control(std::string_view text) {
    for (const char c : text) {
        if (is_control(c) && c != '\t') {
            return true;
        }
    }
    return false;
}

}  // namespace

Result<SmtpPath> parse_path(std::string_view text, PathOptions options) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    const std::size_t end = path_end(text);
    std::string_view path = text.substr(0, end);
    SmtpPath found;
    found.parameters = trim(text.substr(end));
    if (path.size() > kMaxPath) {
        return {Errc::too_big, "address too long"};
    }
    const bool angles = path.size() >= 2 && path.front() == '<' && path.back() == '>';
    if (path.empty() || has_control(path) || (options.strict && !angles)) {
        return {Errc::syntax, kSyntax};
    }
    for (const char c : path) {
        found.utf8 = found.utf8 || static_cast<unsigned char>(c) > 127;
    }
    const std::string_view inner = angles ? path.substr(1, path.size() - 2) : path;
    if (angles && (options.strict ? inner : trim(inner)).empty()) {
        return options.allow_null ? Result<SmtpPath>(std::move(found)) : Result<SmtpPath>(Errc::syntax, kSyntax);
    }
    std::optional<Address> address = strict_path(inner);
    if (!address && !options.strict) {
        address = escaped_path(inner);
    }
    if (!address && !options.strict) {
        address = lenient_path(inner);
    }
    if (!address || (!angles && path.front() == '<')) {
        return {Errc::syntax, kSyntax};
    }
    found.address = std::move(*address);
    return found;
}

Result<Address> parse_address(std::string_view text) {
    text = trim(text);
    if (text.size() > kMaxPath || has_control(text)) {
        return {Errc::syntax, kSyntax};
    }
    if (text.empty() || text == "<>") {
        return {Errc::syntax, "empty address"};
    }
    std::optional<Address> address = strict_path(text);
    if (!address) {
        address = lenient_path(text);
    }
    return address ? Result<Address>(std::move(*address)) : Result<Address>(Errc::syntax, kSyntax);
}

}  // namespace postern
