#include "qmgr/waiting.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace postern::qmgr {
namespace {

/// Seconds.  A time further away, which no backoff makes, does not push the others' below zero.
constexpr std::int64_t kFarAway = 3660 * 86'400;

std::size_t hash(std::string_view id) { return std::hash<std::string_view>()(id); }

}  // namespace

std::optional<std::uint32_t> WaitingSet::find(std::string_view id) const {
    if (table_.empty() || id.size() > kMaxId) {
        return std::nullopt;
    }
    const std::size_t mask = table_.size() - 1;
    for (std::size_t i = hash(id) & mask; table_[i] != kNone; i = (i + 1) & mask) {
        if (id_of(table_[i]) == id) {
            return table_[i];
        }
    }
    return std::nullopt;
}

void WaitingSet::index(std::uint32_t slot) {
    const std::size_t mask = table_.size() - 1;
    std::size_t i = hash(id_of(slot)) & mask;
    while (table_[i] != kNone) {
        i = (i + 1) & mask;
    }
    table_[i] = slot;
}

/// Closes the gap by moving later entries of the run up, so that no tombstones are needed.
void WaitingSet::unindex(std::uint32_t slot) {
    const std::size_t mask = table_.size() - 1;
    std::size_t gap = hash(id_of(slot)) & mask;
    while (table_[gap] != slot) {
        gap = (gap + 1) & mask;
    }
    for (std::size_t i = (gap + 1) & mask; table_[i] != kNone; i = (i + 1) & mask) {
        const std::size_t home = hash(id_of(table_[i])) & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            table_[gap] = table_[i];
            gap = i;
        }
    }
    table_[gap] = kNone;
}

void WaitingSet::grow_index() {
    if (table_.size() >= (heap_.size() + 1) * 3 / 2 && !table_.empty()) {
        return;
    }
    table_.assign(std::max<std::size_t>(64, table_.size() * 2), kNone);
    for (const std::uint32_t slot : heap_) {
        index(slot);
    }
}

void WaitingSet::place(std::size_t position, std::uint32_t slot) {
    heap_[position] = slot;
    slots_[slot].heap_position = static_cast<std::uint32_t>(position);
}

void WaitingSet::sift_up(std::size_t position) {
    const std::uint32_t slot = heap_[position];
    while (position > 0) {
        const std::size_t parent = (position - 1) / 2;
        if (slots_[heap_[parent]].due <= slots_[slot].due) {
            break;
        }
        place(position, heap_[parent]);
        position = parent;
    }
    place(position, slot);
}

void WaitingSet::sift_down(std::size_t position) {
    const std::uint32_t slot = heap_[position];
    for (;;) {
        std::size_t child = position * 2 + 1;
        if (child >= heap_.size()) {
            break;
        }
        if (child + 1 < heap_.size() && slots_[heap_[child + 1]].due < slots_[heap_[child]].due) {
            ++child;
        }
        if (slots_[slot].due <= slots_[heap_[child]].due) {
            break;
        }
        place(position, heap_[child]);
        position = child;
    }
    place(position, slot);
}

bool WaitingSet::put(std::string_view id, std::int64_t due_seconds) {
    if (id.empty() || id.size() > kMaxId) {
        return false;
    }
    const auto due = static_cast<std::uint32_t>(std::clamp<std::int64_t>(due_seconds, 0, 0xffffffff));
    if (const auto known = find(id)) {
        slots_[*known].due = due;
        sift_up(slots_[*known].heap_position);
        sift_down(slots_[*known].heap_position);
        return true;
    }
    std::uint32_t slot = 0;
    if (free_.empty()) {
        slot = static_cast<std::uint32_t>(slots_.size());
        slots_.emplace_back();
    } else {
        slot = free_.back();
        free_.pop_back();
    }
    Slot& entry = slots_[slot];
    std::memcpy(entry.id, id.data(), id.size());
    entry.length = static_cast<std::uint8_t>(id.size());
    entry.due = due;
    grow_index();
    index(slot);
    heap_.push_back(slot);
    sift_up(heap_.size() - 1);
    return true;
}

void WaitingSet::erase(std::uint32_t slot) {
    unindex(slot);
    slots_[slot].due = 0;   // make_all_due() looks at free ones too
    const std::size_t position = slots_[slot].heap_position;
    const std::uint32_t last = heap_.back();
    heap_.pop_back();
    if (last != slot) {
        place(position, last);
        sift_up(position);
        sift_down(slots_[last].heap_position);
    }
    free_.push_back(slot);
    if (heap_.empty()) {   // after a big burst the memory goes back
        *this = WaitingSet();
    }
}

bool WaitingSet::remove(std::string_view id) {
    const auto slot = find(id);
    if (slot) {
        erase(*slot);
    }
    return slot.has_value();
}

std::string WaitingSet::pop() {
    std::string id(id_of(heap_.front()));
    erase(heap_.front());
    return id;
}

/// All times move together, so that the heap stays one: one pass over memory, a few milliseconds for a million.
void WaitingSet::make_all_due(std::int64_t now_seconds) {
    std::uint32_t latest = 0;
    for (const Slot& slot : slots_) {
        latest = std::max(latest, slot.due);
    }
    const std::int64_t before = std::max<std::int64_t>(0, now_seconds - 1);
    const std::int64_t earlier = std::clamp<std::int64_t>(latest - before, 0, kFarAway);
    for (Slot& slot : slots_) {
        slot.due = static_cast<std::uint32_t>(std::clamp<std::int64_t>(slot.due - earlier, 0, before));
    }
}

std::vector<std::string> WaitingSet::ids() const {
    std::vector<std::string> all;
    all.reserve(heap_.size());
    for (const std::uint32_t slot : heap_) {
        all.emplace_back(id_of(slot));
    }
    return all;
}

std::size_t WaitingSet::memory_bytes() const {
    return slots_.capacity() * sizeof(Slot) + (free_.capacity() + heap_.capacity() + table_.capacity()) * sizeof(std::uint32_t);
}

}  // namespace postern::qmgr
