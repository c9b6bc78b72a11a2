/// Locks on an mbox file, as Dovecot's mbox_read_locks and mbox_write_locks name them.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern::store {

enum class MboxLockKind : unsigned char { fcntl, flock, dotlock };   ///< lockf(3) is fcntl on Linux

/// Which locks are taken, in order, and how patiently.  A list without a lock is one that other programs must not need.
struct MboxLocking {
    std::vector<MboxLockKind> read = {MboxLockKind::fcntl};
    std::vector<MboxLockKind> write = {MboxLockKind::fcntl, MboxLockKind::dotlock};
    std::chrono::seconds timeout{5};      ///< for each of them; meanwhile the user's other sessions wait too
    /// Where the user may make no lock file, it is made with the process's saved group (lib/sandbox/identity.h), if there is one;
    /// where that may not either, taking the lock fails.  Of folders, only for Folder::spool.
    bool privileged = false;
    std::chrono::seconds stale{120};      ///< after which the owner of a lock file that stays the same must be dead
};

/// From the words of mbox_read_locks or mbox_write_locks, which are known to be valid.
std::vector<MboxLockKind> parse_mbox_locks(std::string_view words);

/// The open file, locked as long as the object lives.
class MboxLock {
public:
    enum class Mode : unsigned char { read, write };
    /// A directory in which we may not write has no dot lock: it is left out then, unless MboxLocking::privileged.
    /// Errors: not_found, temporary (somebody else has it), denied, io.
    static Result<MboxLock> take(const std::string& path, Mode mode, const MboxLocking& locking = {});
    MboxLock(MboxLock&& other) noexcept;
    MboxLock& operator=(MboxLock&& other) noexcept;
    ~MboxLock();

    int fd() const { return file_.get(); }

private:
    MboxLock() = default;
    Result<void> take_dot_lock(const std::string& path, const MboxLocking& locking);
    Result<void> take_kernel_lock(const std::string& path, MboxLockKind kind, Mode mode, std::chrono::seconds timeout);
    UniqueFd file_;
    std::string dot_lock_;          ///< its path while we hold it
    bool privileged_ = false;       ///< made with the saved group
};

}  // namespace postern::store
