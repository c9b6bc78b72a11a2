#include "auth/variables.h"

#include <fmt/format.h>

#include <optional>

#include "lib/base/strings.h"

namespace postern {

namespace {

struct Value {
    std::string text;
    bool is_path = false;   ///< from the administrator or the user database, not from the client
};

std::optional<Value> short_value(char letter, const Variables& v) {
    switch (letter) {
    case 'u': return Value{std::string(v.user)};
    case 'n': return Value{std::string(v.name())};
    case 'd': return Value{std::string(v.domain())};
    case 's': return Value{std::string(v.service)};
    case 'h': return Value{std::string(v.home), true};
    case 'r': return Value{std::string(v.remote_ip)};
    case 'l': return Value{std::string(v.local_ip)};
    case '%': return Value{"%", true};
    default: return std::nullopt;
    }
}

std::optional<Value> long_value(std::string_view name, const Variables& v) {
    constexpr struct {
        std::string_view name;
        char letter;
    } kNames[] = {{"user", 'u'},    {"username", 'n'}, {"domain", 'd'},    {"service", 's'},  {"protocol", 's'},
                  {"home", 'h'},    {"rip", 'r'},      {"remote_ip", 'r'}, {"lip", 'l'},      {"local_ip", 'l'},
                  {"auth_user", 'u'}};
    for (const auto& known : kNames) {
        if (known.name == name) {
            return short_value(known.letter, v);
        }
    }
    return std::nullopt;
}

/// "user | username | lower": filters of Dovecot 2.4 that make sense on names.
std::optional<Value> piped_value(std::string_view text, const Variables& v) {
    const auto parts = split_exact(text, '|');
    std::optional<Value> value = long_value(trim(parts[0]), v);
    for (std::size_t i = 1; value && i < parts.size(); ++i) {
        const std::string_view filter = trim(parts[i]);
        const std::size_t at = value->text.find('@');
        if (filter == "lower") {
            value->text = to_lower(value->text);
        } else if (filter == "upper") {
            value->text = to_upper(value->text);
        } else if (filter == "username") {
            value->text = value->text.substr(0, at);
        } else if (filter == "domain") {
            value->text = at == std::string::npos ? "" : value->text.substr(at + 1);
        } else {
            return std::nullopt;
        }
    }
    return value;
}

/// One variable, `text` starting after the percent sign; `used` tells how far it went.
std::optional<Value> next_value(std::string_view text, const Variables& v, std::size_t& used) {
    if (!text.empty() && text.front() == '{') {
        const std::size_t close = text.find('}');
        if (close == std::string_view::npos) {
            return std::nullopt;
        }
        used = close + 1;
        return piped_value(text.substr(1, close - 1), v);
    }
    char modifier = 0;
    std::size_t i = 0;
    if (i < text.size() && (text[i] == 'L' || text[i] == 'U')) {
        modifier = text[i++];
    }
    if (i >= text.size()) {
        return std::nullopt;
    }
    std::optional<Value> value = short_value(text[i], v);
    used = i + 1;
    if (value && modifier != 0) {
        value->text = modifier == 'L' ? to_lower(value->text) : to_upper(value->text);
    }
    return value;
}

bool fits_in_path(std::string_view value) {
    return value.find('/') == std::string_view::npos && value.find('\0') == std::string_view::npos &&
           (value.empty() || value.find_first_not_of('.') != std::string_view::npos);
}

Result<std::string> expand(std::string_view text, const Variables& variables, bool for_path) {
    std::string out;
    while (!text.empty()) {
        const std::size_t percent = text.find('%');
        out += text.substr(0, percent);
        if (percent == std::string_view::npos) {
            break;
        }
        text.remove_prefix(percent + 1);
        std::size_t used = 0;
        const std::optional<Value> value = next_value(text, variables, used);
        if (!value) {
            return {Errc::config, fmt::format("unknown variable %{}", printable(text.substr(0, 20)))};
        }
        if (for_path && !value->is_path && !fits_in_path(value->text)) {
            return {Errc::denied, "user name does not fit in a file name"};
        }
        out += value->text;
        text.remove_prefix(used);
        if (out.size() > kMaxExpansion) {
            return {Errc::too_big, "expansion is too long"};
        }
    }
    return out.size() > kMaxExpansion ? Result<std::string>(Errc::too_big, "expansion is too long") : out;
}

}  // namespace

Result<std::string> expand_variables(std::string_view text, const Variables& variables) {
    return expand(text, variables, false);
}

Result<std::string> expand_path(std::string_view text, const Variables& variables) {
    return expand(text, variables, true);
}

}  // namespace postern
