#include "cleanup/session.h"

#include <unistd.h>

#include <chrono>

#include "lib/log/log.h"
#include "lib/queue/maildrop.h"
#include "lib/queue/user_access.h"

namespace postern::cleanup {
namespace {

/// Between messages a session looks this often whether the process is to end.
constexpr Millis kIdlePatience = std::chrono::seconds(5);

class Session {
public:
    Session(SubmitterChannel& channel, Submitter submitter, Shared& shared, const SessionHooks& hooks)
        : channel_(channel), submitter_(submitter), shared_(shared), hooks_(hooks) {}

    Task<> run() {
        for (;;) {
            const Millis patience = message_ ? ipc_timeout() : kIdlePatience;
            Result<queue::ToCleanup> in = co_await channel_.receive(patience);
            if (!in && in.error().code == Errc::timeout && !message_ && !hooks_.draining()) {
                continue;
            }
            if (!in) {
                if (in.error().code != Errc::closed && in.error().code != Errc::timeout) {
                    log_warning("submission: {}", in.error().what);
                }
                co_return;
            }
            if (auto* begin = std::get_if<queue::Begin>(&*in)) {
                co_await take_begin(std::move(*begin));
            } else if (auto* content = std::get_if<queue::Content>(&*in)) {
                co_await take_content(content->bytes, content->last);
            } else {
                message_.reset();
            }
            if (!message_ && hooks_.draining()) {
                const Result<void> told = co_await channel_.flush();
                if (!told) {
                    log_debug("last answer: {}", told.error().what);
                }
                co_return;
            }
        }
    }

private:
    Task<> take_begin(queue::Begin begin) {
        const std::string content = std::move(begin.content);
        const bool last = begin.last;
        begin.content.clear();
        if (!submitter_.trusted) {
            restrict(begin);
        }
        const bool is_pickup = submitter_.uid == 0 || submitter_.uid == static_cast<std::int64_t>(::geteuid());
        if (!begin.source || !is_pickup) {   // nobody on the network side names a file that we remove
            begin.envelope.maildrop_file.clear();
        }
        message_ = std::make_unique<Message>(shared_, std::move(begin));
        Refusal no = message_->start();
        if (no) {
            message_.reset();
            channel_.post(std::move(*no));
            co_return;
        }
        co_await take_content(content, last);
    }

    /// After a refusal there is no message, and the rest of its content is passed over.
    Task<> take_content(const std::string& bytes, bool last) {
        if (!message_) {
            co_return;
        }
        Refusal no = message_->content(bytes);
        if (no) {
            message_.reset();
            channel_.post(std::move(*no));
            co_return;
        }
        if (last) {
            co_await finish();
        }
    }

    Task<> finish() {
        queue::FromCleanup answer = co_await message_->finish();
        if (auto* refused = std::get_if<queue::Refused>(&answer)) {
            channel_.post(std::move(*refused));
            message_.reset();
            co_return;
        }
        const std::string& source = message_->maildrop_file();
        if (queue::is_maildrop_name(source)) {
            // From now on the queue file is the message; maildrop.h has what a crash between the two means.
            (void)::unlink((shared_.queue_directory + "/maildrop/" + source).c_str());
        }
        channel_.post(std::move(std::get<queue::Queued>(answer)));
        std::optional<queue::NewMessage> notice = message_->notice();
        message_.reset();
        if (notice) {
            hooks_.tell_qmgr(std::move(*notice));
        }
    }

    /// Nothing that only our own programs may claim.
    void restrict(queue::Begin& begin) const {
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        begin.envelope = queue::user_envelope(std::move(begin.envelope), submitter_.uid,
                                              std::chrono::duration_cast<std::chrono::microseconds>(now).count());
        begin.source.reset();
        begin.add_received = true;
        begin.map_addresses = true;
        begin.add_bcc = true;
        begin.check_headers_and_body = true;
        begin.complete_headers = begin.envelope.rewrite_local;
    }

    SubmitterChannel& channel_;
    Submitter submitter_;
    Shared& shared_;
    const SessionHooks& hooks_;
    std::unique_ptr<Message> message_;
};

}  // namespace

Task<> serve_submitter(SubmitterChannel channel, Submitter submitter, Shared& shared, const SessionHooks& hooks) {
    Session session(channel, submitter, shared, hooks);
    co_await session.run();
}

Task<> serve_connection(Connection client, const queue::TrustedPeers& trusted, Shared& shared,
                        const SessionHooks& hooks) {
    const Submitter submitter{trusted.contains(client.peer_uid), client.peer_uid};
    if (!submitter.trusted && queue::submission_is_restricted(shared.config)) {
        log_warning("connection from uid {} refused", client.peer_uid);
        co_return;
    }
    const std::size_t max_message = submitter.trusted ? queue::kMaxSubmitMessage : SubmitterChannel::kDefaultMaxFrame;
    SubmitterChannel channel(std::move(client.fd), max_message);
    co_await serve_submitter(std::move(channel), submitter, shared, hooks);
}

}  // namespace postern::cleanup
