#include "cleanup/qmgr_notifier.h"

#include <utility>

namespace postern::cleanup {
namespace {

constexpr Millis kPatience = std::chrono::seconds(10);
/// Each waiting notice holds a descriptor.
constexpr std::size_t kMaxWaiting = 500;

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

Task<Result<void>> QmgrNotifier::send_all() {
    if (!channel_) {
        Result<UniqueFd> socket = co_await connect_unix(path_, kPatience);
        if (!socket) {
            co_return socket.error();
        }
        channel_ = Channel<queue::ToQmgr, queue::FromQmgr>(std::move(*socket));
    }
    if (std::exchange(rescan_, false)) {
        queue::Rescan rescan;
        rescan.deferred = false;
        channel_.post(rescan);
    }
    for (queue::NewMessage& message : std::exchange(waiting_, {})) {
        channel_.post(std::move(message));
    }
    co_return co_await channel_.flush(kPatience);
}

/// Sends until nothing waits.  After a failure one more try on a new connection: qmgr may have been restarted
/// while the old connection was idle.
Task<> QmgrNotifier::drain() {
    int failures = 0;
    while (!waiting_.empty() || rescan_) {
        const bool had_connection = channel_.is_open();
        const Result<void> sent = co_await send_all();
        if (sent) {
            failures = 0;
            continue;
        }
        if (channel_) {
            channel_.close();
        }
        rescan_ = true;   // what was posted may be lost with the connection
        if (!had_connection || ++failures > 1) {
            waiting_.clear();
            rescan_ = false;   // qmgr is down: it scans when it starts
        }
    }
    running_ = false;
}

}  // namespace postern::cleanup
