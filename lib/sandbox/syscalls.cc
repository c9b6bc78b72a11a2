#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "lib/base/result.h"
#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/log/log.h"
#include "lib/sandbox/sandbox.h"
#include "lib/sandbox/syscall_lists.h"

namespace postern {
namespace {

struct ReleaseFilter {
    void operator()(void* filter) const { ::seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

void add(const Filter& filter, std::uint32_t action, std::string_view names) {
    for (const std::string& name : split(names, " ")) {
        const int number = ::seccomp_syscall_resolve_name(name.c_str());
        if (number == __NR_SCMP_ERROR) {
            continue;   // unknown here; the default action holds
        }
        // -EEXIST: another list has it.  -EDOM: not on this architecture.
        const int status = ::seccomp_rule_add(filter.get(), action, number, 0);
        if (status != 0 && status != -EEXIST && status != -EDOM && status != -EACCES && status != -EOPNOTSUPP) {
            fatal("system call filter: {}: {}", name, errno_error("add", -status).what);
        }
    }
}

void allow_if(const Filter& filter, const char* name, scmp_arg_cmp condition) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number != __NR_SCMP_ERROR) {
        ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, number, 1, condition);
    }
}

/// Only harmless requests: TIOCSTI and friends would let a process type on a terminal it inherited.
void allow_ioctls(const Filter& filter) {
    constexpr unsigned long kRequests[] = {FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TCGETS, TIOCGWINSZ, TIOCOUTQ,
                                           FICLONE, FICLONERANGE};
    for (const unsigned long request : kRequests) {
        allow_if(filter, "ioctl", scmp_arg_cmp{1, SCMP_CMP_EQ, request, 0});
    }
}

/// Files may be opened for reading only.
void allow_reading(const Filter& filter) {
    constexpr unsigned long kChanging = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
    allow_if(filter, "open", scmp_arg_cmp{1, SCMP_CMP_MASKED_EQ, kChanging, 0});
    allow_if(filter, "openat", scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, kChanging, 0});
}

/// clone() may make threads only; glibc falls back to it, since clone3 hides its flags in memory and fails with
/// ENOSYS.
void allow_threads(const Filter& filter) {
    allow_if(filter, "clone", scmp_arg_cmp{0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD});
}

/// A session gets its client's connection as a descriptor; the only ones it makes are to the log.
void allow_sockets(const Filter& filter, Syscalls profile) {
    if (profile == Syscalls::session) {
        allow_if(filter, "socket", scmp_arg_cmp{0, SCMP_CMP_EQ, AF_UNIX, 0});
    } else {
        add(filter, SCMP_ACT_ALLOW, "socket");
    }
}

Filter build(Syscalls profile) {
    using namespace syscall_lists;
    if (profile == Syscalls::delivery) {
        Filter filter(::seccomp_init(SCMP_ACT_ALLOW));
        add(filter, SCMP_ACT_ERRNO(EPERM), kDangerous);
        // Set-id programs that users run must work; the filter is loaded while the process may do so without this.
        ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_NNP, 0);
        return filter;
    }
    Filter filter(::seccomp_init(SCMP_ACT_ERRNO(ENOSYS)));
    add(filter, SCMP_ACT_KILL_PROCESS, kDangerous);
    add(filter, SCMP_ACT_KILL_PROCESS, kExecute);
    add(filter, SCMP_ACT_ALLOW, kBase);
    allow_ioctls(filter);
    allow_sockets(filter, profile);
    if (profile == Syscalls::network_only) {
        allow_reading(filter);
        allow_threads(filter);
    } else {
        add(filter, SCMP_ACT_ALLOW, kFiles);
        if (profile == Syscalls::launcher) {
            add(filter, SCMP_ACT_ALLOW, kLauncher);
        } else {
            allow_threads(filter);
        }
        if (profile == Syscalls::session) {
            add(filter, SCMP_ACT_ALLOW, "setfsgid setfsgid32");   // SavedGroup
        }
    }
    return filter;
}

}  // namespace

bool restrict_syscalls(Syscalls profile) {
    if (profile == Syscalls::unrestricted) {
        return true;
    }
    const Filter filter = build(profile);
    if (filter == nullptr) {
        errno = ENOSYS;
        return false;
    }
    const int status = ::seccomp_load(filter.get());
    errno = -status;
    return status == 0;
}

PreparedFilter::PreparedFilter(Syscalls profile) {
    const Filter filter = build(profile);
    const UniqueFd file(::memfd_create("filter", MFD_CLOEXEC));
    if (filter == nullptr || !file || ::seccomp_export_bpf(filter.get(), file.get()) != 0) {
        return;
    }
    const off_t size = ::lseek(file.get(), 0, SEEK_END);
    program_.resize(static_cast<std::size_t>(size));
    if (::pread(file.get(), program_.data(), program_.size(), 0) != size) {
        program_.clear();
    }
}

bool PreparedFilter::load() const {
    if (program_.empty()) {
        errno = ENOSYS;
        return false;
    }
    sock_fprog program{};
    program.len = static_cast<unsigned short>(program_.size() / sizeof(sock_filter));
    program.filter = reinterpret_cast<sock_filter*>(const_cast<char*>(program_.data()));
    return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace postern
