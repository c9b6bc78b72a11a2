#include "smtp/ledger.h"

#include <algorithm>

namespace postern::smtp {

bool Ledger::is_busy(const Key& key, const std::vector<std::uint32_t>& indices) const {
    return std::any_of(indices.begin(), indices.end(), [&](std::uint32_t index) { return busy_.count({key, index}) != 0; });
}

Task<> Ledger::begin(const Key& key, const std::vector<std::uint32_t>& indices) {
    while (is_busy(key, indices)) {
        co_await freed_.wait(kForever);   // ends with the other delivery, whose waits all have deadlines
    }
    for (const std::uint32_t index : indices) {
        busy_.insert({key, index});
    }
}

void Ledger::end(const Key& key, const std::vector<std::uint32_t>& indices) {
    for (const std::uint32_t index : indices) {
        busy_.erase({key, index});
    }
    freed_.notify_all();
}

void Ledger::remember(const Key& key, const queue::RecipientDone& fate) {
    if (fates_.size() >= kMaxMessages) {
        expire();
    }
    Fates& fates = fates_[key];
    fates.since = std::chrono::steady_clock::now();
    fates.by_index[fate.index] = fate;
}

/// The old ones; all of them when none is old: then the worst that may happen is what happens without a ledger.
void Ledger::expire() {
    const Moment oldest = std::chrono::steady_clock::now() - kMemory;
    std::erase_if(fates_, [oldest](const auto& entry) { return entry.second.since < oldest; });
    if (fates_.size() >= kMaxMessages) {
        fates_.clear();
    }
}

std::optional<queue::RecipientDone> Ledger::find(const Key& key, std::uint32_t index) const {
    const auto found = fates_.find(key);
    if (found == fates_.end() || std::chrono::steady_clock::now() - found->second.since > kMemory) {
        return std::nullopt;
    }
    const auto fate = found->second.by_index.find(index);
    return fate == found->second.by_index.end() ? std::nullopt : std::optional(fate->second);
}

void Ledger::forget(const Key& key) {
    fates_.erase(key);
}

}  // namespace postern::smtp
