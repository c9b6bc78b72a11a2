/// Taking on a user's rights in one thread, for one piece of work.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "lib/base/result.h"

namespace postern {

/// A user's ids, with supplementary groups.
struct UserIdentity {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
};

/// From the system's user database.  Blocks (name services): use offload().
/// Errors: not_found; temporary when the database cannot answer.
Result<UserIdentity> find_user(const std::string& name);

/// While it lives, the calling thread (and no other) opens files as `user`.  Linux keeps ids per thread; only the C
/// library spreads a change to all of them, so the raw system calls are used.  Must be destroyed in the thread that
/// made it.  When the old ids cannot be had back the process ends with panic().
///
/// A process without CAP_SETUID can only take on its own ids, which always works.
class ThreadIdentity {
public:
    /// Errors: denied.  uid 0 is refused unless the thread has it already.
    static Result<ThreadIdentity> assume(const UserIdentity& user);

    ThreadIdentity(ThreadIdentity&& other) noexcept;
    ThreadIdentity& operator=(ThreadIdentity&&) = delete;
    ~ThreadIdentity();

private:
    ThreadIdentity() = default;
    void restore();

    bool active_ = false;
    uid_t uid_ = 0;
    gid_t gid_ = 0;
    std::vector<gid_t> groups_;
};

}  // namespace postern
