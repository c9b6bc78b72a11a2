#include "lib/sandbox/identity.h"

#include <grp.h>
#include <pwd.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "lib/log/log.h"

namespace postern {
namespace {

constexpr auto kKeep = static_cast<unsigned>(-1);

bool set_groups(const std::vector<gid_t>& groups) {
    return ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0;
}
bool set_effective_gid(gid_t gid) { return ::syscall(SYS_setresgid, kKeep, gid, kKeep) == 0; }
bool set_effective_uid(uid_t uid) { return ::syscall(SYS_setresuid, kKeep, uid, kKeep) == 0; }

/// Who this thread is.
struct Identity {
    bool away = false;       ///< it has the ids of `user`
    UserIdentity own, user;
};
thread_local Identity t_identity;

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

Result<gid_t> find_group(const std::string& name) {
    std::vector<char> buffer(65536);
    group entry{};
    group* found = nullptr;
    int status = ERANGE;
    while ((status = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found)) == ERANGE && buffer.size() < (16U << 20)) {
        buffer.resize(buffer.size() * 2);
    }
    if (found == nullptr) {
        const bool unknown = status == 0 || status == ENOENT || status == ESRCH;
        return unknown ? Error(Errc::not_found, "unknown group: \"" + name + "\"")
                       : Error(Errc::temporary, errno_error("look up group \"" + name + "\"", status).what);
    }
    return entry.gr_gid;
}

bool SavedGroup::exists() {
    gid_t real = 0, effective = 0, saved = 0;
    return ::getresgid(&real, &effective, &saved) == 0 && saved != effective;
}

SavedGroup::SavedGroup(bool wanted) {
    gid_t real = 0, effective = 0, saved = 0;
    if (wanted && ::getresgid(&real, &effective, &saved) == 0 && saved != effective) {
        before_ = static_cast<gid_t>(::setfsgid(saved));
        changed_ = true;
    }
}

SavedGroup::~SavedGroup() {
    if (!changed_) {
        return;
    }
    const int error = errno;
    ::setfsgid(before_);
    if (static_cast<gid_t>(::setfsgid(kKeep)) != before_) {   // an id nobody has: only tells
        panic("the thread keeps the saved group");
    }
    errno = error;
}

Result<void> assume_identity(const UserIdentity& user) {
    if (t_identity.away && user.uid == t_identity.user.uid && user.gid == t_identity.user.gid &&
        user.groups == t_identity.user.groups) {
        return {};
    }
    leave_identity();
    UserIdentity& own = t_identity.own;
    own.uid = ::geteuid();
    own.gid = ::getegid();
    if (user.uid == own.uid && user.gid == own.gid) {
        return {};
    }
    if (user.uid == 0) {
        return Error(Errc::denied, "take on uid 0: refused");
    }
    own.groups = thread_groups();
    t_identity.user = user;
    if (!set_groups(user.groups)) {
        return errno_error("setgroups");
    }
    t_identity.away = true;   // from here leave_identity() restores
    if (!set_effective_gid(user.gid)) {
        const int why = errno;
        leave_identity();
        return errno_error("setresgid", why);
    }
    if (!set_effective_uid(user.uid)) {
        const int why = errno;
        leave_identity();
        return errno_error("setresuid", why);
    }
    return {};
}

/// The uid first: with it comes the right to change groups.
void leave_identity() {
    if (!t_identity.away) {
        return;
    }
    const UserIdentity& own = t_identity.own;
    if (!set_effective_uid(own.uid) || !set_effective_gid(own.gid) || !set_groups(own.groups) || ::geteuid() != own.uid ||
        ::getegid() != own.gid) {
        panic("cannot return to uid {} gid {} from uid {} gid {}", own.uid, own.gid, ::geteuid(), ::getegid());
    }
    t_identity.away = false;
}

}  // namespace postern
