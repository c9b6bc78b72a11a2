#include "cleanup/qmgr_notifier.h"

#include <utility>

namespace postern::cleanup {
namespace {

/// Each waiting notice holds a descriptor.
constexpr std::size_t kMaxWaiting = 500;

/// Nobody listens: the suite is down.  qmgr scans incoming/ when it starts.
bool nobody_there(const Error& error) { return error.code == Errc::closed || error.code == Errc::not_found; }

}  // namespace

void QmgrNotifier::notify(queue::NewMessage message) {
    if (waiting_.size() >= kMaxWaiting) {
        waiting_.clear();
        rescan_ = true;
    } else if (!rescan_) {
        waiting_.push_back(std::move(message));
    }
    if (!running_) {
        running_ = true;
        spawn(drain());
    }
}

Task<Result<void>> QmgrNotifier::connect() {
    if (!channel_) {
        Result<UniqueFd> socket = co_await connect_unix(path_, patience_);
        if (!socket) {
            co_return socket.error();
        }
        channel_ = Channel<queue::ToQmgr, queue::FromQmgr>(std::move(*socket));
    }
    co_return Result<void>();
}

Task<Result<void>> QmgrNotifier::send_all() {
    if (std::exchange(rescan_, false)) {
        queue::Rescan rescan;
        rescan.deferred = false;
        channel_.post(rescan);
    }
    for (queue::NewMessage& message : std::exchange(waiting_, {})) {
        channel_.post(std::move(message));
    }
    co_return co_await channel_.flush(patience_);
}

/// Sends until nothing waits.  What was posted may be lost with its connection, and a slow qmgr does not find by itself what it
/// was not told of: it is asked to look, until that could be sent.
Task<> QmgrNotifier::drain() {
    while (!waiting_.empty() || rescan_) {
        const bool kept_open = channel_.is_open();
        const Result<void> connected = co_await connect();
        if (!connected && nobody_there(connected.error())) {
            waiting_.clear();
            rescan_ = false;
            break;
        }
        Result<void> sent = connected;
        if (connected) {
            sent = co_await send_all();
        }
        if (sent) {
            continue;
        }
        if (connected) {
            channel_.close();
        }
        waiting_.clear();
        rescan_ = true;
        if (!kept_open) {   // else qmgr may only have been restarted meanwhile
            co_await sleep_for(pause_);
        }
    }
    running_ = false;
}

}  // namespace postern::cleanup
