/// Keeps the services of master.cf running: listens for all of them, starts processes when somebody calls, and
/// replaces those that end.
///
/// A service's sockets stay open here, whatever happens to its processes, so no connection is refused while one is
/// replaced.  While a service has no process that takes connections, master watches its sockets; the first caller
/// makes it start one, up to maxproc.  A process says with a byte on its status pipe whether it takes connections
/// (service.h).  A process that dies soon after its start, again and again, is started ever more slowly.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <event2/event_struct.h>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "master/plan.h"

namespace postern::master {

/// Calls a function while a descriptor can be read.
class Watch {
public:
    Watch() = default;
    ~Watch() { stop(); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    using Callback = void (*)(void*);
    void start(int fd, Callback callback, void* argument);
    void stop();

private:
    static void fired(int, short, void* self);
    event event_{};
    Callback callback_ = nullptr;
    void* argument_ = nullptr;
    bool active_ = false;
};

class Supervisor {
public:
    struct Options {
        std::string config_directory;
        int verbosity = 0;
    };

    /// `loaded` is what the first start uses.
    Supervisor(LoadedPlan loaded, Options options);
    ~Supervisor();
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;

    /// Opens all sockets, then begins to serve.  Errors: the first address that cannot be had; then none is open.
    Result<void> start();
    /// Reads the configuration again.  When anything is wrong with it, that is logged and nothing changes.
    void reload();
    /// Tells systemd that all services listen, how many there are, and what `trouble` the administrator has to know of.
    void notify_ready(const std::string& trouble = "") const;
    /// Tells all processes to end and waits for them: done() when the last is gone, after master_stop_timeout by force.
    void stop();
    /// As stop(), but force comes after half a second; at once when stop() was called before.
    void abort();
    /// Collects ended processes; to be called on SIGCHLD.
    void reap();

    /// Called once, when stop() or abort() has come to its end.
    void on_done(std::function<void()> done) { done_ = std::move(done); }

private:
    using Clock = std::chrono::steady_clock;
    struct Service;
    struct Child;
    struct Socket;

    Result<void> adopt(LoadedPlan loaded);
    Result<std::vector<std::shared_ptr<Socket>>> open_sockets(const PlannedService& planned, const Config& config);
    void watch_or_not(Service& service);
    void call_came(Service& service);
    void start_child_of(Service& service);
    void read_status(Child& child);
    void release(Child& child);
    void child_ended(pid_t pid, int status);
    void judge_end(Service& service, const Child& child);
    void wake_successor(Service& service);
    void throttle(Service& service);
    void schedule_wakeup(Service& service, Millis delay);
    void wake(Service& service);
    void report_limit(Service& service);
    void finish_if_stopped();
    void kill_all(int signal_number);
    static void force(void* self);

    LoadedPlan loaded_;
    Options options_;
    std::map<std::string, std::unique_ptr<Service>> services_;   ///< by label
    std::map<pid_t, std::unique_ptr<Child>> children_;
    std::function<void()> done_;
    Timer patience_;
    bool stopping_ = false;
    UniqueFd life_end_, life_;   ///< a pipe whose writing end only this process has: see POSTERN_MASTER_FD in service.h
};

}  // namespace postern::master
