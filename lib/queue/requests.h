/// A delivery agent's side of a connection from qmgr (lib/queue/deliver.h).
#pragma once

#include <optional>

#include "lib/ipc/channel.h"
#include "lib/queue/deliver.h"

namespace postern::queue {

class Requests {
public:
    explicit Requests(UniqueFd socket);

    /// The next request; the first call says that the agent is ready.  Nothing when qmgr is gone or has closed a connection that
    /// it does not need; what cannot be understood is logged and ends the conversation too.
    Task<std::optional<Deliver>> next();

    /// Queues an answer; flush() sends it.
    template <class T>
    void post(T answer) {
        channel_.post(std::move(answer));
    }
    /// False when qmgr is gone: next() will tell.
    Task<bool> flush();

    int fd() const { return channel_.fd(); }

private:
    Channel<FromAgent, ToAgent> channel_;
    bool greeted_ = false;
};

}  // namespace postern::queue
