/// What qmgr and the delivery agents (local, virtual, smtp, lmtp, pipe, error, discard) say to each other, on a
/// stream to private/<transport>.  The agent begins with Ready once it has taken the connection, which one that has all the
/// sessions it may have does not; until then nothing is said to it.  One connection carries one Deliver after another; each is
/// answered with one RecipientDone per recipient, in any order, or with Unavailable for those that are left.  The agent logs the
/// delivery lines; only qmgr writes the journal.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/queue/envelope.h"

namespace postern::queue {

/// One recipient as qmgr has resolved it.
struct DeliverTo {
    Recipient recipient;               ///< its `address` is what the transport is to deliver to
    std::uint32_t index = 0;           ///< in the queue file's envelope; comes back in RecipientDone
};
template <class A>
void fields(A& a, DeliverTo& m) { a(m.recipient, m.index); }

/// A message for one nexthop.
struct Deliver {
    std::string queue_id;
    UniqueFd message;                          ///< the queue file, open for reading
    Extent headers, body;                      ///< in that file; the message is headers, then body (see queue_file.h)
    std::string transport;                     ///< name of the master.cf service
    std::string nexthop;
    std::string sender;                        ///< empty for the null sender
    std::vector<DeliverTo> recipients;         ///< at least one
    std::int64_t arrival_usec = 0;             ///< first part of delays=; also makes names derived from queue_id unique
    std::int64_t active_usec = 0;              ///< became active in qmgr (second part of delays= starts here)
    std::int64_t handed_usec = 0;              ///< handed to the agent
    std::string dsn_envid;
    std::uint8_t dsn_ret = kRetNone;
    std::uint8_t encoding = kEncodingUnspecified;
    bool smtputf8 = false;
    bool requiretls = false;
    bool trace = false;                        ///< sendmail -v
    bool verify_only = false;                  ///< deliver nothing, answer what would happen
    bool rewrite_local = false;
    std::uint8_t origin = kOriginSmtp;
    Client client;
};
template <class A>
void fields(A& a, Deliver& m) {
    a(m.queue_id, m.message, m.headers, m.body, m.transport, m.nexthop, m.sender, m.recipients, m.arrival_usec,
      m.active_usec, m.handed_usec, m.dsn_envid, m.dsn_ret, m.encoding, m.smtputf8, m.requiretls, m.trace,
      m.verify_only, m.rewrite_local, m.origin, m.client);
}

inline constexpr std::uint8_t kDelivered = 1;  ///< done for good: delivered, forwarded, discarded
inline constexpr std::uint8_t kDeferred = 2;   ///< try again later
inline constexpr std::uint8_t kBounced = 3;    ///< failed for good: tell the sender

/// The fate of one recipient; sent once for each, in any order.
struct RecipientDone {
    std::uint32_t index = 0;                   ///< DeliverTo::index
    std::uint8_t outcome = kDeferred;
    std::string dsn;                           ///< RFC 3463 code, such as "2.0.0"
    std::string reason;                        ///< for the log, mailq and the bounce
    std::string action;                        ///< RFC 3464 Action if not implied: "relayed", "expanded", "delivered"
    std::string relay;                         ///< relay= of the log line, "none" when no connection was made
    std::string remote_mta;                    ///< RFC 3464 Remote-MTA host name, if a remote host answered
    std::string diagnostic;                    ///< RFC 3464 Diagnostic-Code, such as "smtp; 550 5.1.1 no such user"
    std::string notice_sender;                 ///< kBounced: who hears of it in place of the sender (a list's owner); empty: the sender
    bool unreachable = false;                  ///< kDeferred because of the destination, not the message: qmgr slows down
};
template <class A>
void fields(A& a, RecipientDone& m) {
    a(m.index, m.outcome, m.dsn, m.reason, m.action, m.relay, m.remote_mta, m.diagnostic, m.notice_sender, m.unreachable);
}

/// The agent gives up, for now, on all recipients it has not reported; qmgr throttles the transport or destination.
struct Unavailable {
    std::string dsn;                           ///< "4.3.0" if empty
    std::string reason;
    bool transport_dead = false;               ///< true: not only this destination but the whole transport is unusable
};
template <class A>
void fields(A& a, Unavailable& m) { a(m.dsn, m.reason, m.transport_dead); }

/// The agent has taken the connection.
struct Ready {};
template <class A>
void fields(A&, Ready&) {}

using ToAgent = std::variant<Deliver>;
using FromAgent = std::variant<RecipientDone, Unavailable, Ready>;

}  // namespace postern::queue
