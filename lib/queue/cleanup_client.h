/// How smtpd, pickup, bounce and local hand messages to cleanup (messages.h).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "lib/ipc/channel.h"
#include "lib/queue/messages.h"

namespace postern::queue {

/// One connection to cleanup, kept for any number of messages, one at a time.  Connects when first needed and
/// again after cleanup has gone away between messages.
///
///     CleanupClient cleanup("public/cleanup");
///     Result<FromCleanup> answer = co_await cleanup.submit(std::move(begin));      // begin.last is true
///
/// or begin(), content() any number of times, end().  After an error the message counts as not queued (451 4.3.0)
/// and the next begin() connects anew.
class CleanupClient {
public:
    explicit CleanupClient(std::string path = "public/cleanup") : path_(std::move(path)) {}

    /// A whole small message.  Errors: closed, timeout, not_found, ... : cleanup cannot be reached or died.
    Task<Result<FromCleanup>> submit(Begin message);

    /// Starts a message whose content follows; `message.last` must be false.
    Task<Result<void>> begin(Begin message);
    /// More content, cut to pieces as needed.  Waits while cleanup does not keep up.
    Task<Result<void>> content(std::string_view bytes);
    /// Cleanup has refused the message already: stop sending and call end() for the answer.
    bool answered_early() const { return channel_ && channel_.has_frame(); }
    /// The content is complete: waits for the answer.
    Task<Result<FromCleanup>> end();
    /// Forgets the message begun.
    void cancel();

private:
    Task<Result<void>> connect();
    Task<Result<FromCleanup>> answer();
    bool peer_is_gone() const;

    std::string path_;
    Channel<ToCleanup, FromCleanup> channel_;
    std::chrono::steady_clock::time_point last_used_{};
};

/// Clients that are kept and used again.
class CleanupClients {
public:
    /// `path` is relative to the queue directory: "public/cleanup".  At most `kept` are kept.
    CleanupClients(std::string path, std::size_t kept) : path_(std::move(path)), kept_(kept) {}

    /// One that is not in use; give it back after success.
    std::unique_ptr<CleanupClient> take();
    void give_back(std::unique_ptr<CleanupClient> client);
    /// Closes what is idle, so that a cleanup that is to end can end.
    void forget_idle() { idle_.clear(); }

private:
    std::string path_;
    std::size_t kept_;
    std::vector<std::unique_ptr<CleanupClient>> idle_;
};

}  // namespace postern::queue
