/// What is said to cleanup and to qmgr.
///
/// Submission, on a stream to public/cleanup; one connection may carry any number of messages, one after another:
///
///     client                                   cleanup
///     Begin{envelope, content, last=false} ->
///     Content{bytes, last=false} ->            (any number)
///     Content{bytes, last=true} ->
///                                              <- Queued{queue_id} | Refused{452, "4.3.1", text}
///
/// A small message is one Begin with last=true and all its content.  Cleanup may answer Refused before the end of
/// the content (size limit, disk full); the client then stops sending content and begins its next message.  After
/// Begin with last=false the client may break off with Cancel, which is not answered.  Closing the connection does
/// the same.  Queued means: durable (RFC 5321 section 6.1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/ipc/channel.h"
#include "lib/queue/commit_log_format.h"
#include "lib/queue/envelope.h"

namespace postern::queue {

/// Content travels in pieces of at most this many bytes.
inline constexpr std::size_t kMaxContentPiece = 256 * 1024;
/// Bound of one message of this protocol (content piece, or an envelope with many recipients): the second argument
/// of Channel's constructor on cleanup's side.
inline constexpr std::size_t kMaxSubmitMessage = 64 * 1024 * 1024;

/// Starts a message.
struct Begin {
    Envelope envelope;                 ///< arrival_usec 0: cleanup takes its own time
    std::optional<Client> peer;        ///< who sent it to us, when envelope.client is who sent it to them (XFORWARD)
    bool add_received = true;          ///< prepend a Received: field made from `envelope`, and `peer`
    bool complete_headers = false;     ///< a local or submitted message: add From, Date, Message-ID, rewrite
                                       ///< header addresses.  Cleanup also does so when
                                       ///< always_add_missing_headers is set.
    bool map_addresses = true;         ///< canonical, virtual alias, masquerade (no for receive_override_options
                                       ///< no_address_mappings)
    bool add_bcc = true;               ///< always_bcc and friends (no for bounces and forwarded copies)
    bool hide_client = false;          ///< Received: says nothing about the client (smtpd_hide_client_session)
    bool check_headers_and_body = true;  ///< header_checks, body_checks (no_header_body_checks)
    std::string content;               ///< first piece: header fields, empty line, body; lines end in LF
    bool last = false;                 ///< `content` is all
    UniqueFd source;                   ///< pickup: the locked maildrop file (maildrop.h); cleanup removes it by the name in
                                       ///< envelope.maildrop_file, which counts only with this.  Others: none
};
template <class A>
void fields(A& a, Begin& m) {
    a(m.envelope, m.peer, m.add_received, m.complete_headers, m.map_addresses, m.add_bcc, m.hide_client, m.check_headers_and_body, m.content,
      m.last, m.source);
}

/// More content; may be cut anywhere.
struct Content {
    std::string bytes;
    bool last = false;
};
template <class A>
void fields(A& a, Content& m) { a(m.bytes, m.last); }

/// The client lost interest: forget the message begun.
struct Cancel {};
template <class A>
void fields(A&, Cancel&) {}

/// The message is on stable storage under this id (or was discarded by a check under this id).
struct Queued {
    std::string queue_id;
    std::uint64_t size_bytes = 0;      ///< headers and body as stored
};
template <class A>
void fields(A& a, Queued& m) { a(m.queue_id, m.size_bytes); }

/// Nothing was queued; the text is what SMTP says after the codes, such as "Error: message file too big".
struct Refused {
    std::uint32_t code = 451;          ///< SMTP reply code
    std::string dsn;                   ///< RFC 3463
    std::string text;
    std::string queue_id;              ///< the id it would have had, for the log; may be empty
};
template <class A>
void fields(A& a, Refused& m) { a(m.code, m.dsn, m.text, m.queue_id); }

using ToCleanup = std::variant<Begin, Content, Cancel>;
using FromCleanup = std::variant<Queued, Refused>;

// --- to qmgr, on a stream to public/qmgr ----------------------------------------------------------------------

/// cleanup: incoming/<queue_id> is durable and complete.  Not answered.
struct NewMessage {
    std::string queue_id;
    UniqueFd file;                     ///< the same file, open; may be none (cleanup sends none)
    LogPlace place;                    ///< where its copy is (commit_log.h), to be marked when nobody needs that any more
};
template <class A>
void fields(A& a, NewMessage& m) { a(m.queue_id, m.file, m.place); }

/// postqueue -f, sendmail -q: try everything deferred now.
struct FlushAll {};
template <class A>
void fields(A&, FlushAll&) {}

/// postqueue -i: try one deferred message now.
struct FlushOne {
    std::string queue_id;
};
template <class A>
void fields(A& a, FlushOne& m) { a(m.queue_id); }

/// postqueue -s, ETRN: try all deferred mail for this destination domain now.
struct FlushSite {
    std::string domain;
};
template <class A>
void fields(A& a, FlushSite& m) { a(m.domain); }

/// Look into these directories for files that were put there without a notice (after restore, by hand).
struct Rescan {
    bool incoming = true;
    bool deferred = true;
};
template <class A>
void fields(A& a, Rescan& m) { a(m.incoming, m.deferred); }

inline constexpr std::uint8_t kAlteredHeld = 1;       ///< moved to hold/
inline constexpr std::uint8_t kAlteredReleased = 2;   ///< moved from hold/ to deferred/
inline constexpr std::uint8_t kAlteredDeleted = 3;    ///< unlinked
inline constexpr std::uint8_t kAlteredRequeued = 4;   ///< moved to maildrop/ (postsuper -r)
inline constexpr std::uint8_t kAlteredExpired = 5;    ///< forced expiry (postsuper -e, -f)

/// postsuper: these files were moved or unlinked; forget or learn them.
struct Altered {
    std::uint8_t change = 0;
    std::vector<std::string> queue_ids;
};
template <class A>
void fields(A& a, Altered& m) { a(m.change, m.queue_ids); }

/// postern queue: what does qmgr do, and how do its destinations stand?  Answered by QueueStatus, a page of destinations
/// at a time.
struct AskQueueStatus {
    std::string after;                 ///< QueueStatus::last of the page before; empty for the first
    std::uint32_t limit = 0;           ///< destinations wanted; at most kMaxStatusPage come
};
template <class A>
void fields(A& a, AskQueueStatus& m) { a(m.after, m.limit); }

inline constexpr std::uint32_t kMaxStatusPage = 500;

/// One destination that qmgr remembers because something is under way, waits, or must not be tried now.
struct DestinationStatus {
    std::string transport;
    std::string nexthop;
    std::string mailbox;               ///< where each recipient is a destination of its own; else empty
    std::uint32_t window = 0;          ///< deliveries that may run at the same time; 0: dead
    std::uint32_t running = 0;
    std::uint64_t waiting = 0;         ///< recipients not given to an agent yet
    std::int64_t dead_until_usec = 0;  ///< 0: not dead
    std::int64_t delayed_until_usec = 0;   ///< rate delay; 0: none
    std::string dsn, reason;           ///< why it is dead
};
template <class A>
void fields(A& a, DestinationStatus& m) {
    a(m.transport, m.nexthop, m.mailbox, m.window, m.running, m.waiting, m.dead_until_usec, m.delayed_until_usec, m.dsn,
      m.reason);
}

struct QueueStatus {
    std::uint64_t active = 0;          ///< messages
    std::uint64_t incoming = 0;        ///< messages that wait for a place among them
    std::uint64_t deferred = 0;        ///< messages that wait for their time
    std::uint64_t running = 0;         ///< deliveries
    std::int64_t next_seconds = 0;     ///< when the first deferred message is due; 0: there is none
    bool scanning = false;             ///< the queue is still being read
    std::vector<DestinationStatus> destinations;
    std::string last;                  ///< to ask for the next page; empty: that was all
};
template <class A>
void fields(A& a, QueueStatus& m) {
    a(m.active, m.incoming, m.deferred, m.running, m.next_seconds, m.scanning, m.destinations, m.last);
}

/// Answer to everything but NewMessage, Trigger and AskQueueStatus: done, or why not.
struct QmgrAnswer {
    bool ok = true;
    std::string text;
};
template <class A>
void fields(A& a, QmgrAnswer& m) { a(m.ok, m.text); }

/// Trigger: master's wakeup timer; look whether anything is due.
using ToQmgr = std::variant<NewMessage, FlushAll, FlushOne, FlushSite, Rescan, Altered, AskQueueStatus, Trigger>;
using FromQmgr = std::variant<QmgrAnswer, QueueStatus>;

}  // namespace postern::queue
