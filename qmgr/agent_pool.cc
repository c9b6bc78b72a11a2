#include "qmgr/agent_pool.h"

#include <ctime>

#include "lib/log/log.h"

namespace postern::qmgr {
namespace {

constexpr Millis kConnectTimeout = std::chrono::seconds(30);
constexpr std::int64_t kWarnAgain = 60'000'000;

}  // namespace

std::int64_t wall_clock_usec() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
}

void AgentPool::deliver(std::uint64_t batch, queue::Deliver request) {
    spawn(converse(batch, std::move(request)));
}

/// An idle connection, the one used last, or a new one.
Task<Result<AgentPool::AgentChannel>> AgentPool::connect(std::string transport) {
    std::vector<Idle>& idle = idle_[transport];
    if (!idle.empty()) {
        AgentChannel channel = std::move(idle.back().channel);
        idle.pop_back();
        co_return channel;
    }
    Result<UniqueFd> socket = co_await connect_unix("private/" + transport, kConnectTimeout);
    if (!socket) {
        co_return socket.error();
    }
    co_return AgentChannel(std::move(*socket));
}

Task<> AgentPool::converse(std::uint64_t batch, queue::Deliver request) {
    const std::string transport = request.transport;
    const std::size_t expected = request.recipients.size();
    Result<AgentChannel> connected = co_await connect(transport);
    if (!connected) {
        std::int64_t& warned = warned_usec_[transport];
        if (wall_clock_usec() - warned > kWarnAgain) {
            warned = wall_clock_usec();
            log_warning("connect to transport private/{}: {}", transport, connected.error().what);
        }
        BatchEnd dead{BatchEnd::Kind::transport_dead, "4.3.0", "mail transport unavailable"};
        events_->ended(batch, std::move(dead));
        co_return;
    }
    AgentChannel channel = std::move(*connected);
    channel.post(std::move(request));
    BatchEnd end = co_await receive_answers(channel, batch, expected);
    if (end.kind == BatchEnd::Kind::lost) {
        idle_[transport].clear();   // connections to an agent that ended are likely all stale
    } else if (keep_) {
        idle_[transport].push_back({std::move(channel), wall_clock_usec()});
    } else {
        channel.close();
    }
    events_->ended(batch, std::move(end));
}

/// Until every recipient is answered, or the agent gives up or vanishes.
Task<BatchEnd> AgentPool::receive_answers(AgentChannel& channel, std::uint64_t batch, std::size_t expected) {
    std::vector<queue::RecipientDone> together;
    std::size_t answered = 0;
    BatchEnd end;
    while (answered < expected) {
        Result<queue::FromAgent> message = co_await channel.receive(config_.daemon_timeout());
        if (!message) {
            if (message.error().code != Errc::closed) {
                log_warning("delivery agent: {}", message.error().what);
            }
            events_->answered(batch, std::move(together));
            BatchEnd lost{BatchEnd::Kind::lost, "4.3.0", "unknown mail transport error"};
            co_return lost;
        }
        if (auto* gone = std::get_if<queue::Unavailable>(&*message)) {
            events_->answered(batch, std::move(together));
            const auto kind = gone->transport_dead ? BatchEnd::Kind::transport_dead : BatchEnd::Kind::unreachable;
            end = {kind, gone->dsn.empty() ? "4.3.0" : gone->dsn, std::move(gone->reason)};
            co_return end;
        }
        auto& done = std::get<queue::RecipientDone>(*message);
        if (done.unreachable) {
            end = {BatchEnd::Kind::unreachable, done.dsn, done.reason};
        }
        together.push_back(std::move(done));
        ++answered;
        if (answered == expected || !channel.has_frame()) {
            events_->answered(batch, std::move(together));
            together.clear();
        }
    }
    co_return end;
}

void AgentPool::close_idle() {
    const std::int64_t oldest = wall_clock_usec() - config_.ipc_idle().count() * 1'000'000;
    for (auto& [transport, idle] : idle_) {
        std::size_t stale = 0;
        while (stale < idle.size() && idle[stale].since_usec < oldest) {
            ++stale;
        }
        idle.erase(idle.begin(), idle.begin() + static_cast<std::ptrdiff_t>(stale));
    }
}

Task<Result<void>> BounceClient::report(Report report) {
    const std::string path = "private/" + (report.kind == kReportFailure   ? config_.bounce_service_name()
                                           : report.kind == kReportDelay   ? config_.defer_service_name()
                                                                           : config_.trace_service_name());
    co_await places_.acquire();
    Result<UniqueFd> socket = co_await connect_unix(path, kConnectTimeout);
    if (!socket) {
        places_.release();
        co_return Error(socket.error().code, "connect to " + path + ": " + socket.error().what);
    }
    BounceChannel channel(std::move(*socket));
    channel.post(std::move(report));
    const Result<FromBounce> answer = co_await channel.receive(config_.daemon_timeout());
    places_.release();
    if (!answer) {
        co_return answer.error();
    }
    const Reported& reported = std::get<Reported>(*answer);
    if (!reported.ok) {
        co_return Error(Errc::temporary, reported.text);
    }
    co_return Result<void>();
}

}  // namespace postern::qmgr
