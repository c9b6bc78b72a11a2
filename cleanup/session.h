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

/// Who submits.
struct Submitter {
    bool trusted = true;        ///< one of the suite's programs: what it says about client and origin holds
    std::int64_t uid = 0;       ///< otherwise every message is a local submission by this user (smtpd -S, sendmail -bs)
};

/// Serves messages one after another until the submitter goes away.  `shared` and `hooks` outlive the call.
Task<> serve_submitter(SubmitterChannel channel, Submitter submitter, Shared& shared, const SessionHooks& hooks);

/// The same for a connection from master's listener.  Other users than the suite's own are served unless
/// authorized_submit_users restricts submission: then they have to go through postdrop(1), which checks.
Task<> serve_connection(Connection client, const queue::TrustedPeers& trusted, Shared& shared,
                        const SessionHooks& hooks);

}  // namespace postern::cleanup
