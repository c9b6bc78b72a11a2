#include "lib/login/log_format.h"

#include <fmt/format.h>

#include "lib/base/strings.h"

namespace postern {

namespace {

std::string number(std::uint32_t value) {
    return value == 0 ? std::string() : std::to_string(value);
}

std::string_view local_part(std::string_view user) { return user.substr(0, user.find('@')); }
std::string_view domain_part(std::string_view user) {
    const std::size_t at = user.find('@');
    return at == user.npos ? std::string_view() : user.substr(at + 1);
}

std::string value_of(std::string_view name, const LoginFacts& f) {
    if (name == "u" || name == "user") return std::string(f.user);
    if (name == "n" || name == "username") return std::string(local_part(f.user));
    if (name == "d" || name == "domain") return std::string(domain_part(f.user));
    if (name == "auth_user") return std::string(f.auth_user);
    if (name == "auth_username") return std::string(local_part(f.auth_user));
    if (name == "auth_domain") return std::string(domain_part(f.auth_user));
    if (name == "s" || name == "service" || name == "protocol") return std::string(f.service);
    if (name == "m" || name == "mechanism" || name == "mech") return std::string(f.method);
    if (name == "r" || name == "rip" || name == "remote_ip") return std::string(f.remote_ip);
    if (name == "l" || name == "lip" || name == "local_ip") return std::string(f.local_ip);
    if (name == "a" || name == "lport" || name == "local_port") return number(f.local_port);
    if (name == "b" || name == "rport" || name == "remote_port") return number(f.remote_port);
    if (name == "e" || name == "mail_pid") return number(f.pid);
    if (name == "c" || name == "secured" || name == "ssl_security") return std::string(f.security);
    if (name == "k") {
        return f.tls_protocol.empty() ? "" : fmt::format("{} with cipher {}", f.tls_protocol, f.tls_cipher);
    }
    if (name == "session") return std::string(f.session_id);
    return {};
}

bool names_user(std::string_view name) {
    return name == "u" || name == "user" || name == "n" || name == "username";
}

/// One word of the format; `keep` tells whether it has something to say.
std::string expand_word(std::string_view word, const LoginFacts& facts, bool& keep) {
    std::string out;
    bool any_variable = false;
    bool any_value = false;
    while (!word.empty()) {
        const std::size_t percent = word.find('%');
        out += word.substr(0, percent);
        if (percent == word.npos || percent + 1 == word.size()) {
            break;
        }
        word.remove_prefix(percent + 1);
        std::string_view name = word.substr(0, 1);
        std::size_t used = 1;
        if (const std::size_t close = word.find('}'); name == "{" && close != word.npos) {
            name = word.substr(1, close - 1);
            used = close + 1;
        }
        const std::string value = name == "%" ? "%" : value_of(name, facts);
        any_variable = any_variable || name != "%";
        any_value = any_value || !value.empty() || names_user(name);
        out += value;
        word.remove_prefix(used);
    }
    keep = any_value || !any_variable;
    return out;
}

}  // namespace

std::string login_elements(std::string_view format, const LoginFacts& facts) {
    std::string out;
    for (const std::string& word : split(format, " ")) {
        bool keep = false;
        const std::string text = expand_word(word, facts, keep);
        if (keep && !text.empty()) {
            out += out.empty() ? "" : ", ";
            out += text;
        }
    }
    return out;
}

std::string login_line(std::string_view format, std::string_view what, std::string_view elements) {
    std::string out;
    for (std::size_t i = 0; i < format.size(); ++i) {
        if (format[i] != '%' || i + 1 == format.size()) {
            out += format[i];
            continue;
        }
        ++i;
        if (format[i] == '$') {
            out += what;
        } else if (format[i] == 's') {
            out += elements;
        } else {
            out += format[i];
        }
    }
    return out;
}

}  // namespace postern
