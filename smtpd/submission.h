/// Handing a message to cleanup(8) as it arrives.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/queue/cleanup_client.h"
#include "lib/queue/messages.h"

namespace postern::smtpd {

/// How a message fared.
struct Receipt {
    bool queued = false;
    std::string queue_id;      ///< when queued; perhaps also when refused
    int code = 451;            ///< the SMTP reply when refused
    std::string dsn = "4.3.0";
    std::string text = "Error: queue file write error";
};

/// One message on its way into the queue.  Call write() for the content in order, then finish(); destroying the
/// object before finish() forgets the message.
class Submission {
public:
    virtual ~Submission() = default;
    Submission() = default;
    Submission(const Submission&) = delete;
    Submission& operator=(const Submission&) = delete;

    /// Takes content (LF lines) out of `content`, some or all of it, sending when there is enough.
    virtual Task<> write(std::string& content) = 0;
    /// The rest, and the end.  Queued means durable (RFC 5321 section 6.1).
    virtual Task<Receipt> finish(std::string content) = 0;
};

/// Where submissions go: cleanup, or a test's memory.
class Outlet {
public:
    virtual ~Outlet() = default;
    /// Starts a message; `begin.content` is empty.
    virtual std::unique_ptr<Submission> begin(queue::Begin begin) = 0;
};

/// Keeps clients of cleanup(8) and uses them again.
class CleanupOutlet : public Outlet {
public:
    /// `path` is relative to the queue directory: "public/cleanup".
    explicit CleanupOutlet(std::string path) : clients_(std::move(path), kMaxIdleClients) {}
    std::unique_ptr<Submission> begin(queue::Begin begin) override;

    queue::CleanupClients& clients() { return clients_; }
    /// Closes what is idle, so that a cleanup that is to end can end.
    void forget_idle() { clients_.forget_idle(); }

private:
    static constexpr std::size_t kMaxIdleClients = 20;
    queue::CleanupClients clients_;
};

}  // namespace postern::smtpd
