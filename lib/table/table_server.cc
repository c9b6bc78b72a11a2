#include "lib/table/table_server.h"

#include <utility>

#include "lib/async/wait_here.h"

namespace postern {
namespace {

constexpr std::chrono::seconds kKeepFor{60};   ///< servers close what is idle for long

Task<Wake> wait_for(Notice& notice, Millis patience) {
    const Wake wake = co_await notice.wait(patience);
    co_return wake;
}

}  // namespace

/// Waits until one of the connections may be used.
Result<void> TableServer::take_turn(Clock::time_point until) {
    if (!can_wait_here()) {
        return {};   // nobody else asks meanwhile
    }
    if (stacks_set_aside() >= kMaxSetAside) {
        return Error(Errc::temporary, "too many lookups wait for servers");
    }
    while (in_use_ >= kMaxConnections) {
        if (waiting_ >= kMaxWaiting) {
            return Error(Errc::temporary, "too many lookups wait for this server");
        }
        const auto left = std::chrono::ceil<Millis>(until - Clock::now());
        if (left <= Millis(0)) {
            return Error(Errc::timeout, "timeout");
        }
        ++waiting_;
        const Wake wake = wait_here(wait_for(freed_, left));
        --waiting_;
        if (wake != Wake::ready) {
            return Error(Errc::timeout, "timeout");
        }
    }
    return {};
}

Result<std::string> TableServer::ask(const Exchange& exchange, int seconds) {
    if (const Result<void> turn = take_turn(Clock::now() + std::chrono::seconds(seconds)); !turn) {
        return turn.error();
    }
    ++in_use_;
    Result<std::string> reply = ask_in_turn(exchange, seconds);
    --in_use_;
    freed_.notify_one();
    return reply;
}

Result<std::string> TableServer::ask_in_turn(const Exchange& exchange, int seconds) {
    BlockingSocket socket;
    if (!kept_.empty()) {
        socket = std::move(kept_.back().socket);
        kept_.pop_back();
    }
    const bool reused = socket.is_open();
    socket.set_deadline(seconds);
    Result<std::string> reply = attempt(socket, exchange);
    if (!reply && reused && reply.error().code == Errc::closed) {
        kept_.clear();   // older than that one
        socket.close();
        reply = attempt(socket, exchange);
    }
    if (reply) {
        keep(std::move(socket));
    }
    return reply;
}

Result<std::string> TableServer::attempt(BlockingSocket& socket, const Exchange& exchange) {
    if (!socket.is_open()) {
        const Result<void> connected = port_.empty() ? socket.connect_unix(host_) : socket.connect_tcp(host_, port_);
        if (!connected) {
            return connected.error();
        }
    }
    return exchange(socket);
}

void TableServer::keep(BlockingSocket socket) {
    const Clock::time_point now = Clock::now();
    while (!kept_.empty() && now - kept_.front().since > kKeepFor) {
        kept_.erase(kept_.begin());
    }
    if (socket.is_open() && kept_.size() < kMaxConnections) {
        kept_.push_back({std::move(socket), now});
    }
}

Result<std::string> Outage::guard(const std::function<Result<std::string>()>& question) {
    const Clock::time_point began = now_();
    if (error_ && (trying_ || began < until_)) {
        return *error_;
    }
    const bool trial = error_.has_value();
    trying_ = trying_ || trial;
    Result<std::string> answer = question();
    const Clock::time_point now = now_();
    trying_ = trying_ && !trial;
    if (answer) {
        answered_ = now;
        error_.reset();
    } else if (now - began >= kLong && answered_ < began) {
        error_ = answer.error();
        until_ = now + kMemory;
    } else if (trial) {
        error_.reset();
    }
    return answer;
}

}  // namespace postern
