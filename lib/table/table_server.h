/// The connections to a server that answers lookups, one for each lookup that waits; and a short memory of what does not answer.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/table/blocking_socket.h"

namespace postern {

/// Used by one thread, but by several stacks of it (lib/async/wait_here.h).  Connections are kept for the next lookup.
class TableServer {
public:
    static constexpr std::size_t kMaxConnections = 32;    ///< more lookups than these wait for one that ends...
    static constexpr std::size_t kMaxWaiting = 128;       ///< ...and more than these fail at once
    static constexpr std::size_t kMaxSetAside = 512;      ///< the same, for all servers that this thread asks

    /// With an empty `port`, `host` is the path of a Unix socket.
    TableServer(std::string host, std::string port) : host_(std::move(host)), port_(std::move(port)) {}

    /// One question and its reply over a connection that is open, whose deadline is set.
    using Exchange = std::function<Result<std::string>(BlockingSocket&)>;

    /// What `exchange` gives back within `seconds` from now; repeated over a new connection when one that was kept turns out
    /// to be closed.  Errors: timeout, closed, io, temporary.
    Result<std::string> ask(const Exchange& exchange, int seconds);

private:
    using Clock = std::chrono::steady_clock;
    struct Kept {
        BlockingSocket socket;
        Clock::time_point since;
    };
    Result<void> take_turn(Clock::time_point until);
    Result<std::string> ask_in_turn(const Exchange& exchange, int seconds);
    Result<std::string> attempt(BlockingSocket& socket, const Exchange& exchange);
    void keep(BlockingSocket socket);

    std::string host_;
    std::string port_;
    std::vector<Kept> kept_;       ///< the one used last is last
    std::size_t in_use_ = 0;
    std::size_t waiting_ = 0;
    Notice freed_;
};

/// Remembers for a few seconds that a table's server has kept somebody waiting in vain, so that each next question fails at
/// once.  Then one question tries again, and until it has an answer the others fail as before.  A server that has answered
/// others meanwhile is slow with one question only, and is not remembered.
class Outage {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds kMemory{5};
    static constexpr std::chrono::seconds kLong{1};   ///< what fails faster than this keeps nobody waiting

    explicit Outage(Clock::time_point (*now)() = &Clock::now) : now_(now) {}

    /// `question`, or its last error while that is remembered.
    Result<std::string> guard(const std::function<Result<std::string>()>& question);

private:
    Clock::time_point (*now_)();
    std::optional<Error> error_;
    bool trying_ = false;          ///< one asks whether that is over
    Clock::time_point until_;
    Clock::time_point answered_;
};

}  // namespace postern
