#include "master/supervisor.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/version.h"
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "master/child.h"
#include "master/notify.h"

namespace postern::master {
namespace {

/// A process that ends in failure sooner than this after its start counts as one that cannot do its work.
constexpr std::chrono::seconds kShortLife{1};
constexpr std::chrono::milliseconds kAbortPatience{500};
/// After a service was at its process limit its new processes are told so ($stress) for this long (Postfix: 1000 s).
constexpr std::chrono::seconds kStressMemory{1000};
constexpr unsigned kMostDoublings = 6;

}  // namespace

/// A listening socket; shared between a service and, during a reload, its successor.
struct Supervisor::Socket {
    Socket(Endpoint where, UniqueFd listening) : endpoint(std::move(where)), fd(std::move(listening)) {}
    ~Socket() {
        if (!endpoint.is_inet() && fd) {
            ::unlink(endpoint.address.c_str());
        }
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    Endpoint endpoint;
    UniqueFd fd;
};

struct Supervisor::Service {
    Supervisor* owner = nullptr;
    PlannedService plan;
    std::vector<std::shared_ptr<Socket>> sockets;
    std::list<Watch> watches;        ///< one for each socket while nobody else takes connections
    Timer throttle_timer, wakeup_timer;
    unsigned failures = 0;           ///< in a row
    bool throttled = false;
    bool used = false;               ///< somebody called, ever
    bool watching = false;
    Clock::time_point at_limit{};    ///< when the process limit was last reached
    long available = 0, total = 0;   ///< processes that take connections; all processes, draining ones included
};

struct Supervisor::Child {
    Supervisor* owner = nullptr;
    pid_t pid = -1;
    std::string label, program;
    UniqueFd status;
    Watch watch;
    Clock::time_point started{};
    bool available = true;        ///< counted so from the start: it will take what waits
    bool spoke = false;           ///< its first status byte came
    bool told_to_drain = false;   ///< it belongs to an older configuration
    bool released = false;        ///< draining, and not counted any more: a successor need not wait
};

void Watch::start(int fd, Callback callback, void* argument) {
    stop();
    callback_ = callback;
    argument_ = argument;
    event_assign(&event_, Loop::current().base(), fd, EV_READ | EV_PERSIST, &Watch::fired, this);
    active_ = event_add(&event_, nullptr) == 0;
}

void Watch::stop() {
    if (active_) {
        event_del(&event_);
        active_ = false;
    }
}

void Watch::fired(int, short, void* self) {
    auto* watch = static_cast<Watch*>(self);
    watch->callback_(watch->argument_);
    Loop::current().run_ready();
}

Supervisor::Supervisor(LoadedPlan loaded, Options options) : loaded_(std::move(loaded)), options_(std::move(options)) {}

Supervisor::~Supervisor() = default;

Result<void> Supervisor::start() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return errno_error("pipe");
    }
    life_end_.reset(ends[0]);
    life_.reset(ends[1]);
    return adopt(std::move(loaded_));
}

Result<std::vector<std::shared_ptr<Supervisor::Socket>>> Supervisor::open_sockets(const PlannedService& planned, const Config& config) {
    const int backlog = static_cast<int>(config.listen_backlog());
    std::vector<std::shared_ptr<Socket>> sockets;
    for (const Endpoint& endpoint : planned.endpoints) {
        std::shared_ptr<Socket> socket;
        for (const auto& [label, service] : services_) {
            for (const std::shared_ptr<Socket>& open : service->sockets) {
                const bool same = open->endpoint.key() == endpoint.key();
                if (same && open->endpoint.type != endpoint.type) {
                    return Error(Errc::config, fmt::format("{}: the type of {} cannot change without a stop and a start",
                                                           planned.entry.where, endpoint.key()));
                }
                socket = same ? open : socket;
            }
        }
        if (!socket) {
            Result<UniqueFd> fd = open_endpoint(endpoint, backlog, config.tcp_windowsize());
            if (!fd && fd.error().code == Errc::unsupported) {
                log_debug("{}", fd.error().what);
                continue;
            }
            if (!fd) {
                return Error(fd.error().code, planned.entry.where + ": " + fd.error().what);
            }
            socket = std::make_shared<Socket>(endpoint, *std::move(fd));
        }
        sockets.push_back(std::move(socket));
    }
    return sockets;
}

