#include "imapd/targets.h"

#include <algorithm>

namespace postern::imapd {

using store::UidRange;
using store::UidSet;

UidSet uids_at(const UidSet& snapshot, const UidSet& positions) {
    UidSet out;
    std::uint64_t before = 0;                        // how many UIDs precede `range`
    auto range = snapshot.ranges().begin();
    for (const UidRange& wanted : positions.ranges()) {
        std::uint64_t from = wanted.first;
        while (range != snapshot.ranges().end() && from <= wanted.last) {
            const std::uint64_t length = std::uint64_t{range->last} - range->first + 1;
            if (from > before + length) {
                before += length;
                ++range;
                continue;
            }
            const std::uint64_t to = std::min<std::uint64_t>(wanted.last, before + length);
            out.add(UidRange{static_cast<store::Uid>(range->first + (from - before - 1)),
                             static_cast<store::Uid>(range->first + (to - before - 1))});
            from = to + 1;
        }
    }
    return out;
}

UidSet difference(const UidSet& a, const UidSet& b) {
    UidSet out;
    auto cut = b.ranges().begin();
    for (const UidRange& range : a.ranges()) {
        std::uint64_t from = range.first;
        while (cut != b.ranges().end() && cut->last < from) {
            ++cut;
        }
        for (auto at = cut; at != b.ranges().end() && at->first <= range.last; ++at) {
            if (at->first > from) {
                out.add(UidRange{static_cast<store::Uid>(from), at->first - 1});
            }
            from = std::uint64_t{at->last} + 1;
        }
        if (from <= range.last) {
            out.add(UidRange{static_cast<store::Uid>(from), range.last});
        }
    }
    return out;
}

}  // namespace postern::imapd
