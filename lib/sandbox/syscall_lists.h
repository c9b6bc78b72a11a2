/// The system calls of each family, by name: names that an architecture or libseccomp does not know are skipped.
#pragma once

#include <string_view>

namespace postern::syscall_lists {

/// What the C library, threads, libevent, OpenSSL and reading of files need.
inline constexpr std::string_view kBase =
    "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 close close_range "
    "fstat fstat64 newfstatat fstatat64 stat stat64 lstat lstat64 statx lseek _llseek statfs fstatfs statfs64 fstatfs64 "
    "mmap mmap2 munmap mprotect mremap madvise brk mlock mlock2 munlock mincore membarrier pkey_alloc pkey_mprotect "
    "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack sigreturn "
    "poll ppoll select _newselect pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 "
    "eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4 pipe pipe2 dup dup2 dup3 fcntl "
    "fcntl64 socketpair connect accept accept4 bind listen getsockname getpeername getsockopt setsockopt "
    "sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg send recv shutdown socketcall sendfile sendfile64 splice tee "
    "set_robust_list get_robust_list rseq set_tid_address gettid getpid getppid futex futex_time64 futex_waitv "
    "sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min "
    "sched_setscheduler nanosleep clock_nanosleep clock_nanosleep_time64 clock_gettime clock_gettime64 clock_getres "
    "clock_getres_time64 gettimeofday time times getrandom getuid geteuid getgid getegid getgroups getresuid getresgid "
    "getuid32 geteuid32 getgid32 getegid32 getgroups32 getpgrp getpgid getsid uname sysinfo getrlimit ugetrlimit "
    "prlimit64 getrusage getcpu exit exit_group tgkill tkill restart_syscall alarm setitimer getitimer prctl arch_prctl "
    "access faccessat faccessat2 readlink readlinkat getcwd getdents getdents64 fadvise64 fadvise64_64 readahead "
    "wait4 waitid waitpid capget umask chdir fchdir timer_create timer_settime timer_delete timer_gettime uretprobe";

/// Making and changing files.
inline constexpr std::string_view kFiles =
    "open openat openat2 creat mkdir mkdirat mknod mknodat unlink unlinkat rmdir rename renameat renameat2 link linkat "
    "symlink symlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat chown32 fchown32 lchown32 utime "
    "utimes futimesat utimensat utimensat_time64 truncate ftruncate truncate64 ftruncate64 fallocate fsync fdatasync "
    "sync_file_range syncfs msync flock copy_file_range inotify_init inotify_init1 inotify_add_watch inotify_rm_watch "
    "getxattr lgetxattr fgetxattr setxattr fsetxattr listxattr flistxattr memfd_create name_to_handle_at kill "
    "semget semop semctl semtimedop shmget shmat shmdt shmctl io_setup io_submit io_getevents io_destroy setpriority";

/// Starting processes and changing user.
inline constexpr std::string_view kLauncher =
    "fork vfork clone clone3 setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups setuid32 "
    "setgid32 setreuid32 setregid32 setresuid32 setresgid32 setgroups32 setsid setpgid capset chroot seccomp "
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self setrlimit pidfd_open pidfd_send_signal "
    "rt_sigqueueinfo sched_setaffinity getpriority";

/// Nothing a mail server or a user's mail program does.
inline constexpr std::string_view kDangerous =
    "ptrace process_vm_readv process_vm_writev mount umount umount2 pivot_root move_mount open_tree fsopen fsmount "
    "fsconfig fspick mount_setattr kexec_load kexec_file_load bpf init_module finit_module delete_module reboot swapon "
    "swapoff iopl ioperm perf_event_open userfaultfd setns unshare acct quotactl quotactl_fd settimeofday clock_settime "
    "clock_settime64 adjtimex clock_adjtime clock_adjtime64 stime vhangup open_by_handle_at pidfd_getfd modify_ldt "
    "lookup_dcookie uselib nfsservctl io_uring_setup io_uring_enter io_uring_register";

/// Where nothing is executed, an attempt to execute is an attack.
inline constexpr std::string_view kExecute = "execve execveat";

}  // namespace postern::syscall_lists
