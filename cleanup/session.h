/// The conversation of cleanup(8) with one submitter (lib/queue/messages.h).
#pragma once

#include <functional>

#include "cleanup/message.h"
#include "lib/async/task.h"
#include "lib/ipc/channel.h"
#include "lib/queue/peers.h"
#include "lib/service/service.h"

namespace postern::cleanup {

using SubmitterChannel = Channel<queue::FromCleanup, queue::ToCleanup>;

/// What a session does beside answering.
struct SessionHooks {
    std::function<void(queue::NewMessage)> tell_qmgr;
    std::function<bool()> draining;   ///< true: end between messages, a fresh process takes over
};

/// Serves messages one after another until the submitter goes away.  `shared` and `hooks` outlive the call.
Task<> serve_submitter(SubmitterChannel channel, Shared& shared, const SessionHooks& hooks);

/// The same for a connection from master's listener; one that is not from the suite's own programs is closed.
Task<> serve_connection(Connection client, const queue::TrustedPeers& submitters, Shared& shared,
                        const SessionHooks& hooks);

}  // namespace postern::cleanup
