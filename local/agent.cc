#include "local/agent.h"

#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/delivery.h"
#include "lib/log/log.h"
#include "lib/queue/requests.h"

namespace postern::local {
namespace {

/// Recipients of one request that are worked on at the same time.
constexpr std::size_t kAtOnce = 16;
/// Crash or not: a message that is handed over this long after its arrival may have been tried before.
constexpr std::int64_t kFreshUsec = 2'000'000;

std::string_view status_word(const Outcome& outcome, bool verify_only) {
    if (verify_only) {
        return outcome.kind == queue::kDelivered ? "deliverable" : "undeliverable";
    }
    switch (outcome.kind) {
        case queue::kDelivered: return "sent";
        case queue::kBounced: return "bounced";
        default: return "deferred";
    }
}

}  // namespace

std::int64_t now_usec() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
}

std::string file_error_dsn(int error_number, std::string_view otherwise) {
    switch (error_number) {
        case EAGAIN:
        case ESTALE:
        case EBUSY:
        case ETXTBSY:
        case EINTR: return "4.2.0";
        case ENOSPC:
        case EIO:
        case ENOMEM:
        case EMFILE:
        case ENFILE:
        case EROFS: return "4.3.0";
        case EDQUOT:
        case EFBIG: return "5.2.2";
        default: return std::string(otherwise);
    }
}

bool changes_user() {
    static const bool root = geteuid() == 0;
    return root;
}

Task<Outcome> work_as(UserIdentity user, std::function<Outcome()> work) {
    const bool change = changes_user();
    auto job = [user = std::move(user), work = std::move(work), change]() -> Outcome {
        if (!change) {
            return work();
        }
        const Result<void> became = assume_identity(user);
        if (!became) {
            return failed("4.3.0", became.error().what);
        }
        keep_on_thread(&leave_identity);   // the next delivery is often for the same user
        return work();
    };
    Outcome outcome = co_await offload_keeping(std::move(job));
    co_return outcome;
}

StatusFilter open_status_filter(std::string_view parameter, const std::string& value, const TableContext& context) {
    Result<StatusFilter> filter = StatusFilter::open(parameter, value, context);
    if (!filter) {
        fatal("{}", filter.error().what);
    }
    return std::move(*filter);
}

/// One request's recipients while they are worked on.
struct Agent::Round {
    queue::Requests& qmgr;
    Semaphore places{kAtOnce};
    std::size_t unfinished = 0;
    Notice finished{};
};

Agent::Agent(std::string name, StatusFilter filter, Deliverer deliver)
    : name_(std::move(name)), filter_(std::move(filter)), deliver_(std::move(deliver)) {}

Agent::Agent(std::string name, StatusFilter filter, GroupDeliverer deliver)
    : name_(std::move(name)), filter_(std::move(filter)), deliver_group_(std::move(deliver)) {}

/// True when a failure was made temporary.
bool Agent::soften(const Message& message, Outcome& outcome) const {
    if (!soft_bounce_ || outcome.kind != queue::kBounced || message.request().verify_only) {
        return false;
    }
    outcome.kind = queue::kDeferred;
    if (!outcome.dsn.empty()) {
        outcome.dsn.front() = '4';
    }
    return true;
}

void Agent::log(const Message& message, const queue::Recipient& recipient, Outcome& outcome) {
    if (filter_.apply(outcome.dsn, outcome.text) && outcome.kind != queue::kDelivered) {
        outcome.kind = outcome.dsn.front() == '5' ? queue::kBounced : queue::kDeferred;
    }
    const bool softened = soften(message, outcome);
    const queue::Deliver& request = message.request();
    const std::string to = quotes_ ? quoted(recipient.address) : recipient.address;
    const std::string original = quotes_ ? quoted(recipient.original) : recipient.original;
    DeliveryLine line;
    line.queue_id = request.queue_id;
    line.to = to;
    line.orig_to = recipient.original == recipient.address ? std::string_view() : std::string_view(original);
    line.relay = outcome.relay.empty() ? std::string_view(name_) : std::string_view(outcome.relay);
    line.times = {request.arrival_usec, request.active_usec, request.handed_usec, 0, now_usec()};
    line.dsn = outcome.dsn;
    line.status = softened ? "SOFTBOUNCE" : status_word(outcome, request.verify_only);
    line.text = outcome.text;
    line.resolution = resolution_;
    log_delivery(line);
    outcome.logged = true;
}

/// Logs what was not logged yet, and queues the answer to qmgr.
void Agent::answer(Round& round, const Message& message, std::size_t index, Outcome outcome) {
    const queue::DeliverTo& to = message.request().recipients[index];
    if (!outcome.logged) {
        log(message, to.recipient, outcome);
    }
    queue::RecipientDone done;
    done.index = to.index;
    done.outcome = outcome.kind;
    done.dsn = std::move(outcome.dsn);
    done.reason = std::move(outcome.text);
    done.action = std::move(outcome.action);
    done.relay = outcome.relay.empty() ? name_ : std::move(outcome.relay);
    done.remote_mta = std::move(outcome.remote_mta);
    done.diagnostic = std::move(outcome.diagnostic);
    if (outcome.kind == queue::kBounced) {   // not softened
        done.notice_sender = std::move(outcome.notice_sender);
    }
    round.qmgr.post(std::move(done));
}

Task<> Agent::deliver_one(Round& round, MessagePtr message, std::size_t index) {
    Outcome outcome = co_await deliver_(message, index);
    answer(round, *message, index, std::move(outcome));
    co_await round.qmgr.flush();
    round.places.release();
    --round.unfinished;
    round.finished.notify_all();
}

Task<> Agent::deliver_each(Round& round, MessagePtr message) {
    const std::size_t count = message->request().recipients.size();
    if (count == 1) {
        co_return co_await deliver_one(round, std::move(message), 0);
    }
    for (std::size_t i = 0; i < count; ++i) {
        co_await round.places.acquire();
        spawn(deliver_one(round, message, i));
    }
    while (round.unfinished > 0) {
        co_await round.finished.wait(kForever);
    }
}

Task<> Agent::deliver_group(Round& round, MessagePtr message) {
    const Outcome outcome = co_await deliver_group_(message);
    for (std::size_t i = 0; i < message->request().recipients.size(); ++i) {
        answer(round, *message, i, outcome);
    }
    co_await round.qmgr.flush();
}

Task<> Agent::serve(UniqueFd socket) {
    queue::Requests qmgr(std::move(socket));
    const std::int64_t connected = now_usec();
    for (;;) {
        std::optional<queue::Deliver> request = co_await qmgr.next();
        if (!request) {
            co_return;
        }
        const bool repeated = request->arrival_usec < connected || request->handed_usec - request->arrival_usec > kFreshUsec;
        Result<MessagePtr> message = Message::load(std::move(*request), repeated);
        if (!message) {
            log_warning("{}", message.error().what);
            queue::Unavailable trouble;
            trouble.reason = message.error().what;
            qmgr.post(std::move(trouble));
            continue;   // it leaves before the next request is waited for
        }
        Round round{qmgr};
        round.unfinished = (*message)->request().recipients.size();
        if (deliver_group_) {
            co_await deliver_group(round, std::move(*message));
        } else {
            co_await deliver_each(round, std::move(*message));
        }
    }
}

}  // namespace postern::local
