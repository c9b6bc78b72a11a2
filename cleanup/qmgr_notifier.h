/// Tells qmgr(8) about new messages without making the submitter wait.
#pragma once

#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/ipc/channel.h"
#include "lib/queue/messages.h"

namespace postern::cleanup {

/// One connection to qmgr, kept open.  A notice that cannot be given, because there is no qmgr, is no loss: the message is in
/// incoming/, and qmgr scans that when it starts.  When notices had to be dropped while qmgr was merely slow, it is asked to
/// rescan, as often as it takes.
class QmgrNotifier {
public:
    /// A connection or a write has failed when it takes longer than `patience`; the next try is after `pause`.
    explicit QmgrNotifier(std::string path, Millis patience = std::chrono::seconds(10), Millis pause = std::chrono::seconds(1))
        : path_(std::move(path)), patience_(patience), pause_(pause) {}

    /// Returns at once.  The notifier lives as long as the process.
    void notify(queue::NewMessage message);

private:
    Task<> drain();
    Task<Result<void>> connect();
    Task<Result<void>> send_all();

    std::string path_;
    Millis patience_;
    Millis pause_;
    Channel<queue::ToQmgr, queue::FromQmgr> channel_;
    std::vector<queue::NewMessage> waiting_;
    bool running_ = false;
    bool rescan_ = false;
};

}  // namespace postern::cleanup
