#include "lib/login/launcher_state.h"

#include <fmt/format.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/sandbox/forked_child.h"
#include "lib/service/service.h"

namespace postern {

namespace {

constexpr Millis kAuthPatience = std::chrono::seconds(10);
constexpr Millis kSendPatience = std::chrono::seconds(5);
/// A session process that has used up its farewell still has to end.
constexpr Millis kStopPatience{500};
constexpr int kAuthAttempts = 3;
constexpr std::size_t kMaxFronts = 4096;

HandOverRefusal refusal_of(Errc code) {
    switch (code) {
    case Errc::denied:
        return HandOverRefusal::forbidden;
    case Errc::not_found:
        return HandOverRefusal::bad_token;
    default:
        return HandOverRefusal::temporary;
    }
}

/// `last` 0 is no limit.
bool in_range(std::uint32_t id, long first, long last) {
    return static_cast<long>(id) >= first && (last == 0 || static_cast<long>(id) <= last);
}

FromLauncher refuse(HandOverRefusal reason, std::string text) {
    NotHandedOver answer;
    answer.reason = static_cast<std::uint8_t>(reason);
    answer.text = std::move(text);
    return answer;
}

}  // namespace

std::size_t SessionProcess::count_from(const std::string& ip) const {
    std::size_t count = 0;
    for (const auto& [id, from] : connections) {
        count += from == ip ? 1 : 0;
    }
    return count;
}

SessionLauncher::SessionLauncher(const Launcher& program, const Config& config, MailGroups groups, std::vector<int> listeners,
                                 int status, int master_pipe)
    : program_(program), config_(config), groups_(std::move(groups)), listeners_(std::move(listeners)), status_(status), master_pipe_(master_pipe) {
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) {
        sigaddset(&wanted, number);
    }
    sigprocmask(SIG_BLOCK, &wanted, nullptr);
    signals_.reset(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!epoll_ || !signals_) {
        fatal("{}", errno_error("epoll or signalfd").what);
    }
    watch(signals_.get());
    for (const int listener : listeners_) {
        watch(listener);
    }
    if (status_ >= 0) {
        watch(status_);   // readable or hung up only when master is gone
    }
}

void SessionLauncher::watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
        log_error("{}", errno_error("epoll_ctl").what);
    }
}

void SessionLauncher::run() {
    std::array<epoll_event, 64> events{};
    while (!finished()) {
        const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                       stopping_ ? 50 : processes_.empty() ? -1 : 1000);
        for (int i = 0; i < ready; ++i) {
            handle(events[static_cast<std::size_t>(i)].data.fd);
        }
        end_idle_processes(draining_);
    }
}

bool SessionLauncher::finished() const {
    if (stopping_) {
        return processes_.empty() || Clock::now() >= patience_ends_;
    }
    return draining_ && processes_.empty();
}

void SessionLauncher::handle(int fd) {
    if (fd == signals_.get()) {
        read_signals();
    } else if (fd == status_) {
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
        drain();
    } else if (processes_.count(fd) != 0) {
        read_process(fd);
    } else if (fronts_.count(fd) != 0) {
        read_front(fd);
    } else {
        accept_fronts(fd);
    }
}

void SessionLauncher::accept_fronts(int listener) {
    for (const int known : listeners_) {
        if (known != listener) {
            continue;
        }
        UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (client && fronts_.size() < kMaxFronts) {
            const int fd = client.get();
            fronts_.emplace(fd, Front(std::move(client), kMaxHandOver));
            watch(fd);
        }
        return;
    }
}

void SessionLauncher::read_front(int fd) {
    Front& front = fronts_[fd];
    const Result<bool> got = front.read_now();
    if (!got) {
        fronts_.erase(fd);
        return;
    }
    for (;;) {
        Result<std::optional<ToLauncher>> message = front.next();
        if (!message) {
            log_warning("{}: connection of a front ended: {}", program_.name, message.error().what);
            fronts_.erase(fd);
            return;
        }
        if (!*message) {
            return;
        }
        FromLauncher answer = take(std::get<HandOver>(std::move(**message)));
        const Result<void> sent =
            std::visit([&front](auto& text) { return front.send(std::move(text), kSendPatience); }, answer);
        if (!sent) {
            fronts_.erase(fd);
            return;
        }
    }
}

