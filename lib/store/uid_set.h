/// A set of UIDs (or of sequence numbers) as sorted, disjoint ranges: how IMAP writes sets, and how mailboxes
/// keep them small in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace postern::store {

using Uid = std::uint32_t;

/// Both ends belong to the range; first <= last.
struct UidRange {
    Uid first = 0;
    Uid last = 0;
    bool operator==(const UidRange&) const = default;
};

/// Ranges are sorted, do not overlap and do not touch.
class UidSet {
public:
    UidSet() = default;
    explicit UidSet(UidRange range) { add(range); }

    /// Cheap when `uid` is not below what is already there; correct in any order.
    void add(Uid uid) { add(UidRange{uid, uid}); }
    void add(UidRange range);
    void add(const UidSet& other);
    void remove(Uid uid) { remove(UidRange{uid, uid}); }
    void remove(UidRange range);
    bool contains(Uid uid) const;

    bool empty() const { return ranges_.empty(); }
    /// How many numbers are in the set.
    std::size_t size() const;
    const std::vector<UidRange>& ranges() const { return ranges_; }
    void clear() { ranges_.clear(); }
    bool operator==(const UidSet&) const = default;

    /// "1:3,7" (RFC 9051 sequence-set); empty text for the empty set.
    std::string text() const;

private:
    std::vector<UidRange> ranges_;
};

}  // namespace postern::store
