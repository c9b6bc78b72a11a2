#include "lib/store/mbox_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "lib/base/strings.h"
#include "lib/sandbox/identity.h"

namespace postern::store {
namespace {

constexpr useconds_t kPause = 20 * 1000;

using Clock = std::chrono::steady_clock;

Error taken_by_others(const std::string& path) { return Error(Errc::temporary, "lock " + path + ": another program has it"); }

/// What our dot locks say: process and host.
std::string this_process() {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    return std::to_string(getpid()) + " " + host + "\n";
}

/// Only for locks of our own form, made on this host.
bool owner_is_dead(const std::string& lock) {
    char text[300] = "";
    const UniqueFd fd(open(lock.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    const ssize_t n = fd ? read(fd.get(), text, sizeof text - 1) : 0;
    const std::string_view owner(text, static_cast<std::size_t>(n > 0 ? n : 0));
    const std::string mine = this_process();
    const std::size_t space = owner.find(' ');
    if (space == std::string_view::npos || owner.substr(space) != std::string_view(mine).substr(mine.find(' '))) {
        return false;
    }
    const std::optional<std::uint64_t> pid = parse_number(owner.substr(0, space));
    return pid && *pid > 1 && *pid < 0x7fffffff && kill(static_cast<pid_t>(*pid), 0) != 0 && errno == ESRCH;
}

bool is_forbidden(int error) { return error == EACCES || error == EPERM || error == EROFS; }

}  // namespace

MboxLock::MboxLock(MboxLock&& other) noexcept
    : file_(std::move(other.file_)), dot_lock_(std::exchange(other.dot_lock_, std::string())), privileged_(other.privileged_) {}

MboxLock& MboxLock::operator=(MboxLock&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(dot_lock_, other.dot_lock_);
    std::swap(privileged_, other.privileged_);
    return *this;
}

MboxLock::~MboxLock() {
    if (!dot_lock_.empty()) {
        const SavedGroup group(privileged_);
        unlink(dot_lock_.c_str());
    }
}

Result<void> MboxLock::take_dot_lock(const std::string& path, const MboxLocking& locking) {
    const std::string name = path + ".lock";
    const bool may_be_privileged = locking.privileged && SavedGroup::exists();
    for (const Clock::time_point end = Clock::now() + locking.timeout; Clock::now() < end;) {
        const SavedGroup group(privileged_);
        const UniqueFd lock(open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (lock) {
            dot_lock_ = name;
            const std::string owner = this_process();
            // Without it the lock of a dead process only lasts longer.
            const bool noted = write(lock.get(), owner.data(), owner.size()) > 0;
            static_cast<void>(noted);
            return {};
        }
        if (is_forbidden(errno) && may_be_privileged && !privileged_) {
            privileged_ = true;
            continue;
        }
        if (is_forbidden(errno) && !may_be_privileged) {
            return {};
        }
        if (errno != EEXIST) {
            return errno_error("create " + name);
        }
        struct stat status {};
        const bool is_stale = stat(name.c_str(), &status) == 0 && time(nullptr) - status.st_mtime > locking.stale.count();
        if (is_stale || owner_is_dead(name)) {
            const SavedGroup remover(may_be_privileged);
            if (unlink(name.c_str()) == 0) {
                continue;
            }
        }
        usleep(kPause);
    }
    return taken_by_others(path);
}

Result<void> MboxLock::take_kernel_lock(const std::string& path, MboxLockKind kind, Mode mode, std::chrono::seconds timeout) {
    struct flock range {};
    range.l_type = mode == Mode::write ? F_WRLCK : F_RDLCK;
    range.l_whence = SEEK_SET;
    const Clock::time_point end = Clock::now() + timeout;
    const auto attempt = [&] {
        return kind == MboxLockKind::flock ? ::flock(file_.get(), (mode == Mode::write ? LOCK_EX : LOCK_SH) | LOCK_NB)
                                           : ::fcntl(file_.get(), F_SETLK, &range);
    };
    while (attempt() != 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            return errno_error("lock " + path);
        }
        if (Clock::now() >= end) {
            return taken_by_others(path);
        }
        usleep(kPause);
    }
    return {};
}

Result<MboxLock> MboxLock::take(const std::string& path, Mode mode, const MboxLocking& locking) {
    MboxLock lock;
    lock.file_.reset(open(path.c_str(), (mode == Mode::write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status {};
    if (!lock.file_ || fstat(lock.file_.get(), &status) != 0) {
        return errno_error("open " + path);
    }
    if (!S_ISREG(status.st_mode)) {
        return Error(Errc::io, "open " + path + ": not a file");
    }
    for (const MboxLockKind kind : mode == Mode::write ? locking.write : locking.read) {
        const Result<void> taken = kind == MboxLockKind::dotlock ? lock.take_dot_lock(path, locking)
                                                                 : lock.take_kernel_lock(path, kind, mode, locking.timeout);
        if (!taken) {
            return taken.error();
        }
    }
    return lock;
}

std::vector<MboxLockKind> parse_mbox_locks(std::string_view words) {
    std::vector<MboxLockKind> kinds;
    for (const std::string& word : split_list(words)) {
        kinds.push_back(starts_with_ignoring_case(word, "dotlock") ? MboxLockKind::dotlock
                        : equals_ignoring_case(word, "flock")      ? MboxLockKind::flock
                                                                   : MboxLockKind::fcntl);
    }
    return kinds;
}

}  // namespace postern::store
