/// Messages that wait for their time: the deferred queue (and a backlog of the incoming one) in memory.
///
/// A million entries take about 44 MB: 32 bytes each, plus four for the heap and eight for finding an id.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::qmgr {

/// A set of queue ids ordered by due time, equal times in no particular order.
class WaitingSet {
public:
    /// Adds `id` or changes its time.  Ids longer than 23 bytes, which no writer makes, are refused (false).
    bool put(std::string_view id, std::int64_t due_seconds);
    /// False when it is not there.
    bool remove(std::string_view id);
    bool contains(std::string_view id) const { return find(id).has_value(); }
    /// Makes everything due at `now_seconds`, in the order it had.
    void make_all_due(std::int64_t now_seconds);

    bool empty() const { return heap_.empty(); }
    std::size_t size() const { return heap_.size(); }
    /// When the first is due; only when not empty.
    std::int64_t first_due() const { return slots_[heap_.front()].due; }
    /// Takes the first out.
    std::string pop();
    /// All ids, unordered (for FlushSite).
    std::vector<std::string> ids() const;
    /// Bytes of memory in use.
    std::size_t memory_bytes() const;

    static constexpr std::size_t kMaxId = 23;

private:
    struct Slot {
        char id[kMaxId];
        std::uint8_t length;
        std::uint32_t due;
        std::uint32_t heap_position;
    };
    static constexpr std::uint32_t kNone = 0xffffffff;

    std::string_view id_of(std::uint32_t slot) const { return {slots_[slot].id, slots_[slot].length}; }
    std::optional<std::uint32_t> find(std::string_view id) const;
    void index(std::uint32_t slot);
    void unindex(std::uint32_t slot);
    void grow_index();
    void place(std::size_t position, std::uint32_t slot);
    void sift_up(std::size_t position);
    void sift_down(std::size_t position);
    void erase(std::uint32_t slot);

    std::vector<Slot> slots_;
    std::vector<std::uint32_t> free_;
    std::vector<std::uint32_t> heap_;     ///< slots, earliest first
    std::vector<std::uint32_t> table_;    ///< open addressing, linear probing; size a power of two
};

}  // namespace postern::qmgr
