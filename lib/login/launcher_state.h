/// The launcher's work: fronts on one side, session processes on the other, auth(8) asked in between.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/login/launcher.h"
#include "lib/login/session_process.h"
#include "lib/login/sync_channel.h"

namespace postern {

/// A session process as its launcher sees it.
struct SessionProcess {
    pid_t pid = -1;
    AuthUser user;
    SyncChannel<ToSessionProcess, FromSessionProcess> control;
    std::unordered_map<std::uint32_t, std::string> connections;   ///< id: remote IP
    std::chrono::steady_clock::time_point idle_since{};
    std::size_t count_from(const std::string& ip) const;
};

/// One thread, one epoll, blocking only for auth(8) (which answers at once) and never for a client.
class SessionLauncher {
public:
    /// `listeners` and `status` (-1: none) belong to the caller.
    SessionLauncher(const Launcher& program, const Config& config, MailGroups groups, std::vector<int> listeners, int status,
                    int master_pipe);

    /// Until SIGTERM came and the session processes have said goodbye, or until master is gone or SIGHUP came and the
    /// last session has ended.
    void run();

private:
    using Clock = std::chrono::steady_clock;
    using Front = SyncChannel<FromLauncher, ToLauncher>;

    void watch(int fd);
    void handle(int fd);
    void accept_fronts(int listener);
    void read_front(int fd);
    void read_process(int fd);
    void read_signals();
    void reap();
    void drain();
    void stop_all();
    void end_idle_processes(bool at_once);
    bool finished() const;

    FromLauncher take(HandOver request);
    Result<AuthUser> redeem(const std::string& token);
    Result<AuthUser> ask_auth(const std::string& token);
    Result<void> check_ids(const AuthUser& user) const;
    SessionProcess* process_of(const AuthUser& user);
    Result<SessionProcess*> start_process(const AuthUser& user);
    bool give(SessionProcess& process, HandOver& request, bool returned);
    void take_back(int control_fd, ServeClient client);
    void forget_process(int control_fd);

    const Launcher& program_;
    const Config& config_;
    const MailGroups groups_;
    std::vector<int> listeners_;
    int status_;
    int master_pipe_;    ///< for the sessions; -1: none
    const PreparedFilter filter_{Syscalls::session};   ///< of session processes
    UniqueFd epoll_, signals_;
    SyncChannel<ToAuth, FromAuth> auth_;
    std::unordered_map<int, Front> fronts_;                                  ///< by descriptor
    std::unordered_map<int, std::unique_ptr<SessionProcess>> processes_;     ///< by control descriptor
    std::unordered_map<std::string, SessionProcess*> by_user_;
    std::uint32_t last_id_ = 0;
    Clock::time_point looked_for_idle_{};
    bool draining_ = false;
    bool stopping_ = false;
    Clock::time_point patience_ends_{};   ///< of stopping_
};

}  // namespace postern