void SessionLauncher::read_process(int fd) {
    SessionProcess& process = *processes_[fd];
    const Result<bool> got = process.control.read_now();
    if (!got) {
        forget_process(fd);
        return;
    }
    for (;;) {
        Result<std::optional<FromSessionProcess>> message = process.control.next();
        if (!message) {
            log_error("{}: session process {} of {}: {}", program_.name, process.pid, process.user.user,
                      message.error().what);
            forget_process(fd);
            return;
        }
        if (!*message) {
            return;
        }
        if (const auto* ended = std::get_if<ClientEnded>(&**message)) {
            process.connections.erase(ended->id);
            process.idle_since = Clock::now();
        } else {
            take_back(fd, std::get<ClientReturned>(std::move(**message)).client);
            if (processes_.count(fd) == 0) {
                return;
            }
        }
    }
}

/// The process serves what it has; the client goes to a new one of the same user.
void SessionLauncher::take_back(int control_fd, ServeClient client) {
    SessionProcess& process = *processes_[control_fd];
    const AuthUser user = process.user;
    if (process.connections.erase(client.id) == 0 || !client.client || client.info.input.size() > kMaxHandedInput) {
        log_error("{}: session process {} of {} gives back what it was not given", program_.name, process.pid, user.user);
        forget_process(control_fd);
        return;
    }
    process.idle_since = Clock::now();
    const auto named = by_user_.find(user.user);
    if (named != by_user_.end() && named->second == &process) {
        by_user_.erase(named);
    }
    SessionProcess* successor = process_of(user);   // another client may have had it made already
    if (successor == nullptr && !stopping_) {
        const Result<SessionProcess*> started = start_process(user);   // `process` may be gone after this
        if (!started) {
            log_error("{}({}): {}", program_.service, user.user, started.error().what);
        }
        successor = started ? *started : nullptr;
    }
    HandOver request;
    request.info = std::move(client.info);
    request.client = std::move(client.client);
    if (successor == nullptr || !give(*successor, request, true)) {
        log_error("{}({}): no session process for a client whose home or mail was replaced", program_.service, user.user);
    }
}

/// No more connections for it; closing the channel lets it end after its last connection.
void SessionLauncher::forget_process(int control_fd) {
    const auto found = processes_.find(control_fd);
    if (found == processes_.end()) {
        return;
    }
    const auto named = by_user_.find(found->second->user.user);
    if (named != by_user_.end() && named->second == found->second.get()) {
        by_user_.erase(named);
    }
    processes_.erase(found);
}

void SessionLauncher::read_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
        switch (static_cast<int>(info.ssi_signo)) {
        case SIGCHLD:
            reap();
            break;
        case SIGHUP:
            drain();
            break;
        default:
            stop_all();
            break;
        }
    }
}

void SessionLauncher::reap() {
    int status = 0;
    pid_t pid = 0;
    while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
        std::string user = "?";
        int control = -1;
        for (const auto& [fd, process] : processes_) {
            if (process->pid == pid) {
                user = process->user.user;
                control = fd;
                break;
            }
        }
        if (WIFSIGNALED(status)) {
            log_error("{}({})<{}>: Fatal: master: service({}): child {} killed with signal {}{}", program_.service, user,
                      pid, program_.service, pid, WTERMSIG(status), WCOREDUMP(status) ? " (core dumped)" : "");
        } else if (WEXITSTATUS(status) != 0) {
            log_error("{}({})<{}>: Fatal: master: service({}): child {} returned error {}", program_.service, user, pid,
                      program_.service, pid, WEXITSTATUS(status));
        }
        forget_process(control);
    }
}

