#include "smtp/agent.h"

#include <poll.h>

#include <cerrno>
#include <utility>

#include "lib/log/log.h"
#include "lib/queue/cleanup_client.h"
#include "lib/queue/requests.h"
#include "lib/service/service.h"
#include "smtp/delivery.h"

namespace postern::smtp {
namespace {

constexpr Millis kLookAgain(50);

class QmgrListener final : public Listener {
public:
    QmgrListener(queue::Requests& qmgr, Client& client) : qmgr_(qmgr), client_(client) {}

    /// Fates from now on are those of `request`, and qmgr has read those of the one before.
    void start(const queue::Deliver& request) {
        if (remembering_) {
            client_.ledger().forget(key_);
        }
        if (shared() != nullptr) {
            shared()->release(told_);
        }
        told_.clear();
        key_ = Ledger::key_of(request);
        remembering_ = !request.verify_only;
    }

    /// The delivery is over: what no server has taken is nobody's business any more.
    void finish() {
        if (shared() != nullptr) {
            shared()->release(sending_);
        }
        sending_.clear();
    }

    void sending(const std::vector<std::uint32_t>& indices, bool each) override {
        if (shared() != nullptr) {
            each_ = each;
            const SharedLedger::Marks before = std::exchange(sending_, shared()->sending(key_, indices, each));
            shared()->release(before);   // of the server before this one, or of more recipients; never is there no entry
        }
    }

    void taken(std::size_t nth, const Reply& reply) override {
        if (shared() == nullptr || nth >= sending_.size()) {
            return;
        }
        SharedLedger::Marks marks;
        if (each_) {
            marks.push_back(std::exchange(sending_[nth], SharedLedger::kNone));
        } else {
            marks.swap(sending_);
        }
        shared()->taken(marks, reply.dsn, reply.text);
        taken_.insert(taken_.end(), marks.begin(), marks.end());
    }

    void done(queue::RecipientDone answer) override {
        if (remembering_ && answer.outcome != queue::kDeferred) {
            client_.ledger().remember(key_, answer);
        }
        qmgr_.post(std::move(answer));
    }

    Task<> flush() override {
        const bool told = co_await qmgr_.flush();
        if (!told) {
            co_return;   // the loop in serve() notices too
        }
        if (shared() != nullptr) {
            shared()->told(taken_);
        }
        told_.insert(told_.end(), taken_.begin(), taken_.end());
        taken_.clear();
    }

    bool is_open() override {
        pollfd here{qmgr_.fd(), POLLRDHUP, 0};
        int ready = -1;
        do {
            ready = ::poll(&here, 1, 0);
        } while (ready < 0 && errno == EINTR);
        return !client_.stopping && ready == 0;
    }

private:
    SharedLedger* shared() const { return client_.shared_ledger.get(); }

    queue::Requests& qmgr_;
    Client& client_;
    Ledger::Key key_;
    bool remembering_ = false;
    bool each_ = false;
    SharedLedger::Marks sending_, taken_, told_;   ///< entries in the shared ledger
};

class CleanupPostmaster final : public NoticeOutlet {
public:
    explicit CleanupPostmaster(std::string path) : path_(std::move(path)) {}
    Task<Result<void>> submit(queue::Begin notice) override {
        notice.last = true;
        queue::CleanupClient cleanup(path_);   // rare enough for a connection of its own
        Result<queue::FromCleanup> answer = co_await cleanup.submit(std::move(notice));
        if (!answer) {
            co_return answer.error();
        }
        if (const auto* refused = std::get_if<queue::Refused>(&*answer)) {
            co_return Error(Errc::temporary, "cleanup: " + refused->text);
        }
        co_return Result<void>();
    }

private:
    std::string path_;
};

/// What any agent of this instance knows about a recipient.
std::optional<queue::RecipientDone> taken_before(const Ledger::Key& key, std::uint32_t index, Client& client) {
    if (client.shared_ledger == nullptr) {
        return std::nullopt;
    }
    const std::optional<SharedLedger::Taken> taken = client.shared_ledger->find(key, index);
    if (!taken) {
        return std::nullopt;
    }
    client.shared_ledger->told({taken->entry});   // kept for a while: it may speak for other recipients too
    queue::RecipientDone fate;
    fate.index = index;
    fate.outcome = queue::kDelivered;
    fate.dsn = taken->dsn.empty() ? "2.0.0" : taken->dsn;
    fate.reason = taken->reply.empty() ? "the server has taken it" : taken->reply;
    fate.action = "relayed";
    return fate;
}

/// Waits while another process that qmgr's predecessor had asked hears what a server says about these recipients.
Task<> wait_for_others(Client& client, const Ledger::Key& key, const std::vector<std::uint32_t>& indices) {
    while (client.shared_ledger != nullptr && client.shared_ledger->is_busy(key, indices)) {
        co_await sleep_for(kLookAgain);
    }
}

/// Answers for recipients whose fate is known already: qmgr's predecessor did not live to hear it.
void tell_known_fates(queue::Deliver& request, Client& client, Listener& listener) {
    const Ledger::Key key = Ledger::key_of(request);
    std::erase_if(request.recipients, [&](const queue::DeliverTo& to) {
        std::optional<queue::RecipientDone> fate = client.ledger().find(key, to.index);
        if (!fate) {
            fate = taken_before(key, to.index, client);
        }
        if (fate) {
            log_info("{}: delivered before to <{}>: {}", request.queue_id, to.recipient.address, fate->reason);
            listener.done(std::move(*fate));
        }
        return fate.has_value();
    });
}

}  // namespace

Task<> serve(UniqueFd socket, Client& client) {
    queue::Requests qmgr(std::move(socket));
    QmgrListener listener(qmgr, client);
    for (;;) {
        std::optional<queue::Deliver> request = co_await qmgr.next();
        if (!request) {
            co_return;
        }
        listener.start(*request);
        const Ledger::Key key = Ledger::key_of(*request);
        std::vector<std::uint32_t> indices;
        for (const queue::DeliverTo& to : request->recipients) {
            indices.push_back(to.index);
        }
        co_await client.ledger().begin(key, indices);
        if (!request->verify_only) {
            co_await wait_for_others(client, key, indices);
            tell_known_fates(*request, client, listener);
        }
        Delivery delivery(client, listener, std::move(*request));
        co_await delivery.run();
        listener.finish();
        client.ledger().end(key, indices);
    }
}

int run_agent(const char* program, Protocol protocol, int argc, char** argv) {
    Service service(program, argc, argv);
    Result<std::unique_ptr<Client>> client = Client::create(service.config(), protocol);
    if (!client) {
        fatal("{}", client.error().what);
    }
    Result<std::unique_ptr<SharedLedger>> shared = SharedLedger::open(service.config().data_directory() + "/smtp_ledger");
    if (!shared) {
        fatal("{}", shared.error().what);
    }
    (*client)->shared_ledger = std::move(*shared);
    (*client)->postmaster = std::make_unique<CleanupPostmaster>("public/" + service.config().cleanup_service_name());
    service.work_in_batches();
    service.confine(kRights);
    service.on_drain([&client] { (*client)->cache().clear(); });
    service.on_stop([&client] { (*client)->stopping = true; });
    service.may_overlap();   // slow servers do not keep a reload waiting
    return service.serve([&client](Connection from) { return serve(std::move(from.fd), **client); });
}

}  // namespace postern::smtp
