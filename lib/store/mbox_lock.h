/// Locks on an mbox file, as Dovecot's mbox_write_locks = dotlock fcntl and mbox_read_locks = fcntl.
#pragma once

#include <string>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern::store {

/// The open file, locked as long as the object lives.
class MboxLock {
public:
    enum class Mode : unsigned char { read, write };
    /// Waits up to kPatience seconds.  A directory in which we may not write has no dot lock: fcntl alone then.
    /// Errors: not_found, temporary (somebody else has it), denied, io.
    static Result<MboxLock> take(const std::string& path, Mode mode);
    MboxLock(MboxLock&& other) noexcept;
    MboxLock& operator=(MboxLock&& other) noexcept;
    ~MboxLock();

    int fd() const { return file_.get(); }

private:
    MboxLock() = default;
    Result<void> take_dot_lock(const std::string& path);
    UniqueFd file_;
    std::string dot_lock_;          ///< its path while we hold it
};

}  // namespace postern::store
