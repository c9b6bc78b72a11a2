#include "lib/sandbox/sandbox.h"

#include <grp.h>
#include <pwd.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "lib/base/sanitizer.h"
#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/log/log.h"
#include "lib/sandbox/identity.h"

namespace postern {

int make_landlock_ruleset(const FilePaths& paths);   // landlock.cc
bool enter_landlock_ruleset(int ruleset);

namespace {

constexpr std::string_view kSystemPaths =
    "/etc /usr /lib /lib64 /lib32 /var/lib/sss /run/systemd /run/nscd /var/run/nscd /run/sss /run/dbus /dev/null "
    "/dev/zero /dev/urandom /dev/random /proc/self /proc/sys /proc/cpuinfo /proc/meminfo /sys/devices/system/cpu";

std::string reason() { return errno_error("", errno).what; }

/// Names in Rights, replaced by what they stand for.
std::string expand(std::string_view list, const ConfineContext& context) {
    std::string out;
    for (const std::string& word : split(list, " ")) {
        std::string path = word;
        if (word == "system") {
            path = kSystemPaths;
        } else if (word[0] == '$') {
            const std::size_t slash = word.find('/');
            const std::string name = word.substr(1, slash == word.npos ? word.npos : slash - 1);
            const std::string* value = name == "queue_directory"    ? &context.queue_directory
                                       : name == "config_directory" ? &context.config_directory
                                       : name == "data_directory"   ? &context.data_directory
                                                                    : nullptr;
            if (value == nullptr) {
                panic("rights name an unknown directory {}", word);
            }
            path = *value + (slash == word.npos ? "" : word.substr(slash));
        }
        out += path + " ";
    }
    return out;
}

bool lists_everything(std::string_view list) {
    for (const std::string& word : split(list, " ")) {
        if (word == kEverywhere) {
            return true;
        }
    }
    return false;
}

void enter_chroot(const std::string& directory) {
    if (!directory.empty() && (::chroot(directory.c_str()) != 0 || ::chdir("/") != 0)) {
        fatal("chroot {}{}", directory, reason());
    }
}

/// Every id of the process becomes the user's; there is no way back without capabilities.
void become(const UserIdentity& user, bool keep_caps) {
    if (keep_caps && ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) {
        fatal("keep capabilities{}", reason());
    }
    if (::setgroups(user.groups.size(), user.groups.data()) != 0 || ::setresgid(user.gid, user.gid, user.gid) != 0 ||
        ::setresuid(user.uid, user.uid, user.uid) != 0) {
        fatal("change to uid {} gid {}{}", user.uid, user.gid, reason());
    }
}

struct FreeCap {
    void operator()(void* state) const { ::cap_free(state); }
};

std::vector<cap_value_t> parse_capabilities(std::string_view capabilities) {
    std::vector<cap_value_t> values;
    for (const std::string& name : split(capabilities, ", ")) {
        cap_value_t value = 0;
        if (::cap_from_name(name.c_str(), &value) != 0) {
            panic("rights name an unknown capability {}", name);
        }
        values.push_back(value);
    }
    return values;
}

void notice_missing(std::string_view what) {
    log_info("this kernel has no {}; going on without it{}", what, reason());
}

/// What is left to do for an ordinary user and for root alike.
void apply_filters(const Rights& rights, const UniqueFd& ruleset, bool filter_loaded) {
    const bool may_gain_rights = rights.syscalls == Syscalls::delivery;
    if (!may_gain_rights && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        fatal("no_new_privs{}", reason());
    }
    if (kSanitizer) {
        log_debug("sanitizers: system call filter and Landlock are left out");
        return;
    }
    if (ruleset && !enter_landlock_ruleset(ruleset.get())) {
        notice_missing("Landlock");
    }
    if (!filter_loaded && !may_gain_rights && !restrict_syscalls(rights.syscalls)) {
        notice_missing("seccomp filters");
    }
}

UniqueFd prepare_landlock(const Rights& rights, const ConfineContext& context) {
    const FilePaths paths{.readable = expand(rights.readable, context) + context.extra_readable,
                          .writable = expand(rights.writable, context) + context.extra_writable};
    if (kSanitizer || rights.syscalls == Syscalls::delivery || lists_everything(paths.readable) ||
        lists_everything(paths.writable)) {
        return UniqueFd();
    }
    UniqueFd ruleset(make_landlock_ruleset(paths));
    if (!ruleset) {
        notice_missing("Landlock");
    }
    return ruleset;
}

}  // namespace

void drop_bounding_set(std::string_view capabilities) {
    const std::vector<cap_value_t> kept = parse_capabilities(capabilities);
    for (cap_value_t value = 0; value <= CAP_LAST_CAP; ++value) {
        const bool keep = std::find(kept.begin(), kept.end(), value) != kept.end();
        if (!keep && CAP_IS_SUPPORTED(value) && ::cap_get_bound(value) == 1 && ::cap_drop_bound(value) != 0) {
            log_debug("capability {} stays in the bounding set{}", value, reason());
        }
    }
}

void keep_capabilities(std::string_view capabilities) {
    const std::vector<cap_value_t> kept = parse_capabilities(capabilities);
    const std::unique_ptr<void, FreeCap> state(::cap_init());
    auto* const caps = static_cast<cap_t>(state.get());
    if (!kept.empty()) {
        ::cap_set_flag(caps, CAP_PERMITTED, static_cast<int>(kept.size()), kept.data(), CAP_SET);
        ::cap_set_flag(caps, CAP_EFFECTIVE, static_cast<int>(kept.size()), kept.data(), CAP_SET);
    }
    if (::cap_set_proc(caps) != 0) {
        fatal("give up capabilities{}", reason());
    }
}

void confine(const Rights& rights, const ConfineContext& context) {
    const UniqueFd ruleset = prepare_landlock(rights, context);
    if (::geteuid() != 0) {
        log_debug("not root: user, capabilities and chroot stay as they are");
        apply_filters(rights, ruleset, false);
        return;
    }
    const bool stay_root = rights.user == "root" || rights.user.empty();
    const bool change_user = !stay_root && !context.keep_user;
    UserIdentity user;
    if (change_user) {
        const Result<UserIdentity> found = find_user(context.user_name);
        if (!found) {
            fatal("{}: {}", rights.user, found.error().what);
        }
        user = *found;
    }
    enter_chroot(rights.chroot.empty() ? std::string() : context.chroot_directory);
    const bool delivery = rights.syscalls == Syscalls::delivery;
    // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is loaded while that is still here.
    const bool filter_loaded = delivery && !kSanitizer && restrict_syscalls(rights.syscalls);
    if (delivery && !kSanitizer && !filter_loaded) {
        notice_missing("seccomp filters");
    }
    if (!delivery && (stay_root || change_user)) {
        drop_bounding_set(rights.capabilities);   // needs CAP_SETPCAP, which goes with the user
    }
    if (change_user) {
        become(user, !rights.capabilities.empty());
    }
    if (stay_root || change_user) {
        keep_capabilities(rights.capabilities);
    }
    apply_filters(rights, ruleset, filter_loaded);
}

}  // namespace postern
