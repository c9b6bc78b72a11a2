#include "tools/queue_surgery.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <memory>
#include <string_view>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/listing/listing.h"
#include "lib/log/log.h"
#include "lib/queue/journal.h"
#include "lib/queue/maildrop.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"

namespace postern::tools {
namespace {

constexpr std::int64_t kStale = 86400;
constexpr std::size_t kShortMicroseconds = 5, kLongPrefix = 10;

bool journal_expire(const std::string& path, bool now) {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
    if (!file) {
        return false;
    }
    struct stat before {};
    ::fstat(file.get(), &before);
    queue::JournalRecord record;
    record.kind = queue::kJournalExpire;
    record.time_usec = static_cast<std::int64_t>(::time(nullptr)) * 1'000'000;
    record.value_usec = now ? 1 : 0;
    const Result<void> written = queue::append_journal(file.get(), {record});
    if (!written) {
        log_warning("{}: {}", path, written.error().what);
        return false;
    }
    const timespec times[2] = {before.st_atim, before.st_mtim};   // the time of the next attempt
    ::futimens(file.get(), times);
    return true;
}

/// Before a message leaves incoming/ or hold/: a killed cleanup may have left its source (rule 4 of lib/queue/maildrop.h).
/// False, with errno, when that cannot be made sure.
bool settle_source(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) {
        return false;
    }
    const Result<queue::QueueFile> content = queue::QueueFile::read(file.get());
    const Result<void> settled = content ? queue::remove_maildrop_source(content->envelope(), file.get()) : Result<void>();
    if (!settled) {
        log_warning("{}", settled.error().what);
    }
    return settled.ok();
}

bool operate_in(Surgery surgery, const std::string& queue, const std::string& id) {
    const std::string path = queue::queue_path(queue, id);
    const bool leaves = surgery != Surgery::hold && surgery != Surgery::expire && (queue == "incoming" || queue == "hold");
    if (leaves && !settle_source(path)) {
        return false;
    }
    switch (surgery) {
    case Surgery::remove:
        return ::unlink(path.c_str()) == 0;
    case Surgery::hold:
        return queue != "hold" && queue::rename_without_replacing(path, queue::queue_path("hold", id));
    case Surgery::release:
        ::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);   // due now
        return queue == "hold" && queue::rename_without_replacing(path, queue::queue_path("deferred", id));
    case Surgery::requeue:
        return queue::rename_without_replacing(path, queue::queue_path("maildrop", id));
    case Surgery::expire:
        return journal_expire(path, false);
    case Surgery::expire_now:
        if (!journal_expire(path, true)) {
            return false;
        }
        return queue != "hold" || queue::rename_without_replacing(path, queue::queue_path("deferred", id));
    }
    return false;
}

}  // namespace

std::vector<std::string> default_queues(Surgery surgery) {
    switch (surgery) {
    case Surgery::remove:
        return {"maildrop", "incoming", "active", "deferred", "hold"};
    case Surgery::hold:
        return {"incoming", "active", "deferred"};
    case Surgery::release:
        return {"hold"};
    default:
        return {"incoming", "active", "deferred", "hold"};
    }
}

bool operate(Surgery surgery, const std::string& queue_id, const std::vector<std::string>& queues) {
    for (int pass = 0; pass < 2; ++pass) {
        for (const std::string& queue : queues) {
            if (operate_in(surgery, queue, queue_id)) {
                return true;
            }
            if (errno != ENOENT && errno != 0) {
                const int reason = errno;
                struct stat info {};
                if (::lstat(queue::queue_path(queue, queue_id).c_str(), &info) == 0) {
                    log_warning("{}{}", queue::queue_path(queue, queue_id), errno_error("", reason).what);
                }
            }
        }
    }
    return false;
}

std::size_t purge_temporary(const std::vector<std::string>& queues) {
    std::size_t count = 0;
    const std::int64_t now = ::time(nullptr);
    for (const std::string& queue : queues) {
        const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(queue.c_str()), &::closedir);
        while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr) {
            if (std::string_view(entry->d_name).substr(0, 4) != "tmp.") {
                continue;
            }
            struct stat info {};
            const bool stale = ::fstatat(::dirfd(directory.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                               S_ISREG(info.st_mode) && info.st_mtime < now - kStale;
            if (stale && ::unlinkat(::dirfd(directory.get()), entry->d_name, 0) == 0) {
                ++count;
            }
        }
    }
    return count;
}

std::string id_for_inode(const std::string& queue_id, std::uint64_t inode) {
    const bool long_form = queue_id.find_first_not_of("0123456789ABCDEF") != std::string::npos;
    const std::string fresh = queue::make_queue_id(0, inode, long_form);
    const std::size_t prefix = long_form ? kLongPrefix : kShortMicroseconds;
    return queue_id.substr(0, prefix) + fresh.substr(prefix);
}

std::size_t fix_names(const std::vector<std::string>& queues,
                      const std::function<void(const std::string& from, const std::string& to)>& renamed) {
    std::size_t count = 0;
    for (const std::string& queue : queues) {
        for (const std::string& id : queue_ids_in(queue)) {
            struct stat info {};
            const std::string path = queue::queue_path(queue, id);
            if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
                continue;
            }
            // A random number is nobody's inode, and the same anywhere.
            const std::string right = queue::has_random_number(id) ? id : id_for_inode(id, info.st_ino);
            if (right != id && queue::rename_without_replacing(path, queue::queue_path(queue, right))) {
                renamed(id, right);
                ++count;
            }
        }
    }
    return count;
}

}  // namespace postern::tools
