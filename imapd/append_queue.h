/// Commits of APPEND from all sessions of a process, several at a time.
///
/// A commit waits for the disk, and commits of one mailbox exclude each other.  What comes while one is under way is
/// therefore committed together afterwards: one wait for the disk instead of one for each session.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/async/loop.h"
#include "lib/store/store.h"

namespace postern::imapd {

using Appended = std::vector<std::unique_ptr<store::Appender>>;

class AppendQueue {
public:
    explicit AppendQueue(std::shared_ptr<store::Account> account);   // the owners: sessions, and this
    ~AppendQueue();
    AppendQueue(const AppendQueue&) = delete;
    AppendQueue& operator=(const AppendQueue&) = delete;

    /// As store::Account::commit_appends(); `messages` is taken.  They become durable all or none.
    Task<Result<store::Assigned>> commit(std::string mailbox, Appended messages);

private:
    struct Waiting;
    struct State;
    static Task<> work(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;             ///< also held by work(), which ends a moment after the last commit
};

}  // namespace postern::imapd
