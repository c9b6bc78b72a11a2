#include "lib/sandbox/identity.h"

#include <grp.h>
#include <pwd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "lib/log/log.h"

namespace postern {
namespace {

constexpr auto kKeep = static_cast<unsigned>(-1);

bool set_groups(const std::vector<gid_t>& groups) {
    return ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0;
}
bool set_effective_gid(gid_t gid) { return ::syscall(SYS_setresgid, kKeep, gid, kKeep) == 0; }
bool set_effective_uid(uid_t uid) { return ::syscall(SYS_setresuid, kKeep, uid, kKeep) == 0; }

std::vector<gid_t> thread_groups() {
    const int count = ::getgroups(0, nullptr);
    std::vector<gid_t> groups(count > 0 ? static_cast<std::size_t>(count) : 0);
    if (count > 0 && ::getgroups(count, groups.data()) != count) {
        panic("getgroups: the groups changed");
    }
    return groups;
}

}  // namespace

Result<UserIdentity> find_user(const std::string& name) {
    std::vector<char> buffer(4096);
    passwd entry{};
    passwd* found = nullptr;
    int status = ERANGE;
    while ((status = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found)) == ERANGE) {
        if (buffer.size() > (1U << 20)) {
            break;
        }
        buffer.resize(buffer.size() * 2);
    }
    if (found == nullptr) {
        const bool unknown = status == 0 || status == ENOENT || status == ESRCH;
        return unknown ? Error(Errc::not_found, "unknown user: \"" + name + "\"")
                       : Error(Errc::temporary, errno_error("look up user \"" + name + "\"", status).what);
    }
    UserIdentity user{.uid = entry.pw_uid, .gid = entry.pw_gid, .groups = {}};
    int count = 32;
    user.groups.resize(32);
    while (::getgrouplist(name.c_str(), user.gid, user.groups.data(), &count) < 0 && count < 65536) {
        user.groups.resize(static_cast<std::size_t>(count) * 2);
        count = static_cast<int>(user.groups.size());
    }
    user.groups.resize(static_cast<std::size_t>(count));
    return user;
}

Result<ThreadIdentity> ThreadIdentity::assume(const UserIdentity& user) {
    ThreadIdentity identity;
    identity.uid_ = ::geteuid();
    identity.gid_ = ::getegid();
    if (user.uid == identity.uid_ && user.gid == identity.gid_) {
        return identity;
    }
    if (user.uid == 0) {
        return Error(Errc::denied, "take on uid 0: refused");
    }
    identity.groups_ = thread_groups();
    if (!set_groups(user.groups)) {
        return errno_error("setgroups");
    }
    identity.active_ = true;   // from here the destructor restores
    if (!set_effective_gid(user.gid)) {
        return errno_error("setresgid");
    }
    if (!set_effective_uid(user.uid)) {
        return errno_error("setresuid");
    }
    return identity;
}

ThreadIdentity::ThreadIdentity(ThreadIdentity&& other) noexcept
    : active_(std::exchange(other.active_, false)), uid_(other.uid_), gid_(other.gid_), groups_(std::move(other.groups_)) {}

ThreadIdentity::~ThreadIdentity() {
    if (active_) {
        restore();
    }
}

/// The uid first: with it comes the right to change groups.
void ThreadIdentity::restore() {
    if (!set_effective_uid(uid_) || !set_effective_gid(gid_) || !set_groups(groups_) || ::geteuid() != uid_ ||
        ::getegid() != gid_) {
        panic("cannot return to uid {} gid {} from uid {} gid {}", uid_, gid_, ::geteuid(), ::getegid());
    }
}

}  // namespace postern