void SessionLauncher::drain() {
    if (draining_) {
        return;
    }
    draining_ = true;
    for (const int listener : listeners_) {
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener, nullptr);
    }
    listeners_.clear();
    fronts_.clear();   // they turn to this process's successor
    if (status_ >= 0) {
        const char released = static_cast<char>(Status::released);
        [[maybe_unused]] const ssize_t written = ::write(status_, &released, 1);
    }
}

void SessionLauncher::stop_all() {
    if (stopping_) {
        patience_ends_ = Clock::now();   // asked twice
        return;
    }
    drain();
    stopping_ = true;
    patience_ends_ = Clock::now() + kSessionFarewell + kStopPatience;
    for (auto& [fd, process] : processes_) {
        (void)process->control.send(StopSessions{}, Millis(0));
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);   // it is done when it has ended: reap()
    }
}

void SessionLauncher::end_idle_processes(bool at_once) {
    const auto now = Clock::now();
    if (!at_once && now - looked_for_idle_ < std::chrono::seconds(1)) {
        return;
    }
    looked_for_idle_ = now;
    std::vector<int> idle;
    for (const auto& [fd, process] : processes_) {
        const bool long_idle = now - process->idle_since >= config_.session_process_idle_limit();
        if (process->connections.empty() && (at_once || long_idle)) {
            idle.push_back(fd);
        }
    }
    for (const int fd : idle) {
        forget_process(fd);
    }
}

FromLauncher SessionLauncher::take(HandOver request) {
    if (!request.client || request.info.input.size() > kMaxHandedInput) {
        return refuse(HandOverRefusal::temporary, "malformed hand-over");
    }
    const Result<AuthUser> user = redeem(request.token);
    if (!user) {
        return refuse(refusal_of(user.error().code), user.error().what);
    }
    if (const Result<void> allowed = check_ids(*user); !allowed) {
        log_error("{}({}): {}", program_.service, user->user, allowed.error().what);
        return refuse(HandOverRefusal::forbidden, allowed.error().what);
    }
    SessionProcess* process = process_of(*user);
    const long limit = config_.mail_max_userip_connections();
    if (process != nullptr && limit > 0 &&
        process->count_from(request.info.remote_ip) >= static_cast<std::size_t>(limit)) {
        return refuse(HandOverRefusal::too_many, "too many connections");
    }
    // A process that has just died is noticed here; one more is tried.
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (process == nullptr) {
            const Result<SessionProcess*> started = start_process(*user);
            if (!started) {
                log_error("{}({}): {}", program_.service, user->user, started.error().what);
                return refuse(HandOverRefusal::temporary, started.error().what);
            }
            process = *started;
        }
        if (give(*process, request, false)) {
            HandedOver answer;
            answer.pid = static_cast<std::uint32_t>(process->pid);
            answer.user = user->user;
            return answer;
        }
        forget_process(process->control.fd());
        process = nullptr;
    }
    return refuse(HandOverRefusal::temporary, "session process does not answer");
}

bool SessionLauncher::give(SessionProcess& process, HandOver& request, bool returned) {
    ServeClient message;
    message.id = ++last_id_;
    message.info = request.info;
    message.returned = returned;
    message.client.reset(::fcntl(request.client.get(), F_DUPFD_CLOEXEC, 3));
    const std::uint32_t id = message.id;
    if (!message.client || !process.control.send(std::move(message), kSendPatience)) {
        return false;
    }
    process.connections[id] = request.info.remote_ip;
    return true;
}

Result<AuthUser> SessionLauncher::redeem(const std::string& token) {
    // An auth process that ends takes its connections along, also one that its listener had just taken.  Any other of
    // the instance can say what the token is worth.
    Result<AuthUser> user = ask_auth(token);
    for (int again = 1; again < kAuthAttempts && !user && user.error().code == Errc::closed; ++again) {
        user = ask_auth(token);
    }
    return user;
}

