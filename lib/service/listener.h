/// Listening sockets handed down by master or systemd.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <event2/event_struct.h>

#include "lib/base/result.h"
#include "lib/service/service.h"

namespace postern {

/// One inherited socket.  Stream sockets yield connections.  A FIFO or datagram socket yields, for each wake-up
/// that came through it, one connection that holds ipc's trigger frame, so that a service sees one kind of waking.
class Listener {
public:
    Listener(UniqueFd fd, std::string name);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    void start(std::function<void(Connection)> accepted);
    /// Stops accepting; master or a sibling takes what comes.
    void pause();
    void resume();
    /// Takes nothing more, ever; also from within `accepted`.  Others who have the socket still do.
    void close();

private:
    static void fired(int, short, void* self);
    void accept_some();
    void drain_triggers();
    UniqueFd fd_;
    std::string name_;
    bool accepts_ = false;     ///< a listening stream socket
    bool active_ = false;
    event event_{};
    std::function<void(Connection)> accepted_;
};

/// From LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID; none when LISTEN_FDS is not set or meant for another process.
/// Errors: config.
Result<std::vector<std::unique_ptr<Listener>>> inherited_listeners();

}  // namespace postern
