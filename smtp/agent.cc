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
    explicit QmgrListener(QmgrChannel& channel) : channel_(channel) {}

    void done(queue::RecipientDone answer) override { channel_.post(std::move(answer)); }

    Task<> flush() override {
        const Result<void> told = co_await channel_.flush(kPatience);
        if (!told) {
            log_debug("answer to qmgr: {}", told.error().what);   // the loop in serve() notices too
        }
    }

    bool is_open() override {
        pollfd here{channel_.fd(), POLLRDHUP, 0};
        return ::poll(&here, 1, 0) == 0;
    }

private:
    QmgrChannel& channel_;
};

}  // namespace

Task<> serve(UniqueFd socket, Client& client) {
    QmgrChannel channel(std::move(socket), kMaxRequest);
    QmgrListener listener(channel);
    for (;;) {
        Result<queue::ToAgent> received = co_await channel.receive(kIdle);
        if (!received) {
            if (received.error().code == Errc::syntax || received.error().code == Errc::too_big) {
                log_warning("request from qmgr: {}", received.error().what);
            }
            co_return;
        }
        Delivery delivery(client, listener, std::move(std::get<queue::Deliver>(*received)));
        co_await delivery.run();
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
    service.may_overlap();   // slow servers do not keep a reload waiting
    return service.serve([&client](Connection from) { return serve(std::move(from.fd), **client); });
}

}  // namespace postern::smtp
