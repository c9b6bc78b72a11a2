/// What is being delivered and what has just been, so that a queue manager that comes after a crash of the one before does
/// not have it delivered a second time.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/async/loop.h"
#include "lib/queue/deliver.h"

namespace postern::smtp {

/// A delivery that is concluded with its server is told to qmgr at once.  But whether qmgr lived to write that down is not
/// known until it sends the next request on the same connection, which it does only after it has read all answers.  Until
/// then, and for kMemory when that never comes, the fates that are final stay here; and a recipient that one request
/// works on is left alone by another.
class Ledger {
public:
    /// A message: its queue id and arrival time.
    using Key = std::pair<std::string, std::int64_t>;
    static Key key_of(const queue::Deliver& request) { return {request.queue_id, request.arrival_usec}; }

    /// Waits until nobody works on any of these recipients; then they are the caller's until end().
    Task<> begin(const Key& key, const std::vector<std::uint32_t>& indices);
    void end(const Key& key, const std::vector<std::uint32_t>& indices);

    /// Remembers a fate that is final.
    void remember(const Key& key, const queue::RecipientDone& fate);
    /// What is remembered about a recipient.
    std::optional<queue::RecipientDone> find(const Key& key, std::uint32_t index) const;
    /// qmgr knows.
    void forget(const Key& key);
    std::size_t size() const { return fates_.size(); }

    static constexpr std::chrono::minutes kMemory{10};
    static constexpr std::size_t kMaxMessages = 5000;

private:
    using Moment = std::chrono::steady_clock::time_point;
    struct Fates {
        Moment since;
        std::map<std::uint32_t, queue::RecipientDone> by_index;
    };
    bool is_busy(const Key& key, const std::vector<std::uint32_t>& indices) const;
    void expire();

    std::set<std::pair<Key, std::uint32_t>> busy_;
    std::map<Key, Fates> fates_;
    Notice freed_;
};

}  // namespace postern::smtp