/// Makes `loaded` what is served.  All sockets are opened before anything changes.
Result<void> Supervisor::adopt(LoadedPlan loaded) {
    std::map<std::string, std::unique_ptr<Service>> next;
    for (PlannedService& planned : loaded.plan.services) {
        Result<std::vector<std::shared_ptr<Socket>>> sockets = open_sockets(planned, loaded.config);
        if (!sockets) {
            return sockets.error();
        }
        auto service = std::make_unique<Service>();
        service->owner = this;
        service->sockets = *std::move(sockets);
        service->plan = std::move(planned);
        next.emplace(service->plan.entry.label(), std::move(service));
    }
    for (const auto& [pid, child] : children_) {
        child->told_to_drain = true;
        child->available = false;
        ::kill(pid, SIGHUP);
        const auto at = next.find(child->label);
        if (at != next.end() && !child->released) {
            ++at->second->total;
        }
    }
    services_ = std::move(next);
    loaded_ = std::move(loaded);
    for (const auto& [label, service] : services_) {
        watch_or_not(*service);
        if (service->plan.entry.wakeup_seconds > 0) {
            schedule_wakeup(*service, Millis(0));
        }
    }
    return {};
}

void Supervisor::reload() {
    if (stopping_) {
        return;
    }
    notify_supervisor(fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                                  std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch()).count()));
    Result<LoadedPlan> fresh = load_plan(options_.config_directory);
    Result<void> adopted;
    if (fresh && fresh->config.queue_directory() != loaded_.config.queue_directory()) {
        adopted = Error(Errc::config, fmt::format("queue_directory cannot change from {} to {} without a stop and a start",
                                                  loaded_.config.queue_directory(), fresh->config.queue_directory()));
    } else if (fresh) {
        for (const std::string& notice : fresh->plan.notices) {
            log_warning("{}", notice);
        }
        adopted = adopt(*std::move(fresh));
    } else {
        adopted = fresh.error();
    }
    if (adopted) {
        log_info("reload -- version {}, configuration {}", kVersion, options_.config_directory);
    } else {
        log_error("{}", adopted.error().what);
        log_error("reload failed: the configuration in use stays as it was");
    }
    notify_ready(adopted ? "" : "the last reload failed: " + printable(adopted.error().what, 200));
}

void Supervisor::notify_ready(const std::string& trouble) const {
    notify_supervisor(fmt::format("READY=1\nSTATUS={} services of {}{}{}", services_.size(), options_.config_directory,
                                  trouble.empty() ? "" : "; ", trouble));
}

/// Watches the sockets of a service that has nobody to take connections and may start somebody.
void Supervisor::watch_or_not(Service& service) {
    const bool room = service.plan.process_limit == 0 || service.total < service.plan.process_limit;
    const bool wanted = service.available <= 0 && room && !service.throttled && !stopping_;
    if (!room && service.available <= 0) {
        report_limit(service);
    }
    if (wanted == service.watching) {
        return;
    }
    service.watching = wanted;
    service.watches.clear();
    for (const std::shared_ptr<Socket>& socket : service.sockets) {
        if (wanted) {
            service.watches.emplace_back();
            service.watches.back().start(
                socket->fd.get(),
                [](void* argument) {
                    auto* called = static_cast<Service*>(argument);
                    called->owner->call_came(*called);
                },
                &service);
        }
    }
}

/// Somebody connected while no process takes connections.
void Supervisor::call_came(Service& service) {
    service.used = true;
    if (service.available <= 0 && !service.throttled && !stopping_) {
        start_child_of(service);
    }
}

