#include "smtpd/submission.h"

#include "lib/log/log.h"

namespace postern::smtpd {

namespace {

/// Content is gathered up to this size, so that an ordinary message is one write to cleanup.
constexpr std::size_t kPiece = 128 * 1024;

class CleanupSubmission : public Submission {
public:
    CleanupSubmission(CleanupOutlet& outlet, queue::Begin begin) : outlet_(outlet), begin_(std::move(begin)) {}

    ~CleanupSubmission() override {
        if (client_) {
            client_->cancel();
        }
    }

    Task<> write(std::string& content) override {
        if (content.size() < kPiece) {
            co_return;
        }
        std::string piece;
        piece.swap(content);
        if (failed_ || (client_ && client_->answered_early())) {
            co_return;   // the answer is known: the rest of the content is only read off the wire
        }
        Result<void> sent;
        if (!client_) {
            client_ = outlet_.clients().take();
            begin_.content = std::move(piece);
            sent = co_await client_->begin(std::move(begin_));
        } else {
            sent = co_await client_->content(piece);
        }
        note(sent);
    }

    Task<Receipt> finish(std::string content) override {
        if (failed_) {
            co_return Receipt{};
        }
        if (!client_) {
            client_ = outlet_.clients().take();
            begin_.content = std::move(content);
            Result<queue::FromCleanup> answer = co_await client_->submit(std::move(begin_));
            co_return receipt(answer);
        }
        if (!client_->answered_early()) {
            Result<void> sent = co_await client_->content(content);
            note(sent);
        }
        Result<queue::FromCleanup> answer = co_await client_->end();
        co_return receipt(answer);
    }

private:
    void note(const Result<void>& sent) {
        if (!sent && !failed_) {
            log_warning("cleanup service: {}", sent.error().what);
            failed_ = true;
        }
    }

    Receipt receipt(const Result<queue::FromCleanup>& answer) {
        Receipt out;
        if (!answer) {
            log_warning("cleanup service: {}", answer.error().what);
            return out;
        }
        if (const auto* queued = std::get_if<queue::Queued>(&*answer)) {
            out.queued = true;
            out.queue_id = queued->queue_id;
            outlet_.clients().give_back(std::move(client_));
        } else {
            const auto& refused = std::get<queue::Refused>(*answer);
            out.code = static_cast<int>(refused.code);
            out.dsn = refused.dsn;
            out.text = refused.text;
            out.queue_id = refused.queue_id;
        }
        return out;
    }

    CleanupOutlet& outlet_;
    queue::Begin begin_;
    std::unique_ptr<queue::CleanupClient> client_;
    bool failed_ = false;
};

}  // namespace

std::unique_ptr<Submission> CleanupOutlet::begin(queue::Begin begin) {
    return std::make_unique<CleanupSubmission>(*this, std::move(begin));
}

}  // namespace postern::smtpd
