/// Handing recipients of a delivery on to another delivery agent: mailbox_transport, best_mx_transport.
#pragma once

#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/queue/deliver.h"

namespace postern::queue {

struct PassedOn {
    RecipientDone done;       ///< `index` as in the request
    bool logged = false;      ///< the agent was asked, and has written the delivery line
};

/// A copy of `from`, with a descriptor of its own, for another agent: without recipients.
Deliver copy_for_agent(const Deliver& from);

/// `destination` is "transport" or "transport:nexthop"; without next hop it is the request's.  Gives one fate for each recipient, in
/// their order.  Who cannot be served now, because the agent is not there or says so, is deferred and not logged.
Task<std::vector<PassedOn>> pass_on(Deliver request, std::string destination);

}  // namespace postern::queue
