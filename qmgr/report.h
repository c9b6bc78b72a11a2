/// What qmgr asks of bounce, on a stream to private/bounce: tell somebody what became of a message.  One
/// connection carries one Report after another, each answered with Reported.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/queue/envelope.h"

namespace postern::qmgr {

inline constexpr std::uint8_t kReportFailure = 1;   ///< could not be delivered (RFC 3464 Action: failed)
inline constexpr std::uint8_t kReportDelay = 2;     ///< not yet delivered (delayed)
inline constexpr std::uint8_t kReportSuccess = 3;   ///< NOTIFY=SUCCESS was asked for
inline constexpr std::uint8_t kReportTrace = 4;     ///< sendmail -v, -bv

/// Whether the sender is to hear of this outcome, one of queue::kNotify (RFC 3461 section 4.1: failures, and delays if the system
/// tells of them, where nothing was asked for).
inline bool wants_notice(const queue::Recipient& recipient, std::uint8_t kind) {
    const auto usual = static_cast<std::uint8_t>(queue::kNotifyFailure | queue::kNotifyDelay);
    return ((recipient.notify == 0 ? usual : recipient.notify) & kind) != 0;
}

/// Bound of one Report: a message may have very many recipients.
inline constexpr std::size_t kMaxReport = 128 * 1024 * 1024;

struct ReportRecipient {
    queue::Recipient recipient;
    std::string dsn;                ///< RFC 3463
    std::string reason;
    std::string action;             ///< RFC 3464: failed, delayed, delivered, relayed, expanded, deliverable, ...
    std::string remote_mta;         ///< host name, may be empty
    std::string diagnostic;         ///< "smtp; 550 ...", may be empty
    std::int64_t time_usec = 0;     ///< of the last attempt
};
template <class A>
void fields(A& a, ReportRecipient& m) {
    a(m.recipient, m.dsn, m.reason, m.action, m.remote_mta, m.diagnostic, m.time_usec);
}

struct Report {
    std::uint8_t kind = kReportFailure;
    std::string queue_id;
    UniqueFd message;                        ///< the queue file, open for reading
    queue::Extent headers, body;
    std::string sender;                      ///< of the message; empty: the report goes to the postmaster or nowhere
    std::string list_owner;                  ///< who is told in place of the sender; empty: the sender
    std::string dsn_envid;
    std::uint8_t dsn_ret = queue::kRetNone;
    std::uint8_t encoding = queue::kEncodingUnspecified;
    bool smtputf8 = false;
    bool requiretls = false;                 ///< what is sent back has no content, or asks for REQUIRETLS too (RFC 8689 section 5)
    std::int64_t arrival_usec = 0;
    std::int64_t expires_usec = 0;           ///< Will-Retry-Until of a delay notice
    std::vector<ReportRecipient> recipients; ///< at least one; also those whom NOTIFY hides from the sender: a postmaster sees all
    /// Whose notice it is.
    const std::string& told() const { return list_owner.empty() ? sender : list_owner; }
};
template <class A>
void fields(A& a, Report& m) {
    a(m.kind, m.queue_id, m.message, m.headers, m.body, m.sender, m.list_owner, m.dsn_envid, m.dsn_ret, m.encoding, m.smtputf8,
      m.requiretls, m.arrival_usec, m.expires_usec, m.recipients);
}

/// The notice is queued (or none is due by the rules); otherwise why not, and qmgr keeps the message.
struct Reported {
    bool ok = false;
    std::string text;
};
template <class A>
void fields(A& a, Reported& m) { a(m.ok, m.text); }

using ToBounce = std::variant<Report>;
using FromBounce = std::variant<Reported>;

}  // namespace postern::qmgr
