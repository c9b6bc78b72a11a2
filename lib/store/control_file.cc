#include "lib/store/control_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

namespace postern::store {
namespace {

constexpr std::size_t kMaxFile = 16u << 20;

}  // namespace

Result<std::optional<std::string>> read_control_file(const std::string& path) {
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

Result<void> replace_control_file(const std::string& path, const std::string& text) {
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
    const UniqueFd directory(open(path.substr(0, path.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || fsync(directory.get()) != 0) {
        return errno_error("sync the directory of " + path);
    }
    return {};
}

Result<UniqueFd> lock_control_file(const std::string& path) {
    UniqueFd lock(open((path + ".lock-postern").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock || flock(lock.get(), LOCK_EX) != 0) {
        return errno_error("lock " + path);
    }
    return lock;
}

}  // namespace postern::store
