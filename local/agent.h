/// What all delivery agents have in common: the conversation with qmgr and the log lines.
#pragma once

#include <functional>
#include <string>

#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/sandbox/identity.h"
#include "lib/table/status_filter.h"
#include "lib/table/table.h"
#include "local/message.h"
#include "local/outcome.h"

namespace postern::local {

/// Delivers to one recipient; `index` is its place in message->request().recipients.
using Deliverer = std::function<Task<Outcome>(MessagePtr message, std::size_t index)>;
/// Delivers to all recipients in one go; they share the outcome.
using GroupDeliverer = std::function<Task<Outcome>(MessagePtr message)>;

class Agent {
public:
    /// `name` stands in relay= of log lines.  `filter` is the agent's *_delivery_status_filter.
    Agent(std::string name, StatusFilter filter, Deliverer deliver);
    /// For agents that take a request as a whole.
    Agent(std::string name, StatusFilter filter, GroupDeliverer deliver);

    /// soft_bounce: what fails for good is tried again, and its line says SOFTBOUNCE.
    void set_soft_bounce(bool soft) { soft_bounce_ = soft; }
    /// soft_bounce, info_log_address_format and delay_logging_resolution_limit.
    void obey(const Config& config) {
        set_soft_bounce(config.soft_bounce());
        quotes_ = config.info_log_address_format() != "internal";
        resolution_ = static_cast<int>(config.delay_logging_resolution_limit());
    }

    /// One connection from qmgr: request after request.  The recipients of one request are worked on together.
    Task<> serve(UniqueFd socket);

    /// Writes the delivery line of one recipient, now; `outcome` then counts as logged.
    void log(const Message& message, const queue::Recipient& recipient, Outcome& outcome);

private:
    struct Round;
    Task<> deliver_one(Round& round, MessagePtr message, std::size_t index);
    Task<> deliver_each(Round& round, MessagePtr message);
    Task<> deliver_group(Round& round, MessagePtr message);
    void answer(Round& round, const Message& message, std::size_t index, Outcome outcome);
    bool soften(const Message& message, Outcome& outcome) const;

    std::string name_;
    StatusFilter filter_;
    Deliverer deliver_;
    GroupDeliverer deliver_group_;
    bool soft_bounce_ = false;
    int resolution_ = 2;
    bool quotes_ = true;           ///< addresses in the log have quotes where RFC 5321 wants them
};

/// Opens a *_delivery_status_filter.  Ends the process when that fails.
StatusFilter open_status_filter(std::string_view parameter, const std::string& value, const TableContext& context);

/// Runs blocking `work` on a thread that has taken on `user`'s rights.  A process that is not root works as
/// itself.  Deferred when the rights cannot be had.
Task<Outcome> work_as(UserIdentity user, std::function<Outcome()> work);

/// The process can change users.  First called before threads are started.
bool changes_user();

/// Microseconds since 1970.
std::int64_t now_usec();

}  // namespace postern::local
