/// Commits of APPEND from all sessions of a process, several at a time.
///
/// A commit waits for the disk, and commits of one mailbox exclude each other.  What comes while one is under way is
/// therefore committed together afterwards: one wait for the disk instead of one for each session.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/async/loop.h"
#include "lib/store/store.h"

namespace postern::imapd {

using Appended = std::vector<std::unique_ptr<store::Appender>>;

class AppendQueue {
public:
    /// `account` outlives the queue; the queue outlives all commits.
    explicit AppendQueue(store::Account& account) : account_(account) {}
    AppendQueue(const AppendQueue&) = delete;
    AppendQueue& operator=(const AppendQueue&) = delete;

    /// As store::Account::commit_appends(); `messages` is taken.  They become durable all or none.
    Task<Result<store::Assigned>> commit(std::string mailbox, Appended messages);

private:
    struct Waiting {
        std::string mailbox;
        Appended messages;
        std::size_t count = 0;
        std::optional<Result<store::Assigned>> result;
        Notice done;
    };
    Task<> work();
    std::vector<Waiting*> take_batch();

    store::Account& account_;
    std::vector<Waiting*> waiting_;            ///< each lives in the frame of its commit()
    bool working_ = false;
};

}  // namespace postern::imapd
