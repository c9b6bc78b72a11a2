#include "qmgr/agent_pool.h"

#include <algorithm>
#include <ctime>

#include "lib/log/log.h"

namespace postern::qmgr {
namespace {

constexpr Millis kConnectTimeout = std::chrono::seconds(30);
/// A listener's backlog holds more.
constexpr std::size_t kMaxConnecting = 10;
constexpr int kAttempts = 5;
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

/// An idle connection, the one used last, or the first that becomes free or new.
Task<> AgentPool::wait_for_agent(const std::string& name, Waiter& waiter) {
    Transport& transport = transports_[name];
    if (!transport.idle.empty()) {
        waiter.channel = std::move(transport.idle.back().channel);
        transport.idle.pop_back();
        co_return;
    }
    transport.waiting.push_back(&waiter);
    connect_more(name);
    while (!waiter.channel && waiter.why_not.reason.empty()) {
        co_await waiter.news.wait(kForever);
    }
}

/// One connection under way for each that waits, within kMaxConnecting: what an agent that is full does not take anyway.
void AgentPool::connect_more(const std::string& name) {
    Transport& transport = transports_[name];
    while (transport.connecting < std::min(kMaxConnecting, transport.waiting.size())) {
        ++transport.connecting;
        spawn(connect(name));
    }
}

Task<> AgentPool::connect(std::string name) {
    Result<AgentChannel> opened = co_await open(name);
    Transport& transport = transports_[name];
    --transport.connecting;
    if (opened) {
        offer(name, std::move(*opened));
    } else {
        refuse_all(name, opened.error());
    }
    connect_more(name);
}

/// A connection that an agent has taken.  One that ends its process first has done so for reasons of its own: there is another.
Task<Result<AgentPool::AgentChannel>> AgentPool::open(const std::string& name) {
    Error last(Errc::closed, "");
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        Result<UniqueFd> socket = co_await connect_unix("private/" + name, kConnectTimeout);
        if (!socket) {
            co_return socket.error();
        }
        AgentChannel channel(std::move(*socket));
        Result<queue::FromAgent> greeting = co_await channel.receive(config_.daemon_timeout());
        if (greeting && std::holds_alternative<queue::Ready>(*greeting)) {
            co_return std::move(channel);
        }
        last = greeting ? Error(Errc::syntax, "the service is no delivery agent") : greeting.error();
    }
    co_return last;
}

/// A connection that is free goes to whoever has waited longest.
void AgentPool::offer(const std::string& name, AgentChannel channel) {
    Transport& transport = transports_[name];
    if (!transport.waiting.empty()) {
        Waiter* const next = transport.waiting.front();
        transport.waiting.pop_front();
        next->channel = std::move(channel);
        next->news.notify_all();
    } else if (keep_) {
        transport.idle.push_back({std::move(channel), wall_clock_usec()});
    } else {
        channel.close();
    }
}

/// Nobody serves the transport.
void AgentPool::refuse_all(const std::string& name, const Error& why) {
    std::int64_t& warned = warned_usec_[name];
    if (wall_clock_usec() - warned > kWarnAgain) {
        warned = wall_clock_usec();
        log_warning("connect to transport private/{}: {}", name, why.what);
    }
    std::deque<Waiter*> waiting;
    waiting.swap(transports_[name].waiting);
    for (Waiter* const waiter : waiting) {
        waiter->why_not = {BatchEnd::Kind::transport_dead, "4.3.0", "mail transport unavailable"};
        waiter->news.notify_all();
    }
}

Task<> AgentPool::converse(std::uint64_t batch, queue::Deliver request) {
    const std::string name = request.transport;
    const std::size_t expected = request.recipients.size();
    Waiter waiter;
    co_await wait_for_agent(name, waiter);
    if (!waiter.channel) {
        events_->ended(batch, std::move(waiter.why_not));
        co_return;
    }
    AgentChannel channel = std::move(*waiter.channel);
    request.handed_usec = wall_clock_usec();
    channel.post(std::move(request));
    BatchEnd end = co_await receive_answers(channel, batch, expected);
    if (end.kind == BatchEnd::Kind::lost) {
        transports_[name].idle.clear();   // connections to an agent that ended are likely all stale
        connect_more(name);
    } else {
        offer(name, std::move(channel));   // whoever waits goes on when we do
    }
    // What became of this batch is written down here, before the next request leaves on the connection: with that the agent forgets it.
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
        auto* const done = std::get_if<queue::RecipientDone>(&*message);
        if (done == nullptr) {
            continue;   // a second greeting
        }
        if (done->unreachable) {
            end = {BatchEnd::Kind::unreachable, done->dsn, done->reason};
        }
        together.push_back(std::move(*done));
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
    for (auto& [name, transport] : transports_) {
        std::vector<Idle>& idle = transport.idle;
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