void Supervisor::start_child_of(Service& service) {
    ChildPlan plan{service.plan.entry, service.plan.program, {}, {}, life_end_.get(), options_.config_directory,
                   loaded_.config.import_environment(), options_.verbosity, false};
    plan.stress = service.plan.entry.type == ServiceType::inet && service.at_limit != Clock::time_point() &&
                  Clock::now() - service.at_limit < kStressMemory;
    for (const std::shared_ptr<Socket>& socket : service.sockets) {
        plan.sockets.push_back(socket->fd.get());
        plan.socket_names.push_back(socket->endpoint.listen_name());
    }
    Result<StartedChild> started = start_child(plan);
    if (!started) {
        log_warning("service \"{}\": {}", service.plan.entry.name, started.error().what);
        throttle(service);
        return;
    }
    auto child = std::make_unique<Child>();
    child->owner = this;
    child->pid = started->pid;
    child->label = service.plan.entry.label();
    child->program = service.plan.program;
    child->status = std::move(started->status);
    child->started = Clock::now();
    child->watch.start(
        child->status.get(),
        [](void* argument) {
            auto* speaker = static_cast<Child*>(argument);
            speaker->owner->read_status(*speaker);
        },
        child.get());
    ++service.total;
    ++service.available;
    children_.emplace(child->pid, std::move(child));
    watch_or_not(service);
}

void Supervisor::read_status(Child& child) {
    char bytes[64];
    const ssize_t size = ::read(child.status.get(), bytes, sizeof(bytes));
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (size <= 0) {
        child.watch.stop();   // it is ending; SIGCHLD follows
        return;
    }
    child.spoke = true;
    const char last = bytes[size - 1];
    if (last == static_cast<char>(Status::released)) {
        release(child);
        return;
    }
    const bool available = last == static_cast<char>(Status::available);
    if (!available && last != static_cast<char>(Status::busy)) {
        log_warning("process {} pid {}: unexpected status byte {}", child.program, child.pid, static_cast<int>(last));
        return;
    }
    const auto at = services_.find(child.label);
    if (child.told_to_drain || at == services_.end() || available == child.available) {
        return;
    }
    child.available = available;
    at->second->available += available ? 1 : -1;
    watch_or_not(*at->second);
}

/// A draining process whose last sessions do not keep a successor from starting.
void Supervisor::release(Child& child) {
    const auto at = services_.find(child.label);
    if (!child.told_to_drain || child.released || at == services_.end()) {
        return;
    }
    child.released = true;
    --at->second->total;
    watch_or_not(*at->second);
    wake_successor(*at->second);
}

void Supervisor::reap() {
    for (;;) {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            break;
        }
        child_ended(pid, status);
    }
    finish_if_stopped();
}

