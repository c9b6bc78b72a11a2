#include "lib/table/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"

namespace postern {
namespace {

bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool begins_with_space(std::string_view line) {
    return !line.empty() && is_space(line.front());
}

/// Empty, or a comment: no part of any logical line.
bool is_ignored(std::string_view line) {
    const std::string_view visible = trim(line);
    return visible.empty() || visible.front() == '#';
}

/// The end of a "quoted string" that begins at text[0]; npos when it does not end.
std::size_t quoted_end(std::string_view text) {
    for (std::size_t i = 1; i < text.size(); ++i) {
        if (text[i] == '\\') {
            ++i;
        } else if (text[i] == '"') {
            return i;
        }
    }
    return std::string_view::npos;
}

std::string unquote(std::string_view inside) {
    std::string plain;
    for (std::size_t i = 0; i < inside.size(); ++i) {
        if (inside[i] == '\\' && i + 1 < inside.size()) {
            ++i;
        }
        plain += inside[i];
    }
    return plain;
}

/// Splits the right-hand side of an alias at commas outside quotes and comments, and joins it again.
std::string normalized_alias_value(std::string_view text) {
    std::string joined;
    std::string item;
    const auto flush = [&] {
        const std::string_view visible = trim(item);
        if (!visible.empty()) {
            joined += joined.empty() ? "" : ", ";
            joined += visible;
        }
        item.clear();
    };
    std::size_t i = 0;
    while (i < text.size()) {
        const char c = text[i];
        if (c == '"') {
            const std::size_t length = quoted_end(text.substr(i));
            const std::size_t end = length == std::string_view::npos ? text.size() : i + length + 1;
            item += text.substr(i, end - i);
            i = end;
            continue;
        }
        if (c == ',') {
            flush();
        } else {
            item += c;
        }
        ++i;
    }
    flush();
    return joined;
}

}  // namespace

std::string_view MapLines::take_physical() {
    const std::size_t end = text_.find('\n');
    std::string_view line = text_.substr(0, end);
    text_.remove_prefix(end == std::string_view::npos ? text_.size() : end + 1);
    ++physical_;
    return line;
}

bool MapLines::next(std::string& line) {
    line.clear();
    bool have = false;
    while (!text_.empty()) {
        const std::string_view before = text_;
        const std::string_view physical = take_physical();
        if (is_ignored(physical)) {
            continue;
        }
        if (have && !begins_with_space(physical)) {
            text_ = before;   // the next logical line begins here
            --physical_;
            return true;
        }
        if (!have) {
            first_line_ = physical_;
            have = true;
        }
        last_line_ = physical_;
        line += physical;
    }
    return have;
}

Result<MapEntry> parse_map_line(std::string_view line) {
    const std::string_view text = trim(line);
    std::size_t end = 0;
    while (end < text.size() && !is_space(text[end])) {
        if (text[end] == '"') {
            const std::size_t length = quoted_end(text.substr(end));
            if (length == std::string_view::npos) {
                return Error(Errc::syntax, "unbalanced '\"' in '" + std::string(text) + "'");
            }
            end += length;
        }
        ++end;
    }
    MapEntry entry;
    entry.key = text.substr(0, end);
    entry.value = trim(text.substr(end));
    if (entry.key.empty() || entry.value.empty()) {
        return Error(Errc::syntax, "expected format: key whitespace value");
    }
    return entry;
}

Result<MapEntry> parse_alias_line(std::string_view line) {
    const std::string_view text = trim(line);
    MapEntry entry;
    std::size_t colon = std::string_view::npos;
    if (!text.empty() && text.front() == '"') {
        const std::size_t end = quoted_end(text);
        if (end == std::string_view::npos) {
            return Error(Errc::syntax, "unbalanced '\"' in '" + std::string(text) + "'");
        }
        entry.key = unquote(text.substr(1, end - 1));
        colon = text.find_first_not_of(" \t", end + 1);
    } else {
        colon = text.find(':');
        entry.key = trim(text.substr(0, colon));
    }
    if (colon == std::string_view::npos || colon >= text.size() || text[colon] != ':') {
        return Error(Errc::syntax, "need name:value pair");
    }
    if (entry.key.empty()) {
        return Error(Errc::syntax, "need name:value pair");
    }
    if (entry.key.find('@') != std::string::npos) {
        return Error(Errc::syntax, "name must be local");
    }
    entry.value = normalized_alias_value(text.substr(colon + 1));
    if (entry.value.empty()) {
        return Error(Errc::syntax, "need name:value pair");
    }
    return entry;
}

Result<std::string> read_text_fd(int fd, const std::string& path, std::size_t limit) {
    struct stat info {};
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        return Error(Errc::io, "read " + path + ": Is a directory");
    }
    std::string text;
    text.resize(static_cast<std::size_t>(info.st_size > 0 ? info.st_size : 0) + 4096);
    std::size_t used = 0;
    for (;;) {
        if (used == text.size()) {
            text.resize(text.size() * 2);
        }
        const ssize_t got = read(fd, text.data() + used, text.size() - used);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno_error("read " + path);
        }
        if (got == 0) {
            break;
        }
        used += static_cast<std::size_t>(got);
        if (used > limit) {
            return Error(Errc::too_big, "read " + path + ": File too large");
        }
    }
    text.resize(used);
    return text;
}

Result<std::string> read_text_file(const std::string& path, std::size_t limit) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        return errno_error("open " + path);
    }
    return read_text_fd(fd.get(), path, limit);
}

}  // namespace postern
