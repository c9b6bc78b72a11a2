/// Connections to delivery agents (private/<transport>), kept open and used again.
#pragma once

#include <map>
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
        idle_.clear();
    }

private:
    using AgentChannel = Channel<queue::ToAgent, queue::FromAgent>;
    struct Idle {
        AgentChannel channel;
        std::int64_t since_usec = 0;
    };
    Task<> converse(std::uint64_t batch, queue::Deliver request);
    Task<Result<AgentChannel>> connect(std::string transport);
    Task<BatchEnd> receive_answers(AgentChannel& channel, std::uint64_t batch, std::size_t expected);

    const Config& config_;
    AgentEvents* events_ = nullptr;
    bool keep_ = true;
    std::map<std::string, std::vector<Idle>> idle_;
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
