#include "lib/service/service.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <utility>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"
#include "lib/sandbox/identity.h"
#include "lib/service/arguments.h"
#include "lib/service/listener.h"
#include "lib/service/standard_input.h"
#include "lib/table/table.h"

namespace postern {

struct Service::State {
    ServiceArguments arguments;
    Config config = Config::defaults();
    std::vector<std::unique_ptr<Listener>> listeners;
    UniqueFd status;
    UniqueFd standard_input;        ///< -S: the client
    FdEvents master_watch;
    Handler handler;
    std::function<void()> start_work;
    std::function<void()> drain_work;
    std::function<void()> stop_work;
    std::function<void()> end_work;
    Timer idle;
    std::size_t sessions = 0;
    std::size_t work = 0;
    std::size_t session_limit = 100;
    bool keep_running = false;
    bool may_overlap = false;
    bool draining = false;
    bool told_busy = false;
    bool stdin_mode = false;
    bool ended = false;

    void tell(Status status_byte);
    void session_began();
    void session_ended();
    void look_idle();
    void close_listeners();
    void drain();
    void stop();
    void end_now();
    static void idle_too_long(void* self);
    static Task<> watch_master(State& state);
    static Task<> run_session(State& state, Connection connection);
};

namespace {

UniqueFd status_pipe() {
    const char* text = std::getenv("POSTERN_STATUS_FD");
    if (text == nullptr) {
        return UniqueFd();
    }
    const auto number = parse_number(text);
    if (!number || *number > 65535) {
        fatal("POSTERN_STATUS_FD is not a descriptor: {}", printable(text));
    }
    const int fd = static_cast<int>(*number);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    return UniqueFd(fd);
}

/// For a launcher's children, not for commands that a service runs.
void keep_master_pipe() {
    const char* text = std::getenv("POSTERN_MASTER_FD");
    const auto number = parse_number(text == nullptr ? "" : text);
    if (number && *number <= 65535) {
        ::fcntl(static_cast<int>(*number), F_SETFD, FD_CLOEXEC);
    }
}

/// A process serves thousands of clients: it may have as many descriptors as the system lets it.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

}  // namespace

Service::Service(std::string_view program, int argc, char** argv) : state_(std::make_unique<State>()) {
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    std::string tag = std::string("postfix/") + std::string(program);
    log_open(tag, LogDestination{});
    Result<ServiceArguments> arguments = parse_service_arguments(argc, argv);
    if (!arguments) {
        fatal("{}", arguments.error().what);
    }
    state_->arguments = std::move(*arguments);
    Result<Config> config = Config::load(Config::default_directory(), state_->arguments.overrides);
    if (!config) {
        log_open(tag, LogDestination{LogDestination::Kind::syslog, {}, false, true, 0});
        fatal("{}", config.error().what);
    }
    state_->config = std::move(*config);
    state_->config.set_process(std::string(program), state_->arguments.service_name);
    LogDestination destination = log_destination(state_->config);
    destination.verbosity = state_->arguments.verbosity;
    if (!log_open(state_->config.syslog_name() + "/" + std::string(program), std::move(destination))) {
        log_warning("{}", errno_error("open " + state_->config.maillog_file()).what);
    }
    set_offload_threads(static_cast<std::size_t>(state_->config.offload_threads()));
    set_ipc_timeout(state_->config.ipc_timeout());
    ::umask(077);
    const std::string& directory = state_->config.queue_directory();
    if (::chdir(directory.c_str()) != 0) {
        fatal("{}", errno_error("chdir " + directory).what);
    }
    state_->status = status_pipe();
    keep_master_pipe();
    state_->session_limit = static_cast<std::size_t>(state_->config.process_session_limit());
    state_->stdin_mode = state_->arguments.standard_input;
    if (state_->stdin_mode) {
        Result<UniqueFd> client = standard_input_socket();
        if (!client) {
            fatal("standard input: {}", client.error().what);
        }
        state_->standard_input = std::move(*client);
    }
    raise_descriptor_limit();
    Result<std::vector<std::unique_ptr<Listener>>> listeners = inherited_listeners();
    if (!listeners) {
        fatal("{}", listeners.error().what);
    }
    state_->listeners = std::move(*listeners);
    if (state_->listeners.empty() && !state_->stdin_mode) {
        fatal("no listening socket: this program is started by postern-master(8), or with LISTEN_FDS set, or with -S "
              "to serve standard input");
    }
}

Service::~Service() = default;

const Config& Service::config() const {
    return state_->config;
}

const std::string& Service::service_name() const {
    return state_->arguments.service_name;
}

const std::string& Service::service_type() const {
    return state_->arguments.service_type;
}

const std::vector<std::string>& Service::arguments() const {
    return state_->arguments.rest;
}

bool Service::on_standard_input() const {
    return state_->stdin_mode;
}

bool Service::privileged() {
    return ::geteuid() == 0;
}

namespace {

/// A process that stays uid 0 loses the right to pass any directory.  As a member of network_owner's group, and of no
/// other, it still reaches the sockets in private/ (auth, proxymap).
void join_network_group(const Config& config) {
    const Result<UserIdentity> owner = find_user(config.network_owner());
    if (!owner) {
        fatal("parameter network_owner: {}", owner.error().what);
    }
    if (::setgroups(1, &owner->gid) != 0) {
        fatal("{}", errno_error("join the group of network_owner").what);
    }
}

}  // namespace

void Service::confine(const Rights& rights) {
    const Config& config = state_->config;
    ConfineContext context;
    if (!rights.user.empty() && rights.user != "root") {
        context.user_name = config.lookup(rights.user).value_or("");
        if (context.user_name.empty() && privileged()) {
            fatal("parameter {} names no user to run {} as", rights.user, service_name());
        }
    }
    if (!rights.chroot.empty() && state_->arguments.may_chroot) {
        context.chroot_directory = config.lookup(rights.chroot).value_or("");
    }
    context.queue_directory = config.queue_directory();
    context.config_directory = config.config_directory();
    context.data_directory = config.data_directory();
    context.keep_user = state_->arguments.privileged;
    if (privileged() && rights.user == "root") {
        join_network_group(config);
    }
    postern::confine(rights, context);
}

void Service::work_in_batches() {
    const sched_param no_priority{};
    if (::sched_getscheduler(0) == SCHED_OTHER && ::sched_setscheduler(0, SCHED_BATCH, &no_priority) != 0) {
        log_debug("SCHED_BATCH{}", errno_error("").what);   // costs time only
    }
}

void Service::on_start(std::function<void()> work) {
    state_->start_work = std::move(work);
}

void Service::on_drain(std::function<void()> work) {
    state_->drain_work = std::move(work);
}

void Service::on_stop(std::function<void()> work) {
    state_->stop_work = std::move(work);
}

void Service::on_end(std::function<void()> work) {
    state_->end_work = std::move(work);
}

void Service::keep_running() {
    state_->keep_running = true;
}

void Service::may_overlap() {
    state_->may_overlap = true;
}

void Service::begin_work() {
    ++state_->work;
    state_->idle.cancel();
}

void Service::end_work() {
    --state_->work;
    state_->look_idle();
}

std::size_t Service::sessions() const {
    return state_->sessions;
}

bool Service::draining() const {
    return state_->draining;
}

void Service::State::tell(Status status_byte) {
    if (status) {
        const char byte = static_cast<char>(status_byte);
        [[maybe_unused]] const ssize_t written = ::write(status.get(), &byte, 1);
    }
}

void Service::State::session_began() {
    ++sessions;
    idle.cancel();
    if (sessions >= session_limit && !told_busy) {
        told_busy = true;
        for (auto& listener : listeners) {
            listener->pause();
        }
        tell(Status::busy);
    }
}

void Service::State::session_ended() {
    --sessions;
    if (told_busy && sessions + session_limit / 8 < session_limit && !draining) {
        told_busy = false;
        for (auto& listener : listeners) {
            listener->resume();
        }
        tell(Status::available);
    }
    if (may_overlap && !keep_running && !draining && tables_are_stale()) {
        drain();   // a fresh process sees the new tables
        return;
    }
    look_idle();
}

/// Ends a drained process, or starts the clock of an idle one.
void Service::State::look_idle() {
    if (sessions > 0 || work > 0) {
        return;
    }
    if (draining || stdin_mode) {
        end_now();
        return;
    }
    if (!keep_running && status) {
        idle.start(config.max_idle(), &State::idle_too_long, this);
    }
}

void Service::State::idle_too_long(void* self) {
    static_cast<State*>(self)->end_now();
}

void Service::State::close_listeners() {
    for (auto& listener : listeners) {
        listener->close();
    }
}

void Service::State::drain() {
    const bool was_draining = std::exchange(draining, true);
    close_listeners();   // a new master must be able to bind while our last sessions go on
    if (drain_work) {
        std::exchange(drain_work, nullptr)();
    }
    if (may_overlap && !was_draining) {   // now that we take nothing more: what came before, the successor finds
        tell(Status::released);
    }
    look_idle();
}

/// SIGTERM: at once, or when the sessions have said goodbye.
void Service::State::stop() {
    if (!stop_work || ended) {
        end_now();
        return;
    }
    draining = true;
    close_listeners();
    std::exchange(stop_work, nullptr)();
    idle.start(kFarewell, &State::idle_too_long, this);
    look_idle();
}

void Service::State::end_now() {
    if (end_work && !ended) {
        end_work();
    }
    ended = true;
    Loop::current().stop();
}

/// The status pipe's other end is master's: when it is gone, so is master.
Task<> Service::State::watch_master(State& state) {
    for (;;) {
        const Wake wake = co_await state.master_watch.readable(kForever);
        if (wake == Wake::closed) {
            co_return;
        }
        char byte = 0;
        const ssize_t got = ::read(state.status.get(), &byte, 1);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            state.master_watch.close();
            state.drain();
            co_return;
        }
    }
}

Task<> Service::State::run_session(State& state, Connection connection) {
    state.session_began();
    co_await state.handler(std::move(connection));
    state.session_ended();
}

int Service::serve(Handler handler) {
    State& state = *state_;
    state.handler = std::move(handler);
    Loop& loop = Loop::current();
    loop.on_signal(SIGTERM, [&state] { state.stop(); });
    loop.on_signal(SIGHUP, [&state] { state.drain(); });
    if (state.status) {
        state.master_watch.open(state.status.get());
        spawn(State::watch_master(state));
    }
    for (auto& listener : state.listeners) {
        listener->start([&state](Connection connection) {
            spawn(State::run_session(state, std::move(connection)));
        });
    }
    if (state.start_work) {
        state.start_work();
    }
    state.tell(Status::available);
    if (state.stdin_mode) {
        Connection connection(std::move(state.standard_input), "stdin");
        describe_peer(connection);
        spawn(State::run_session(state, std::move(connection)));
    } else {
        state.look_idle();
    }
    if (!state.ended) {   // a client on standard input may have come and gone already
        loop.run();
    }
    std::fflush(nullptr);
    std::_Exit(0);   // sessions that are still open hold coroutines: the kernel closes what they hold
}

}  // namespace postern
