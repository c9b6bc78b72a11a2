/// What the queue manager needs from the outside: delivery agents, bounce, a clock.  Tests put their own here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/base/result.h"
#include "lib/queue/deliver.h"
#include "lib/verify/messages.h"
#include "qmgr/report.h"

namespace postern::qmgr {

/// How a conversation about one batch ended.
struct BatchEnd {
    enum class Kind : unsigned char {
        complete,         ///< every recipient was answered
        unreachable,      ///< the destination cannot be reached now; `reason` says why
        transport_dead,   ///< nobody serves the transport
        lost,             ///< the agent went away in the middle
    };
    Kind kind = Kind::complete;
    std::string dsn;
    std::string reason;
};

/// Hears from the agents.  Both calls may come from within Agents::deliver().
class AgentEvents {
public:
    virtual ~AgentEvents() = default;
    /// Some recipients of `batch` are decided; answers that arrived together come together.
    virtual void answered(std::uint64_t batch, std::vector<queue::RecipientDone> answers) = 0;
    /// Once for each batch, last.
    virtual void ended(std::uint64_t batch, BatchEnd end) = 0;
};

class Agents {
public:
    virtual ~Agents() = default;
    /// Hands `request` to its transport's agent.
    virtual void deliver(std::uint64_t batch, queue::Deliver request) = 0;
};

/// bounce(8).
class Notifier {
public:
    virtual ~Notifier() = default;
    /// Success means that the notice is on stable storage, or that none is due.
    virtual Task<Result<void>> report(Report report) = 0;
};

/// verify(8).
class ProbeListener {
public:
    virtual ~ProbeListener() = default;
    /// What became of a probe.  If that does not arrive, the address is probed again some day.
    virtual void probed(verify::VerifyUpdate result) = 0;
};

/// Microseconds since 1970.
using Clock = std::int64_t (*)();

}  // namespace postern::qmgr
