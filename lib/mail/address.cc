#include "lib/mail/address.h"

#include <arpa/inet.h>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/scan.h"

namespace postern {

std::string Address::internal() const { return domain.empty() ? local : local + "@" + domain; }

std::string Address::external() const {
    if (empty()) {
        return {};
    }
    return domain.empty() ? quote_local(local) : quote_local(local) + "@" + domain;
}

Address split_internal(std::string_view internal) {
    const std::size_t at = internal.rfind('@');
    if (at == std::string_view::npos) {
        return {std::string(internal), {}};
    }
    return {std::string(internal.substr(0, at)), std::string(internal.substr(at + 1))};
}

std::string quote_local(std::string_view local) {
    bool plain = !local.empty() && local.front() != '.' && local.back() != '.';
    for (std::size_t i = 0; plain && i < local.size(); ++i) {
        plain = is_atext(local[i]) || (local[i] == '.' && local[i - 1] != '.');
    }
    if (plain) {
        return std::string(local);
    }
    std::string quoted = "\"";
    for (const char c : local) {
        if (c == '"' || c == '\\' || is_control(c)) {
            quoted += '\\';
        }
        quoted += c;
    }
    return quoted + "\"";
}

std::string external_form(std::string_view internal) { return split_internal(internal).external(); }

// --- domains ----------------------------------------------------------------------------------------------

namespace {

bool is_label_char(char c, bool utf8) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           (utf8 && static_cast<unsigned char>(c) > 127);
}

bool valid_label(std::string_view label, bool utf8) {
    if (label.empty() || label.size() > kMaxLabel || label.front() == '-' || label.back() == '-') {
        return false;
    }
    for (const char c : label) {
        if (!is_label_char(c, utf8)) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool valid_hostname(std::string_view name, bool utf8) {
    if (name.empty() || name.size() > kMaxDomain || (utf8 && !valid_utf8(name))) {
        return false;
    }
    bool numeric = true;
    for (const char c : name) {
        numeric = numeric && ((c >= '0' && c <= '9') || c == '.');
    }
    if (numeric) {
        return false;
    }
    for (std::size_t begin = 0; begin <= name.size();) {
        std::size_t end = name.find('.', begin);
        end = end == std::string_view::npos ? name.size() : end;
        if (!valid_label(name.substr(begin, end - begin), utf8)) {
            return false;
        }
        begin = end + 1;
    }
    return true;
}

bool valid_ip_address(std::string_view text) {
    if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) {
        return false;
    }
    const std::string copy(text);
    unsigned char buffer[sizeof(in6_addr)];
    return inet_pton(AF_INET, copy.c_str(), buffer) == 1 || inet_pton(AF_INET6, copy.c_str(), buffer) == 1;
}

bool valid_address_literal(std::string_view text) {
    if (text.size() < 3 || text.front() != '[' || text.back() != ']') {
        return false;
    }
    std::string_view inner = text.substr(1, text.size() - 2);
    const bool tagged = starts_with_ignoring_case(inner, "IPv6:");
    if (tagged) {
        inner.remove_prefix(5);
    }
    return tagged == (inner.find(':') != std::string_view::npos) && valid_ip_address(inner);
}

bool valid_mail_domain(std::string_view domain, bool utf8) {
    return !domain.empty() && (domain.front() == '[' ? valid_address_literal(domain) : valid_hostname(domain, utf8));
}

// --- extensions -------------------------------------------------------------------------------------------

SplitLocal split_extension(std::string_view local, std::string_view delimiters) {
    const SplitLocal whole{local, {}, 0};
    if (delimiters.empty() || equals_ignoring_case(local, "postmaster") || equals_ignoring_case(local, "mailer-daemon") ||
        equals_ignoring_case(local, "double-bounce")) {
        return whole;
    }
    if (delimiters.find('-') != std::string_view::npos) {
        constexpr std::string_view kRequest = "-request";
        const bool request = local.size() > kRequest.size() &&
                             equals_ignoring_case(local.substr(local.size() - kRequest.size()), kRequest);
        if (request || starts_with_ignoring_case(local, "owner-")) {
            return whole;
        }
    }
    const std::size_t at = local.find_first_of(delimiters);
    if (at == std::string_view::npos || at == 0) {
        return whole;
    }
    return {local.substr(0, at), local.substr(at + 1), local[at]};
}

}  // namespace postern
