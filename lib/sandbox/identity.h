/// Taking on a user's rights in one thread.
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

/// A group's id from the system's database.  Blocks, as find_user().  Errors: not_found; temporary.
Result<gid_t> find_group(const std::string& name);

/// While it lives, the calling thread (and no other, but those it starts meanwhile) makes and removes files with the process's
/// saved group id, which needs no capability: the right to do so lies there since the process gave up all others.  Without a
/// saved group id of its own nothing changes.
class SavedGroup {
public:
    /// `wanted` false: nothing changes.
    explicit SavedGroup(bool wanted = true);
    ~SavedGroup();
    SavedGroup(const SavedGroup&) = delete;
    SavedGroup& operator=(const SavedGroup&) = delete;
    /// Whether the process has one.
    static bool exists();

private:
    gid_t before_ = 0;
    bool changed_ = false;
};

/// From now on the calling thread (and no other) opens files as `user`, until it takes on another user or leaves.  Linux
/// keeps ids per thread; only the C library spreads a change to all of them, so the raw system calls are used.  Costs
/// nothing when the thread is `user` already, as the thread of a pool often is.
///
/// A process without CAP_SETUID can only take on its own ids, which always works.
/// Errors: denied.  uid 0 is refused unless the thread has it of its own.  After an error the thread has its own ids.
Result<void> assume_identity(const UserIdentity& user);

/// Back to the thread's own ids.  When these cannot be had back the process ends with panic().
void leave_identity();

}  // namespace postern
