#include "smtp/agent.h"

#include <poll.h>

#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "smtp/delivery.h"

namespace postern::smtp {
namespace {

using QmgrChannel = Channel<queue::FromAgent, queue::ToAgent>;

/// qmgr closes connections that it does not need.
constexpr Millis kIdle = std::chrono::hours(1);
constexpr Millis kPatience = std::chrono::seconds(300);
constexpr std::size_t kMaxRequest = 64 * 1024 * 1024;

class QmgrListener final : public Listener {
public:
    QmgrListener(QmgrChannel& channel, Client& client) : channel_(channel), client_(client) {}

    /// Fates from now on are those of `request`, and qmgr has read those of the one before.
    void start(const queue::Deliver& request) {
        if (remembering_) {
            client_.ledger().forget(key_);
        }
        key_ = Ledger::key_of(request);
        remembering_ = !request.verify_only;
    }

    void done(queue::RecipientDone answer) override {
        if (remembering_ && answer.outcome != queue::kDeferred) {
            client_.ledger().remember(key_, answer);
        }
        channel_.post(std::move(answer));
    }

    Task<> flush() override {
        const Result<void> told = co_await channel_.flush(kPatience);
        if (!told) {
            log_debug("answer to qmgr: {}", told.error().what);   // the loop in serve() notices too
        }
    }

    bool is_open() override {
        pollfd here{channel_.fd(), POLLRDHUP, 0};
        return !client_.stopping && ::poll(&here, 1, 0) == 0;
    }

private:
    QmgrChannel& channel_;
    Client& client_;
    Ledger::Key key_;
    bool remembering_ = false;
};

/// Answers for recipients whose fate is known already: qmgr's predecessor did not live to hear it.
void tell_known_fates(queue::Deliver& request, Client& client, Listener& listener) {
    const Ledger::Key key = Ledger::key_of(request);
    std::erase_if(request.recipients, [&](const queue::DeliverTo& to) {
        std::optional<queue::RecipientDone> fate = client.ledger().find(key, to.index);
        if (fate) {
            log_info("{}: delivered before to <{}>: {}", request.queue_id, to.recipient.address, fate->reason);
            listener.done(std::move(*fate));
        }
        return fate.has_value();
    });
}

}  // namespace

Task<> serve(UniqueFd socket, Client& client) {
    QmgrChannel channel(std::move(socket), kMaxRequest);
    QmgrListener listener(channel, client);
    for (;;) {
        Result<queue::ToAgent> received = co_await channel.receive(kIdle);
        if (!received) {
            if (received.error().code == Errc::syntax || received.error().code == Errc::too_big) {
                log_warning("request from qmgr: {}", received.error().what);
            }
            co_return;
        }
        queue::Deliver request = std::move(std::get<queue::Deliver>(*received));
        listener.start(request);
        const Ledger::Key key = Ledger::key_of(request);
        std::vector<std::uint32_t> indices;
        for (const queue::DeliverTo& to : request.recipients) {
            indices.push_back(to.index);
        }
        co_await client.ledger().begin(key, indices);
        if (!request.verify_only) {
            tell_known_fates(request, client, listener);
        }
        Delivery delivery(client, listener, std::move(request));
        co_await delivery.run();
        client.ledger().end(key, indices);
    }
}

int run_agent(const char* program, Protocol protocol, int argc, char** argv) {
    Service service(program, argc, argv);
    Result<std::unique_ptr<Client>> client = Client::create(service.config(), protocol);
    if (!client) {
        fatal("{}", client.error().what);
    }
    service.confine(kRights);
    service.on_drain([&client] { (*client)->cache().clear(); });
    service.on_stop([&client] { (*client)->stopping = true; });
    service.may_overlap();   // slow servers do not keep a reload waiting
    return service.serve([&client](Connection from) { return serve(std::move(from.fd), **client); });
}

}  // namespace postern::smtp
