/// What a process may do once it has started, and how the rest is taken away.
///
/// Each program states its rights in one constexpr table where it starts (see Rights).  confine() applies it
/// in the only order that works: files and names are looked up first, then chroot, user, capabilities,
/// no_new_privs, Landlock and at last the system call filter.
///
/// As root everything is applied, and what fails is fatal.  As an ordinary user (the whole suite in one
/// directory) user, capabilities and chroot are skipped; Landlock and the filter still work.  A kernel without
/// Landlock or seccomp costs one line in the log.  Under sanitizers those two are left out, because their
/// run-time needs calls that no mail server makes.
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// Families of system calls (seccomp).  A call outside the family fails with ENOSYS; calls that only an attacker
/// would make (ptrace, mount, bpf, and execve where nothing is executed) end the process.
enum class Syscalls : unsigned char {
    unrestricted,
    network_only,   ///< sockets, memory, threads, reading files; nothing that makes or changes a file; no new process
    files,          ///< also creating and changing files
    session,        ///< files, and sockets of the network only those that were passed to it, and to make files with the
                    ///< saved group (identity.h): a user's session
    launcher,       ///< files, and also fork and changing user: starts session processes
    delivery,       ///< everything but administration of the machine: runs users' programs, which inherit this.
                    ///< no_new_privs is not set and the bounding set is kept, so that those programs may be setgid
                    ///< (postdrop) or setuid
};

/// Everywhere: no Landlock for Rights::readable or writable.
inline constexpr std::string_view kEverywhere = "/";

struct Rights {
    /// Name of the parameter that holds the user: "mail_owner", "network_owner", "auth_owner"; "root" stays uid 0 with
    /// no more than `capabilities`.
    std::string_view user = "mail_owner";
    /// Capabilities that stay, as "cap_setuid,cap_setgid"; "" none.
    std::string_view capabilities = "";
    /// Name of the parameter that holds the new root directory ("queue_directory"), "" for none.
    std::string_view chroot = "";
    /// Directories and files separated by blanks, as seen before chroot.  $queue_directory, $config_directory
    /// and $data_directory stand for those.  "" is nothing, kEverywhere leaves Landlock out.  "system" stands for
    /// what libraries read (/etc, /usr, /lib*, time zones, /dev/{null,urandom}, /proc/self, /run for name services).
    std::string_view readable = "";
    /// Likewise; implies readable.
    std::string_view writable = "";
    Syscalls syscalls = Syscalls::network_only;
};

/// What the names in Rights stand for here.
struct ConfineContext {
    std::string user_name{};             ///< value of the parameter that Rights::user names; not used for "root"
    std::string chroot_directory{};      ///< value of the parameter that Rights::chroot names; empty: no chroot
                                       ///< (master.cf says "n")
    std::string queue_directory{};
    std::string config_directory{};
    std::string data_directory{};
    bool keep_user = false;            ///< master.cf says "n" in the unpriv column: user and capabilities stay as they
                                       ///< are, unless the rights themselves say "root"
    std::string extra_readable{};        ///< more paths, from settings such as tables' directories; blank separated
    std::string extra_writable{};
};

/// Gives up everything that `rights` does not list.  Call it before threads are started and before anything from
/// outside is read.  Ends the process (fatal) when rights cannot be given up.
void confine(const Rights& rights, const ConfineContext& context);

/// The paths a Landlock rule set is made from; public for tests and for session processes that confine themselves
/// further.
struct FilePaths {
    std::string readable{};   ///< blank separated; paths that do not exist are left out
    std::string writable{};
};
/// Limits the calling thread and its future children to these files.  Needs no_new_privs or CAP_SYS_ADMIN.
/// False (errno ENOSYS, EOPNOTSUPP) when the kernel has no Landlock.
bool restrict_files(const FilePaths& paths);

/// Landlock's version in this kernel, 0 for none.
int landlock_version();

/// Loads the filter for `profile`.  False when the kernel has no seccomp.
bool restrict_syscalls(Syscalls profile);

/// A filter made once, for a program that forks many processes which load it: making one takes longer than a fork.
class PreparedFilter {
public:
    /// Empty when the kernel or the library cannot; load() then says so.
    explicit PreparedFilter(Syscalls profile);
    /// In the process to be limited, which has one thread and no_new_privs.  False as restrict_syscalls().
    bool load() const;

private:
    std::string program_;   ///< sock_filter instructions
};

/// Keeps only `capabilities` ("cap_setuid,cap_setgid"; "" none) as permitted and effective.  Ends the process when
/// the kernel refuses.
void keep_capabilities(std::string_view capabilities);
/// Takes all but `capabilities` out of the bounding set, so that executing a program cannot bring them back.
void drop_bounding_set(std::string_view capabilities);

}  // namespace postern
