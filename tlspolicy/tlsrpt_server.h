/// Counts TLS sessions for the smtp processes, and reports each day's counts to the domains that want them (RFC 8460).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/dns/dns.h"
#include "lib/http/https.h"
#include "lib/ipc/channel.h"
#include "lib/tlsrpt/messages.h"
#include "tlspolicy/tlsrpt_book.h"
#include "tlspolicy/tlsrpt_record.h"
#include "tlspolicy/tlsrpt_report.h"

namespace postern::tlspolicy {

/// Puts a message into the queue; tests look at it.
class ReportMailer {
public:
    virtual ~ReportMailer() = default;
    /// Durable when it returns.  Errors: what cleanup says.
    virtual Task<Result<void>> send(std::string sender, std::string recipient, std::string content) = 0;
};

class TlsrptServer {
public:
    struct Parts {
        Reporter reporter;
        Dns& dns;                      ///< this and all below outlive the server
        Https& https;
        TlsrptBook& book;
        ReportMailer& mailer;
        std::int64_t (*clock)();       ///< seconds since 1970
        std::function<void()> begin_work = [] {};   ///< the process is not idle
        std::function<void()> end_work = [] {};
    };
    explicit TlsrptServer(Parts parts) : parts_(std::move(parts)) {}

    /// One connection, until it goes or says what cannot be understood.
    Task<> serve(UniqueFd process);
    void close_all();

    /// Notes one outcome; on disk within kCommit.
    void count(const TlsrptOutcome& outcome);
    /// What is noted and not on disk, now; blocks.  For the end of the process.
    void write_rest();
    /// Sends the reports of past days that are due: in the first kSpread of the day after, at a moment that is this host's
    /// own, so that not all senders come at midnight; then each hour until all have it or kAttempts have failed.
    Task<> send_due();
    /// Sends reports at once, whether or not they were sent before.  Yields what happened, a line each.
    Task<std::string> send_now(std::string day, std::string domain);
    std::string show(const TlsrptShow& what) const;

    static constexpr Millis kCommit = std::chrono::seconds(1);
    static constexpr std::int64_t kSpread = 4 * 3600, kRetry = 3600, kKeepDays = 14;   ///< seconds; days
    static constexpr std::uint32_t kAttempts = 24;

private:
    using Peer = Channel<FromTlsrpt, ToTlsrpt>;
    Task<bool> handle(ToTlsrpt message, Peer& peer);
    Task<> commit_soon();
    Task<std::string> report(BookKey key, bool again);
    Task<Result<void>> deliver(const ReportUri& uri, const BookKey& key, const std::string& compressed);
    Task<> note(const BookKey& key, ReportState state);
    bool is_due(const BookKey& key) const;

    Parts parts_;
    Counts noted_;
    bool committing_ = false;
    bool sending_ = false;
    std::unordered_set<Peer*> peers_;
};

}  // namespace postern::tlspolicy
