#include "lib/store/uid_set.h"

#include <algorithm>

namespace postern::store {

void UidSet::add(UidRange range) {
    if (ranges_.empty() || range.first > ranges_.back().last) {
        if (!ranges_.empty() && range.first - 1 == ranges_.back().last) {
            ranges_.back().last = range.last;
        } else {
            ranges_.push_back(range);
        }
        return;
    }
    // The first range that ends at or after the place just before the new one: it touches or follows.
    const Uid before = range.first == 0 ? 0 : range.first - 1;
    auto from = std::lower_bound(ranges_.begin(), ranges_.end(), before,
                                 [](const UidRange& r, Uid uid) { return r.last < uid; });
    auto to = from;
    while (to != ranges_.end() && (to->first <= range.last || to->first - 1 == range.last)) {
        range.first = std::min(range.first, to->first);
        range.last = std::max(range.last, to->last);
        ++to;
    }
    if (from == to) {
        ranges_.insert(from, range);
        return;
    }
    *from = range;
    ranges_.erase(from + 1, to);
}

void UidSet::add(const UidSet& other) {
    for (const UidRange& range : other.ranges_) {
        add(range);
    }
}

void UidSet::remove(Uid uid) {
    auto at = std::lower_bound(ranges_.begin(), ranges_.end(), uid,
                               [](const UidRange& r, Uid value) { return r.last < value; });
    if (at == ranges_.end() || at->first > uid) {
        return;
    }
    const UidRange old = *at;
    if (old.first == old.last) {
        ranges_.erase(at);
    } else if (uid == old.first) {
        at->first = uid + 1;
    } else if (uid == old.last) {
        at->last = uid - 1;
    } else {
        at->last = uid - 1;
        ranges_.insert(at + 1, UidRange{uid + 1, old.last});
    }
}

bool UidSet::contains(Uid uid) const {
    const auto at = std::lower_bound(ranges_.begin(), ranges_.end(), uid,
                                     [](const UidRange& r, Uid value) { return r.last < value; });
    return at != ranges_.end() && at->first <= uid;
}

std::size_t UidSet::size() const {
    std::size_t count = 0;
    for (const UidRange& range : ranges_) {
        count += std::size_t{range.last} - range.first + 1;
    }
    return count;
}

std::string UidSet::text() const {
    std::string out;
    for (const UidRange& range : ranges_) {
        if (!out.empty()) {
            out += ',';
        }
        out += std::to_string(range.first);
        if (range.last != range.first) {
            out += ':';
            out += std::to_string(range.last);
        }
    }
    return out;
}

}  // namespace postern::store
