#include "master/control.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/check.h"
#include "lib/config/version.h"
#include "lib/dns/trust_anchor.h"
#include "lib/ipc/channel.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"
#include "lib/queue/messages.h"
#include "lib/sasl/password_scheme.h"
#include "master/instance.h"
#include "master/logrotate.h"
#include "master/plan.h"

namespace postern::master {
namespace {

constexpr std::chrono::milliseconds kPoll{20};

/// Says it to the administrator and to the log, as Postfix's script does (open_log() has both done).
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::info, format, fmt::make_format_args(args...));
}

template <class... Args>
int fail(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::fatal, format, fmt::make_format_args(args...));
    return 1;
}

void open_log(const Config& config, const ControlContext& context) {
    LogDestination destination = log_destination(config);
    destination.verbosity = context.verbosity;
    if (destination.path == "/dev/stdout" || destination.path == "/dev/stderr") {
        return;   // what is said goes to the terminal already
    }
    destination.echo_stderr = true;
    log_open(config.syslog_name() + "/postern", std::move(destination));
    log_echo_all();
}

/// Prints all findings.  True when none is an error.
bool report_configuration(const ControlContext& context, Severity least) {
    bool good = true;
    for (const Finding& finding : check_configuration(context.directory)) {
        good = good && finding.severity != Severity::error;
        if (finding.severity <= least) {
            const char* const kind = finding.severity == Severity::error     ? "error"
                                     : finding.severity == Severity::warning ? "warning"
                                                                             : "notice";
            fmt::print(stderr, "postern: {}: {}\n", kind, finding.text);
        }
    }
    return good;
}

/// `lenient`: bad values do not matter.  A master that runs can be stopped whatever has become of main.cf since.
std::optional<Config> load_config(const ControlContext& context, bool lenient = false) {
    Result<Config> config = lenient ? Config::load_unchecked(context.directory) : Config::load(context.directory);
    if (!config) {
        fmt::print(stderr, "postern: fatal: {}\n", config.error().what);
        return std::nullopt;
    }
    open_log(*config, context);
    return *std::move(config);
}

/// Without one smtp(8) would not start, and all mail for other hosts would wait.
bool check_trust_anchors(const Config& config) {
    if (config.smtp_dns_support_level() != "dnssec" && config.lmtp_dns_support_level() != "dnssec") {
        return true;
    }
    const Result<std::vector<std::string>> anchors = read_trust_anchors(split(config.dnssec_trust_anchor_files(), ", \t\n"));
    if (!anchors) {
        fmt::print(stderr, "postern: error: dnssec_trust_anchor_files: {}\n", anchors.error().what);
    }
    return static_cast<bool>(anchors);
}

/// What a check is for.
enum class Purpose : unsigned char { look, correct, start };

/// main.cf, master.cf, programs, directories.  True when a master would start.
bool check_all(const ControlContext& context, Severity least, Purpose purpose) {
    if (!report_configuration(context, least)) {
        return false;
    }
    const Result<LoadedPlan> loaded = load_plan(context.directory);
    if (!loaded) {
        fmt::print(stderr, "postern: error: {}\n", loaded.error().what);
        return false;
    }
    if (least == Severity::notice && !kMissingSchemes.empty()) {
        fmt::print(stderr, "postern: notice: {}\n", kMissingSchemes);
    }
    if (::geteuid() != 0 && least == Severity::notice) {
        fmt::print(stderr, "postern: notice: not root: everything runs as the present user, without changing user or root "
                           "directory\n");
    }
    if (!check_trust_anchors(loaded->config)) {
        return false;
    }
    // A qmgr that runs looks for messages in transit where the link led when it began: until a new one comes it stays as it is.
    const bool transit = purpose == Purpose::start || !running_master(loaded->config.queue_directory());
    const Result<DirectoryReport> report = set_up_directories(loaded->config, purpose == Purpose::correct, transit);
    if (!report) {
        fmt::print(stderr, "postern: error: {}\n", report.error().what);
        return false;
    }
    for (const std::string& warning : report->warnings) {
        fmt::print(stderr, "postern: warning: {}\n", warning);
    }
    for (const std::string& notice : least == Severity::notice ? report->notices : std::vector<std::string>()) {
        fmt::print(stderr, "postern: notice: {}\n", notice);
    }
    return true;
}

int start(const ControlContext& context, const char* mode) {
    const std::optional<Config> config = load_config(context);
    if (!config) {
        return 1;
    }
    if (running_master(config->queue_directory())) {
        return fail("the Postern mail system is already running");
    }
    if (!check_all(context, Severity::warning, Purpose::start)) {
        return fail("the Postern mail system is not started");
    }
    say("starting the Postern mail system");
    const std::string program = config->daemon_directory() + "/postern-master";
    ::setenv("MAIL_CONFIG", context.directory.c_str(), 1);
    std::vector<const char*> arguments{program.c_str(), "-c", context.directory.c_str(), mode};
    for (int i = 0; i < context.verbosity; ++i) {
        arguments.push_back("-v");
    }
    arguments.push_back(nullptr);
    ::execv(program.c_str(), const_cast<char* const*>(arguments.data()));
    return fail("{}", errno_error("execute " + program).what);
}

int start_daemon(const ControlContext& context) { return start(context, "-w"); }
int start_foreground(const ControlContext& context) { return start(context, "-i"); }

struct Running {
    Config config;
    pid_t pid;
};

/// Nothing when the configuration cannot be read or no master runs, which it has said then.  Bad values do not matter for that.
std::optional<Running> find_running(const ControlContext& context) {
    std::optional<Config> config = load_config(context, true);
    if (!config) {
        return std::nullopt;
    }
    const std::optional<pid_t> pid = running_master(config->queue_directory());
    if (!pid) {
        fail("the Postern mail system is not running");
        return std::nullopt;
    }
    return Running{*std::move(config), *pid};
}

