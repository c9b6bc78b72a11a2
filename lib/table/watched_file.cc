#include "lib/table/watched_file.h"

#include <fcntl.h>
#include <time.h>

#include <atomic>

#include "lib/table/table.h"

namespace postern {
namespace {

constexpr std::int64_t kCheckEveryMs = 1000;
std::atomic<bool> stale_table = false;

std::int64_t now_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

bool same_content(const struct stat& a, const struct stat& b) {
    return a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_size == b.st_size;
}

}  // namespace

Result<WatchedFile> WatchedFile::open(const std::string& path) {
    WatchedFile file;
    file.path_ = path;
    file.fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file.fd_ || fstat(file.fd_.get(), &file.info_) != 0) {
        return errno_error("open " + path);
    }
    file.next_check_ms_ = now_ms() + kCheckEveryMs;
    return file;
}

bool WatchedFile::changed() {
    const std::int64_t now = now_ms();
    if (now < next_check_ms_) {
        return false;
    }
    next_check_ms_ = now + kCheckEveryMs;
    struct stat seen {};
    if (stat(path_.c_str(), &seen) == 0) {
        return seen.st_ino != info_.st_ino || seen.st_dev != info_.st_dev || !same_content(seen, info_);
    }
    // The path is out of sight: after chroot, or somebody is just replacing the file.
    if (fstat(fd_.get(), &seen) == 0) {
        return seen.st_nlink == 0 || !same_content(seen, info_);
    }
    return false;
}

void WatchedFile::accept_change() {
    fstat(fd_.get(), &info_);
}

void note_stale_table() {
    stale_table = true;
}

bool tables_are_stale() {
    return stale_table;
}

}  // namespace postern
