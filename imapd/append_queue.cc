#include "imapd/append_queue.h"

#include <algorithm>
#include <optional>

#include "lib/async/offload.h"

namespace postern::imapd {

namespace {

constexpr std::size_t kMaxBatch = 1000;              ///< messages

/// The part of what a batch was assigned that belongs to the `count` messages from `first`.
store::Assigned part_of(const store::Assigned& all, std::size_t first, std::size_t count) {
    store::Assigned out;
    out.uidvalidity = all.uidvalidity;
    const auto begin = all.uids.begin() + static_cast<std::ptrdiff_t>(first);
    out.uids.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
    return out;
}

}  // namespace

/// Lives in the frame of its commit().
struct AppendQueue::Waiting {
    std::string mailbox;
    Appended messages;
    std::size_t count = 0;
    std::optional<Result<store::Assigned>> result;
    Notice done;
};

struct AppendQueue::State {
    explicit State(std::shared_ptr<store::Account> whose) : account(std::move(whose)) {}
    std::vector<Waiting*> take_batch();

    std::shared_ptr<store::Account> account;   ///< see the queue
    std::vector<Waiting*> waiting;
    bool working = false;
};

AppendQueue::AppendQueue(std::shared_ptr<store::Account> account) : state_(std::make_shared<State>(std::move(account))) {}
AppendQueue::~AppendQueue() = default;

Task<Result<store::Assigned>> AppendQueue::commit(std::string mailbox, Appended messages) {
    Waiting self;
    self.mailbox = std::move(mailbox);
    self.count = messages.size();
    self.messages = std::move(messages);
    state_->waiting.push_back(&self);
    if (!state_->working) {
        spawn(work(state_));
    }
    while (!self.result) {
        co_await self.done.wait(kForever);
    }
    co_return std::move(*self.result);
}

/// The first that waits and all others for its mailbox.
std::vector<AppendQueue::Waiting*> AppendQueue::State::take_batch() {
    std::vector<Waiting*> batch;
    std::vector<Waiting*> rest;
    std::size_t messages = 0;
    for (Waiting* const next : waiting) {
        const bool fits = batch.empty() || messages + next->count <= kMaxBatch;
        if (fits && next->mailbox == waiting.front()->mailbox) {
            messages += next->count;
            batch.push_back(next);
        } else {
            rest.push_back(next);
        }
    }
    waiting = std::move(rest);
    return batch;
}

Task<> AppendQueue::work(std::shared_ptr<State> state) {
    state->working = true;
    while (!state->waiting.empty()) {
        const std::vector<Waiting*> batch = state->take_batch();
        const std::string mailbox = batch.front()->mailbox;
        Appended all;
        for (Waiting* const waiting : batch) {
            std::move(waiting->messages.begin(), waiting->messages.end(), std::back_inserter(all));
        }
        store::Account& account = *state->account;
        auto commit_all = [&account, &mailbox, &all] { return account.commit_appends(mailbox, all); };
        const Result<store::Assigned> assigned = co_await offload(std::move(commit_all));
        std::size_t first = 0;
        for (Waiting* const waiting : batch) {
            if (assigned && first + waiting->count <= assigned->uids.size()) {
                waiting->result.emplace(part_of(*assigned, first, waiting->count));
            } else if (assigned) {
                waiting->result.emplace(Error(Errc::io, "append: fewer UIDs than messages"));
            } else {
                waiting->result.emplace(assigned.error());
            }
            first += waiting->count;
            waiting->done.notify_all();
        }
    }
    state->working = false;
}

}  // namespace postern::imapd
