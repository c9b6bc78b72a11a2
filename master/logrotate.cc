#include "master/logrotate.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include "lib/base/strings.h"

namespace postern::master {
namespace {

constexpr std::chrono::milliseconds kPoll{50};
constexpr std::chrono::seconds kPatience{5};

using OpenDirectory = std::unique_ptr<DIR, int (*)(DIR*)>;

OpenDirectory open_directory(const std::string& path) { return {::opendir(path.c_str()), &::closedir}; }

/// Whether a descriptor in /proc/PID/fd is the file `info` describes.
bool has_open(const std::string& descriptors, const struct stat& info) {
    const OpenDirectory directory = open_directory(descriptors);
    while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr) {
        struct stat open {};
        const bool known = ::stat((descriptors + "/" + entry->d_name).c_str(), &open) == 0;
        if (known && entry->d_name[0] != '.' && open.st_dev == info.st_dev && open.st_ino == info.st_ino) {
            return true;
        }
    }
    return false;
}

/// The processes that have `path` open, but for this one.
std::vector<std::string> holders(const std::string& path) {
    std::vector<std::string> found;
    struct stat info {};
    const OpenDirectory directory = open_directory("/proc");
    if (::stat(path.c_str(), &info) != 0 || !directory) {
        return found;
    }
    const std::string self = std::to_string(::getpid());
    while (const dirent* entry = ::readdir(directory.get())) {
        const std::string name = entry->d_name;
        if (name != self && name.find_first_not_of("0123456789") == std::string::npos && has_open("/proc/" + name + "/fd", info)) {
            found.push_back(name);
        }
    }
    return found;
}

std::vector<std::string> wait_for_holders(const std::string& path) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    std::vector<std::string> left = holders(path);
    while (!left.empty() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(kPoll);
        left = holders(path);
    }
    return left;
}

Result<std::string> dated_name(const Config& config) {
    std::array<char, 256> suffix{};
    const std::time_t now = ::time(nullptr);
    std::tm parts{};
    ::localtime_r(&now, &parts);
    const std::string& format = config.maillog_file_rotate_suffix();
    const bool fits = ::strftime(suffix.data(), suffix.size(), format.c_str(), &parts) > 0;
    if (!fits || std::string_view(suffix.data()).find('/') != std::string_view::npos) {
        return Error(Errc::config, fmt::format("maillog_file_rotate_suffix = {}: accepted: a format of strftime(3) whose result has 1 to "
                                               "255 bytes and no \"/\"", printable(format, 100)));
    }
    return config.maillog_file() + "." + suffix.data();
}

Result<void> compress(const std::string& compressor, const std::string& path) {
    const char* words[] = {compressor.c_str(), path.c_str(), nullptr};
    pid_t child = -1;
    if (const int failure = ::posix_spawnp(&child, compressor.c_str(), nullptr, nullptr, const_cast<char**>(words), environ); failure != 0) {
        return errno_error("maillog_file_compressor: execute " + compressor, failure);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return Error(Errc::io, fmt::format("maillog_file_compressor: {} {} failed with status {}", compressor, path,
                                           WIFEXITED(status) ? WEXITSTATUS(status) : status));
    }
    return {};
}

}  // namespace

Result<std::string> rotate_log(const Config& config, const std::function<Result<void>()>& reopen) {
    const std::string& log = config.maillog_file();
    if (log.empty()) {
        return Error(Errc::config, "maillog_file is empty: there is no file to rotate; lines go to syslog");
    }
    if (log.starts_with("/dev/")) {
        return Error(Errc::config, fmt::format("maillog_file = {}: not a file that can be rotated", log));
    }
    const Result<std::string> rotated = dated_name(config);
    if (!rotated) {
        return rotated.error();
    }
    if (::access(rotated->c_str(), F_OK) == 0) {
        return Error(Errc::exists, *rotated + " exists already");
    }
    if (::rename(log.c_str(), rotated->c_str()) != 0) {
        return errno_error(fmt::format("rename {} to {}", log, *rotated));
    }
    if (const Result<void> told = reopen(); !told) {
        return told.error();
    }
    if (const std::vector<std::string> left = wait_for_holders(*rotated); !left.empty()) {
        return fmt::format("{} is not compressed: processes that began before still write to it ({})", *rotated, fmt::join(left, ", "));
    }
    const Result<void> packed = compress(config.maillog_file_compressor(), *rotated);
    return packed ? Result<std::string>("rotated " + log) : packed.error();
}

}  // namespace postern::master