void Supervisor::child_ended(pid_t pid, int status) {
    const auto at = children_.find(pid);
    if (at == children_.end()) {
        return;   // somebody else's orphan, when master is a container's first process
    }
    const std::unique_ptr<Child> child = std::move(at->second);
    children_.erase(at);
    read_status(*child);   // what it still said
    const auto found = services_.find(child->label);
    Service* const service = found == services_.end() ? nullptr : found->second.get();
    if (service != nullptr) {
        service->total -= child->released ? 0 : 1;
        service->available -= child->available ? 1 : 0;
    }
    const int signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    const bool ours = (stopping_ && (signal_number == SIGTERM || signal_number == SIGKILL)) ||
                      (child->told_to_drain && signal_number == SIGHUP);   // it came before the child was ready for it
    const bool failed = (!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !ours;
    if (failed && signal_number != 0) {
        log_warning("process {} pid {} killed by signal {}", child->program, pid, signal_number);
    } else if (failed) {
        log_warning("process {} pid {} exit status {}", child->program, pid, WEXITSTATUS(status));
    }
    if (service == nullptr || stopping_) {
        return;
    }
    if (failed) {
        judge_end(*service, *child);
    } else {
        service->failures = 0;
    }
    watch_or_not(*service);
    if (!failed && child->told_to_drain && !child->released) {
        wake_successor(*service);
    }
}

/// The wakeup of a reload may have gone to the process that was about to end.
void Supervisor::wake_successor(Service& service) {
    if (service.plan.entry.wakeup_seconds > 0 && !service.throttled && !stopping_) {
        schedule_wakeup(service, Millis(0));
    }
}

/// After a failure: who died young is started again after a pause that grows; others at once.
void Supervisor::judge_end(Service& service, const Child& child) {
    const bool young = !child.spoke || Clock::now() - child.started < kShortLife;
    if (!young) {
        service.failures = 0;
    }
    if (!child.spoke) {
        log_warning("{}: bad command startup -- throttling", child.program);
    }
    if (young) {
        throttle(service);
    }
    // What has a wakeup time has work of its own, and must not wait for the next turn of its clock.
    if (service.plan.entry.wakeup_seconds > 0 && !service.plan.entry.wakeup_if_used && !service.throttled) {
        schedule_wakeup(service, Millis(0));
    }
}

/// Starts no process of this service for a while.
void Supervisor::throttle(Service& service) {
    const Seconds longest = loaded_.config.service_throttle_time();
    const Seconds pause = std::min(longest, Seconds(1L << std::min(service.failures, kMostDoublings)));
    ++service.failures;
    service.throttled = true;
    service.throttle_timer.start(
        pause,
        [](void* argument) {
            auto* waiting = static_cast<Service*>(argument);
            waiting->throttled = false;
            waiting->owner->watch_or_not(*waiting);
            if (waiting->plan.entry.wakeup_seconds > 0) {
                waiting->owner->schedule_wakeup(*waiting, Millis(0));
            }
        },
        &service);
}

void Supervisor::schedule_wakeup(Service& service, Millis delay) {
    service.wakeup_timer.start(
        delay,
        [](void* argument) {
            auto* sleeper = static_cast<Service*>(argument);
            sleeper->owner->wake(*sleeper);
        },
        &service);
}

void Supervisor::wake(Service& service) {
    const MasterEntry& entry = service.plan.entry;
    if (stopping_) {
        return;
    }
    if (!service.throttled && (!entry.wakeup_if_used || service.used)) {
        for (const Endpoint& endpoint : service.plan.endpoints) {
            if (const Result<void> woken = wake_endpoint(endpoint); !woken) {
                log_warning("service \"{}\": {}", entry.name, woken.error().what);
            }
        }
    }
    schedule_wakeup(service, Seconds(entry.wakeup_seconds));
}

void Supervisor::report_limit(Service& service) {
    const Clock::time_point now = Clock::now();
    const bool limit_matters = service.plan.process_limit > 1;   // a lone process serves all; a second is never wanted
    if (!limit_matters || (service.at_limit != Clock::time_point() && now - service.at_limit < kStressMemory)) {
        return;
    }
    service.at_limit = now;
    log_warning("service \"{}\" ({}) has reached its process limit \"{}\": new clients may experience noticeable delays",
                service.plan.entry.name, service.plan.endpoints.front().key(), service.plan.process_limit);
    log_warning("to avoid this condition, increase the process count in master.cf or reduce the service time per client");
}

void Supervisor::kill_all(int signal_number) {
    for (const auto& [pid, child] : children_) {
        ::kill(pid, signal_number);
    }
}

void Supervisor::stop() {
    if (stopping_) {
        return;
    }
    stopping_ = true;
    notify_supervisor("STOPPING=1");
    for (const auto& [label, service] : services_) {
        watch_or_not(*service);
        service->wakeup_timer.cancel();
        service->throttle_timer.cancel();
    }
    kill_all(SIGTERM);
    patience_.start(loaded_.config.master_stop_timeout(), &Supervisor::force, this);
    finish_if_stopped();
}

void Supervisor::force(void* self) {
    auto* supervisor = static_cast<Supervisor*>(self);
    for (const auto& [pid, child] : supervisor->children_) {
        log_warning("process {} pid {} does not end: killing it", child->program, pid);
    }
    supervisor->kill_all(SIGKILL);
}

void Supervisor::abort() {
    const bool asked_before = stopping_;
    stop();
    if (asked_before) {
        kill_all(SIGKILL);
        return;
    }
    patience_.start(kAbortPatience, &Supervisor::force, this);   // long enough for launchers to end their session processes
}

void Supervisor::finish_if_stopped() {
    if (stopping_ && children_.empty() && done_) {
        patience_.cancel();
        services_.clear();   // removes the sockets' names
        const std::function<void()> done = std::move(done_);
        done_ = nullptr;
        done();
    }
}

}  // namespace postern::master
