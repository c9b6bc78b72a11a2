/// Connections to delivery agents (private/<transport>), kept open and used again.
///
/// A request is handed over only when an agent is ready for it: on a connection that has become free, or on a new one that an
/// agent has taken, whichever comes first.  So agents may take fewer at a time than there are deliveries: the others wait here,
/// first come first served, and not in the backlog of a socket behind connections that nobody needs.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/config/config.h"
#include "lib/ipc/channel.h"
#include "qmgr/partners.h"

namespace postern::qmgr {

class AgentPool final : public Agents {
public:
    /// `config` outlives the pool.
    explicit AgentPool(const Config& config) : config_(config) {}
    /// Before the first deliver(); outlives the pool's conversations.
    void set_events(AgentEvents& events) { events_ = &events; }

    void deliver(std::uint64_t batch, queue::Deliver request) override;
    /// Closes connections that were not used for ipc_idle, so that agents may end.
    void close_idle();
    /// From now on no connection is kept: agents that are told to end as well must not wait for us.
    void keep_none() {
        keep_ = false;
        for (auto& [name, transport] : transports_) {
            transport.idle.clear();
        }
    }

private:
    using AgentChannel = Channel<queue::ToAgent, queue::FromAgent>;
    struct Idle {
        AgentChannel channel;
        std::int64_t since_usec = 0;
    };
    /// A request for which no agent is ready yet; lives in converse().
    struct Waiter {
        std::optional<AgentChannel> channel{};
        BatchEnd why_not{};   ///< when the wait is over and there is no channel
        Notice news{};
    };
    struct Transport {
        std::vector<Idle> idle;          ///< empty while anybody waits
        std::deque<Waiter*> waiting;
        std::size_t connecting = 0;      ///< connections under way that no agent has taken yet
    };
    Task<> converse(std::uint64_t batch, queue::Deliver request);
    Task<> wait_for_agent(const std::string& name, Waiter& waiter);
    void connect_more(const std::string& name);
    Task<> connect(std::string name);
    Task<Result<AgentChannel>> open(const std::string& name);
    void offer(const std::string& name, AgentChannel channel);
    void refuse_all(const std::string& name, const Error& why);
    Task<BatchEnd> receive_answers(AgentChannel& channel, std::uint64_t batch, std::size_t expected);

    const Config& config_;
    AgentEvents* events_ = nullptr;
    bool keep_ = true;
    std::map<std::string, Transport> transports_;
    std::map<std::string, std::int64_t> warned_usec_;   ///< transports that nobody serves, each logged once in a while
};

/// bounce(8), over private/bounce.
class BounceClient final : public Notifier {
public:
    explicit BounceClient(const Config& config) : config_(config) {}
    Task<Result<void>> report(Report report) override;

private:
    using BounceChannel = Channel<ToBounce, FromBounce>;
    const Config& config_;
    Semaphore places_{50};
};

/// The system's clock.
std::int64_t wall_clock_usec();

}  // namespace postern::qmgr
