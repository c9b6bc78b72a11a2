#include "lib/store/location.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "lib/base/strings.h"

namespace postern::store {
namespace {

Error bad(std::string_view text, const std::string& why) {
    return Error(Errc::config, "mail_location " + printable(text) + ": " + why);
}

struct Variables {
    std::string_view user, home;
    Result<std::string> value(std::string_view name) const {
        const std::size_t at = user.find('@');
        if (name == "u" || name == "user") {
            return std::string(user);
        }
        if (name == "n" || name == "username") {
            return std::string(user.substr(0, at));
        }
        if (name == "d" || name == "domain") {
            return std::string(at == std::string_view::npos ? std::string_view() : user.substr(at + 1));
        }
        if (name == "h" || name == "home") {
            return std::string(home);
        }
        return Error(Errc::config, "unknown variable %" + std::string(name) + " (%u %n %d %h %% are known)");
    }
};

/// One %-sequence; `at` is just after the percent sign and moves past it.
Result<std::string> expand_one(std::string_view text, std::size_t& at, const Variables& variables) {
    std::size_t offset = 0;
    std::size_t width = std::string::npos;
    char letter_case = 0;
    auto number = [&] {
        std::size_t n = 0;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9' && n < 1000) {
            n = n * 10 + static_cast<std::size_t>(text[at++] - '0');
        }
        return n;
    };
    for (; at < text.size(); ++at) {
        if (text[at] == 'L' || text[at] == 'U') {
            letter_case = text[at];
            continue;
        }
        if (text[at] >= '0' && text[at] <= '9') {
            width = number();
            if (at < text.size() && text[at] == '.') {
                ++at;
                offset = width;
                width = number();
            }
            --at;
            continue;
        }
        break;
    }
    std::string_view name = text.substr(std::min(at, text.size()), 1);
    at += 1;
    if (name == "{") {
        const std::size_t end = text.find('}', at);
        name = text.substr(at, end == std::string_view::npos ? end : end - at);
        at = end == std::string_view::npos ? text.size() : end + 1;
    }
    Result<std::string> value = variables.value(name);
    if (!value) {
        return value;
    }
    std::string out = offset < value->size() ? value->substr(offset, width) : std::string();
    return letter_case == 'L' ? to_lower(out) : letter_case == 'U' ? to_upper(out) : out;
}

Result<std::string> expand(std::string_view text, const Variables& variables) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        if (text[at] == '~' && at == 0 && (text.size() == 1 || text[1] == '/')) {
            out += variables.home;
            ++at;
        } else if (text[at] != '%') {
            out += text[at++];
        } else if (at + 1 < text.size() && text[at + 1] == '%') {
            out += '%';
            at += 2;
        } else {
            Result<std::string> piece = expand_one(text, ++at, variables);
            if (!piece) {
                return piece;
            }
            // A user name must not lead out of the place that the setting names.
            if (*piece != variables.home && (piece->find('/') != std::string::npos || *piece == "..")) {
                return Error(Errc::config, "user name cannot be part of a path");
            }
            out += *piece;
        }
    }
    while (out.size() > 1 && out.back() == '/') {
        out.pop_back();
    }
    if (out.empty() || out[0] != '/' || out.find('\0') != std::string::npos) {
        return Error(Errc::config, "path '" + printable(out) + "' is not absolute");
    }
    return out;
}

Result<void> apply_key(Location& location, const std::string& item, const Variables& variables) {
    const std::size_t equals = item.find('=');
    const std::string key = item.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : item.substr(equals + 1);
    if (key == "LAYOUT") {
        if (!equals_ignoring_case(value, "fs") && !equals_ignoring_case(value, "Maildir++")) {
            return Error(Errc::config, "LAYOUT=" + value + " (fs and Maildir++ are known)");
        }
        location.fs_layout = equals_ignoring_case(value, "fs");
        return {};
    }
    std::string* const target = key == "INDEX" ? &location.index : key == "CONTROL" ? &location.control
                                : key == "INBOX" ? &location.inbox : nullptr;
    if (target == nullptr) {
        return Error(Errc::config, "unknown key " + key + " (LAYOUT, INDEX, CONTROL and INBOX are known)");
    }
    if (value == "MEMORY") {
        return Error(Errc::config, key + "=MEMORY: the index must be on disk");
    }
    Result<std::string> path = expand(value, variables);
    if (!path) {
        return path.error();
    }
    *target = *path;
    return {};
}

}  // namespace

Result<Location> parse_location(std::string_view text, std::string_view user, std::string_view home) {
    const Variables variables{user, home};
    const std::vector<std::string> items = split_exact(text, ':');
    Location location;
    if (items.size() < 2 || (items[0] != "maildir" && items[0] != "mbox")) {
        return bad(text, "must begin with maildir: or mbox:");
    }
    location.driver = items[0] == "mbox" ? Driver::mbox : Driver::maildir;
    location.fs_layout = location.driver == Driver::mbox;
    Result<std::string> root = expand(items[1], variables);
    if (!root) {
        return bad(text, root.error().what);
    }
    location.root = *root;
    for (std::size_t i = 2; i < items.size(); ++i) {
        if (Result<void> applied = apply_key(location, items[i], variables); !applied) {
            return bad(text, applied.error().what);
        }
    }
    if (location.driver == Driver::mbox && !location.fs_layout) {
        return bad(text, "mbox needs LAYOUT=fs");
    }
    if (location.index.empty()) {
        location.index = location.root;
    }
    if (location.control.empty()) {
        location.control = location.root;
    }
    return location;
}

Result<void> make_directories(const std::string& path) {
    struct stat there {};
    if (stat(path.c_str(), &there) == 0 && S_ISDIR(there.st_mode)) {
        return {};
    }
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        const std::string part = path.substr(0, slash);
        struct stat status {};
        if (mkdir(part.c_str(), 0700) != 0) {
            const int reason = errno;
            if (stat(part.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
                return errno_error("create " + part, reason);
            }
        }
        if (slash == std::string::npos) {
            return {};
        }
    }
}

}  // namespace postern::store
