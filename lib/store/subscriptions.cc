#include "lib/store/subscriptions.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>
#include <string_view>
#include <vector>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"

namespace postern::store {
namespace {

constexpr std::size_t kMaxFile = 16u << 20;
constexpr std::string_view kVersion2 = "V\t2";

Result<std::optional<std::string>> read_file(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        return errno == ENOENT ? Result<std::optional<std::string>>(std::optional<std::string>())
                               : Result<std::optional<std::string>>(errno_error("open " + path));
    }
    std::string text;
    char buffer[16384];
    for (;;) {
        const ssize_t n = read(fd.get(), buffer, sizeof buffer);
        if (n < 0) {
            return errno_error("read " + path);
        }
        if (n == 0) {
            return std::optional<std::string>(std::move(text));
        }
        text.append(buffer, static_cast<std::size_t>(n));
        if (text.size() > kMaxFile) {
            return Error(Errc::too_big, "read " + path + ": too big");
        }
    }
}

struct Stored {
    bool version2 = false;
    std::set<std::string> names;
};

Result<Stored> load(const Layout& layout) {
    Stored stored;
    const std::string& directory = layout.location().control;
    Result<std::optional<std::string>> text = read_file(directory + "/subscriptions");
    if (!text) {
        return text.error();
    }
    if (*text) {
        const std::vector<std::string> lines = split(**text, "\r\n");
        stored.version2 = !lines.empty() && lines[0] == kVersion2;
        for (std::size_t i = stored.version2 ? 1 : 0; i < lines.size(); ++i) {
            std::string name = layout.from_disk(lines[i], stored.version2 ? '\t' : layout.disk_separator());
            if (!name.empty()) {
                stored.names.insert(canonical_name(name));
            }
        }
        return stored;
    }
    text = read_file(directory + "/courierimapsubscribed");
    if (!text) {
        return text.error();
    }
    for (const std::string& line : split(text->value_or(std::string()), "\r\n")) {
        const bool below_inbox = starts_with_ignoring_case(line, "INBOX.");
        std::string name = layout.from_disk(below_inbox ? std::string_view(line).substr(6) : line, '.');
        if (!name.empty()) {
            stored.names.insert(canonical_name(name));
        }
    }
    return stored;
}

Result<void> replace(const std::string& path, const std::string& text) {
    const std::string temporary = path + ".new";
    const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) {
        return errno_error("create " + temporary);
    }
    std::string_view rest = text;
    while (!rest.empty()) {
        const ssize_t n = write(fd.get(), rest.data(), rest.size());
        if (n < 0) {
            Error error = errno_error("write " + temporary);
            unlink(temporary.c_str());
            return error;
        }
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    if (fsync(fd.get()) != 0 || rename(temporary.c_str(), path.c_str()) != 0) {
        Error error = errno_error("write " + path);
        unlink(temporary.c_str());
        return error;
    }
    return {};
}

}  // namespace

Result<std::set<std::string>> read_subscriptions(const Layout& layout) {
    Result<Stored> stored = load(layout);
    if (!stored) {
        return stored.error();
    }
    return std::move(stored->names);
}

Result<void> write_subscription(const Layout& layout, const std::string& name, bool on) {
    const std::string& directory = layout.location().control;
    const UniqueFd lock(open((directory + "/subscriptions.lock-postern").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock || flock(lock.get(), LOCK_EX) != 0) {
        return errno_error("lock " + directory + "/subscriptions");
    }
    Result<Stored> stored = load(layout);
    if (!stored) {
        return stored.error();
    }
    const bool changed = on ? stored->names.insert(name).second : stored->names.erase(name) != 0;
    if (!changed) {
        return {};
    }
    std::string text = stored->version2 ? std::string(kVersion2) + "\n\n" : std::string();
    for (const std::string& each : stored->names) {
        const char separator = stored->version2 ? '\t' : layout.disk_separator();
        const std::string disk = each == "INBOX" ? each : layout.to_disk(each, separator);
        if (!disk.empty()) {
            text += disk + "\n";
        }
    }
    return replace(directory + "/subscriptions", text);
}

}  // namespace postern::store