/// Sends a signal that ends master and waits until it has ended.
int end_master(const ControlContext& context, int signal_number) {
    const std::optional<Running> master = find_running(context);
    if (!master) {
        return 1;
    }
    say("{} the Postern mail system", signal_number == SIGTERM ? "stopping" : "aborting");
    if (::kill(master->pid, signal_number) != 0) {
        return fail("{}", errno_error(fmt::format("signal process {}", master->pid)).what);
    }
    const auto deadline = std::chrono::steady_clock::now() + master->config.master_stop_timeout() + Seconds(5);
    while (running_master(master->config.queue_directory()) == master->pid) {
        if (std::chrono::steady_clock::now() > deadline) {
            return fail("process {} does not end", master->pid);
        }
        std::this_thread::sleep_for(kPoll);
    }
    return 0;
}

int stop(const ControlContext& context) { return end_master(context, SIGTERM); }
int abort_now(const ControlContext& context) { return end_master(context, SIGQUIT); }

int reload(const ControlContext& context) {
    const std::optional<Running> master = find_running(context);
    if (!master) {
        return 1;
    }
    if (!check_all(context, Severity::warning, Purpose::start)) {
        return fail("the configuration in use stays as it was");
    }
    say("refreshing the Postern mail system");
    return ::kill(master->pid, SIGHUP) == 0 ? 0 : fail("{}", errno_error(fmt::format("signal process {}", master->pid)).what);
}

int status(const ControlContext& context) {
    const std::optional<Running> master = find_running(context);
    if (!master) {
        return 1;
    }
    say("the Postern mail system is running: PID: {}", master->pid);
    return 0;
}

int check(const ControlContext& context) {
    const bool good = check_all(context, Severity::notice, Purpose::look);
    return good ? 0 : 1;
}

Task<Result<std::string>> ask_for_flush(std::string path) {
    Result<UniqueFd> socket = co_await connect_unix(path, Seconds(10));
    if (!socket) {
        co_return socket.error();
    }
    Channel<queue::ToQmgr, queue::FromQmgr> channel(*std::move(socket));
    queue::FlushAll request;
    const Result<void> sent = co_await channel.send(request, Seconds(10));
    if (!sent) {
        co_return sent.error();
    }
    Result<queue::FromQmgr> answer = co_await channel.receive(Seconds(60));
    if (!answer) {
        co_return answer.error();
    }
    const auto* said = std::get_if<queue::QmgrAnswer>(&*answer);
    if (said == nullptr || !said->ok) {
        co_return Error(Errc::temporary, said == nullptr ? "unexpected answer" : said->text);
    }
    co_return said->text;
}

int flush(const ControlContext& context) {
    const std::optional<Config> config = load_config(context);
    if (!config) {
        return 1;
    }
    if (::chdir(config->queue_directory().c_str()) != 0) {
        return fail("{}", errno_error("chdir " + config->queue_directory()).what);
    }
    const Result<std::string> done = Loop::current().run_until(ask_for_flush("public/" + config->queue_service_name()));
    return done ? 0 : fail("flush the queue: {}", done.error().what);
}

/// A master that runs is told to begin a new file, as by "reload"; without one the next start makes it.
int logrotate(const ControlContext& context) {
    const std::optional<Config> config = load_config(context);
    if (!config) {
        return 1;
    }
    const auto reopen = [&]() -> Result<void> {
        const std::optional<pid_t> master = running_master(config->queue_directory());
        log_reopen();
        return !master || ::kill(*master, SIGHUP) == 0 ? Result<void>() : errno_error(fmt::format("signal process {}", *master));
    };
    const Result<std::string> done = rotate_log(*config, reopen);
    if (!done) {
        return fail("logfile rotation failed: {}", done.error().what);
    }
    say("{}", *done);
    return 0;
}

/// postdrop and postqueue have the group that may write to maildrop and reach public sockets.
int set_permissions(const ControlContext& context) {
    const std::optional<Config> config = load_config(context);
    if (!config || !check_all(context, Severity::warning, Purpose::correct)) {
        return 1;
    }
    if (::geteuid() != 0) {
        return 0;
    }
    const group* const drop = ::getgrnam(config->setgid_group().c_str());
    for (const char* name : {"postdrop", "postqueue"}) {
        const std::string path = config->command_directory() + "/" + name;
        if (drop == nullptr || ::chown(path.c_str(), 0, drop->gr_gid) != 0 || ::chmod(path.c_str(), 02755) != 0) {
            return fail("{}", errno_error("set owner and mode of " + path).what);
        }
    }
    return 0;
}

int version(const ControlContext&) {
    fmt::print("Postern {}\n", kVersion);
    return 0;
}

}  // namespace

const std::vector<ControlCommand>& control_commands() {
    static const std::vector<ControlCommand> commands{
        {"start", "check the configuration, then start all services", &start_daemon},
        {"start-fg", "the same, staying in the foreground (containers)", &start_foreground},
        {"stop", "end all services in good order", &stop},
        {"abort", "end all services at once", &abort_now},
        {"reload", "read the configuration again; a bad one changes nothing", &reload},
        {"status", "say whether the mail system runs", &status},
        {"check", "report everything about the configuration", &check},
        {"flush", "try to deliver all queued mail now", &flush},
        {"logrotate", "begin a new maillog_file and compress the old one", &logrotate},
        {"set-permissions", "set owners and modes of queue directories and commands", &set_permissions},
        {"version", "print the version", &version},
    };
    return commands;
}

}  // namespace postern::master