Result<AuthUser> SessionLauncher::ask_auth(const std::string& token) {
    if (!auth_.is_open()) {
        Result<UniqueFd> socket = connect_unix_blocking("private/" + config_.auth_service_name());
        if (!socket) {
            return Error(Errc::temporary, socket.error().what);
        }
        auth_ = SyncChannel<ToAuth, FromAuth>(std::move(*socket), kMaxAuthMessage);
    }
    AuthRedeem request;
    request.id = ++last_id_;
    request.service = program_.service;
    request.token = token;
    const std::uint32_t id = request.id;
    const Result<void> sent = auth_.send(std::move(request), kAuthPatience);
    Result<FromAuth> answer = sent ? auth_.receive(kAuthPatience) : Result<FromAuth>(sent.error());
    if (!answer) {
        auth_.close();
        return answer.error();
    }
    if (auto* found = std::get_if<AuthUserFound>(&*answer); found != nullptr && found->id == id) {
        return std::move(found->user);
    }
    const auto* failure = std::get_if<AuthFailure>(&*answer);
    if (failure == nullptr || failure->id != id) {
        auth_.close();
        return Error(Errc::temporary, "auth answered another question");
    }
    if (failure->reason == static_cast<std::uint8_t>(AuthFailureReason::bad_token)) {
        return Error(Errc::not_found, "token refused");
    }
    return Error(Errc::temporary, "user database does not know the user, or cannot answer");
}

/// Dovecot's first_valid_uid and first_valid_gid; uid 0 never.  Without root there is one uid only.
Result<void> SessionLauncher::check_ids(const AuthUser& user) const {
    if (::geteuid() != 0) {
        if (user.uid != ::geteuid()) {
            return {Errc::denied, fmt::format("user's uid {} is not mine ({}), and I am not root", user.uid, ::geteuid())};
        }
        return {};
    }
    if (user.uid == 0 || !in_range(user.uid, config_.first_valid_uid(), config_.last_valid_uid())) {
        return {Errc::denied, fmt::format("Mail access for users with UID {} not permitted (see first_valid_uid in "
                                          "config file, uid from userdb lookup).", user.uid)};
    }
    if (user.gid == 0 || !in_range(user.gid, config_.first_valid_gid(), config_.last_valid_gid())) {
        return {Errc::denied, fmt::format("Mail access for users with GID {} not permitted (see first_valid_gid in "
                                          "config file, gid from userdb lookup).", user.gid)};
    }
    return {};
}

/// The user's process, if it was made from the same entry of the user database.
SessionProcess* SessionLauncher::process_of(const AuthUser& user) {
    const auto found = by_user_.find(user.user);
    if (found == by_user_.end()) {
        return nullptr;
    }
    const AuthUser& old = found->second->user;
    if (old.uid == user.uid && old.gid == user.gid && old.groups == user.groups && old.home == user.home &&
        old.mail_location == user.mail_location && old.extra == user.extra) {
        return found->second;
    }
    by_user_.erase(found);   // what it serves goes on; new connections get a process with the new rights
    return nullptr;
}

Result<SessionProcess*> SessionLauncher::start_process(const AuthUser& user) {
    if (processes_.size() >= static_cast<std::size_t>(config_.session_process_limit())) {
        end_idle_processes(true);
        if (processes_.size() >= static_cast<std::size_t>(config_.session_process_limit())) {
            return {Errc::temporary, "session_process_limit reached"};
        }
    }
    const auto run = [&](UniqueFd control) {
        run_session_process(std::move(control), UniqueFd(master_pipe_), user, groups_, program_, config_, filter_);
    };
    Result<ForkedChild> child = fork_child(SOCK_STREAM, {master_pipe_}, run);
    if (!child) {
        return child.error();
    }
    auto process = std::make_unique<SessionProcess>();
    process->pid = child->pid;
    process->user = user;
    process->control = SyncChannel<ToSessionProcess, FromSessionProcess>(std::move(child->socket), kMaxHandOver);
    process->idle_since = Clock::now();
    SessionProcess* started = process.get();
    const int fd = process->control.fd();
    processes_[fd] = std::move(process);
    by_user_[user.user] = started;
    watch(fd);
    return started;
}

}  // namespace postern
