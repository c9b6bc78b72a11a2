/// postern-master - starts, watches and restarts all other programs of the mail system.
///
///     postern-master [-c directory] [-v] [-w | -i | -s | -d | -t]
///
///     -w  become a daemon; return when all sockets are open       -i, -s, -d  stay in the foreground
///     -t  exit status 0 when no master runs this queue, else 1
///
/// Signals: SIGHUP reads the configuration again; SIGTERM and SIGINT stop in good order; SIGQUIT at once.
/// Speaks to: its children, by the descriptors they inherit (service.h) and the status bytes they send; systemd, by
/// sd_notify.  It never reads mail, and parses nothing but main.cf, master.cf and those bytes.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "lib/async/loop.h"
#include "lib/config/version.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"
#include "lib/sandbox/sandbox.h"
#include "master/instance.h"
#include "master/supervisor.h"

namespace {

using namespace postern;
using namespace postern::master;

/// Root with what is needed to bind low ports, to make sockets in directories of mail_owner, and to signal children
/// of other users.  Children are executed as root and give up their own rights (service.h), so the bounding set stays.
constexpr std::string_view kCapabilities =
    "cap_net_bind_service,cap_kill,cap_chown,cap_fowner,cap_dac_override,cap_setuid,cap_setgid,cap_sys_chroot";

struct Options {
    std::string directory = Config::default_directory();
    bool foreground = true;
    bool test_only = false;
    int verbosity = 0;
};

Options parse_options(int argc, char** argv) {
    Options options;
    for (int option; (option = ::getopt(argc, argv, "c:vwisdt")) != -1;) {
        switch (option) {
        case 'c': options.directory = optarg; break;
        case 'v': ++options.verbosity; break;
        case 'w': options.foreground = false; break;
        case 't': options.test_only = true; break;
        case 'i': case 's': case 'd': break;
        default: fatal("usage: {} [-c directory] [-v] [-w | -i | -s | -d | -t]", argv[0]);
        }
    }
    if (optind != argc) {
        fatal("usage: {} [-c directory] [-v] [-w | -i | -s | -d | -t]", argv[0]);
    }
    return options;
}

void open_log(const Config& config, const Options& options, bool echo) {
    LogDestination destination = log_destination(config);
    destination.verbosity = options.verbosity;
    destination.echo_stderr = echo;
    log_open(config.syslog_name() + "/master", std::move(destination));
}

/// Services serve many clients in one process: the usual soft limit of 1024 descriptors is not for them.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536) {
        limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/// The parent waits here until the daemon says that it is ready (one byte), then exits.  Returns, in the daemon, the
/// descriptor to say it on.
UniqueFd become_daemon(InstanceLock& lock) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        fatal("{}", errno_error("pipe").what);
    }
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    const pid_t pid = ::fork();
    if (pid < 0) {
        fatal("{}", errno_error("fork").what);
    }
    if (pid > 0) {
        write_end.reset();
        lock.disown();
        char ready = 0;
        const bool is_ready = ::read(read_end.get(), &ready, 1) == 1;
        ::_exit(is_ready ? 0 : 1);   // the daemon has said why
    }
    ::setsid();
    return write_end;
}

void silence_standard_descriptors() {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        ::dup2(null.get(), fd);
    }
}

/// What this process may have and do, and its children after it.
void limit_process() {
    raise_descriptor_limit();
    if (::geteuid() == 0) {
        keep_capabilities(kCapabilities);
    }
    std::signal(SIGPIPE, SIG_IGN);
}

void take_signals(Loop& loop, Supervisor& supervisor) {
    const auto stop = [&supervisor](int number) {
        return [&supervisor, number] {
            log_info("terminating on signal {}", number);
            supervisor.stop();
        };
    };
    loop.on_signal(SIGCHLD, [&supervisor] { supervisor.reap(); });
    loop.on_signal(SIGTERM, stop(SIGTERM));
    loop.on_signal(SIGINT, stop(SIGINT));
    loop.on_signal(SIGQUIT, [&supervisor] {
        log_info("terminating on signal {}", SIGQUIT);
        supervisor.abort();
    });
    loop.on_signal(SIGHUP, [&supervisor] {
        log_reopen();
        supervisor.reload();
    });
}

/// Whoever has started us may go on.
void tell_starter(UniqueFd ready) {
    silence_standard_descriptors();
    [[maybe_unused]] const ssize_t told = ::write(ready.get(), "R", 1);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    ::close_range(3, ~0U, 0);   // a lock or a pipe of who starts us would stay open as long as the suite runs
    ::setenv("MAIL_CONFIG", options.directory.c_str(), 1);
    Result<LoadedPlan> loaded = load_plan(options.directory);
    if (!loaded) {
        fatal("{}", loaded.error().what);
    }
    open_log(loaded->config, options, true);
    if (options.test_only) {
        return running_master(loaded->config.queue_directory()) ? 1 : 0;
    }
    if (::chdir(loaded->config.queue_directory().c_str()) != 0) {
        fatal("{}", errno_error("chdir " + loaded->config.queue_directory()).what);
    }
    ::umask(022);
    Result<InstanceLock> lock = InstanceLock::take();
    if (!lock) {
        fatal("{}", lock.error().what);
    }
    UniqueFd ready = options.foreground ? UniqueFd() : become_daemon(*lock);
    if (Result<void> written = lock->write_pid(); !written) {
        fatal("{}", written.error().what);
    }
    limit_process();
    for (const std::string& notice : loaded->plan.notices) {
        log_warning("{}", notice);
    }

    Supervisor supervisor(*std::move(loaded), {options.directory, options.verbosity});
    Loop& loop = Loop::current();
    take_signals(loop, supervisor);
    supervisor.on_done([&loop] { loop.stop(); });
    if (Result<void> started = supervisor.start(); !started) {
        fatal("{}", started.error().what);
    }
    log_info("daemon started -- version {}, configuration {}", kVersion, options.directory);
    if (ready) {
        tell_starter(std::move(ready));
    }
    supervisor.notify_ready();
    loop.run();
    return 0;
}
