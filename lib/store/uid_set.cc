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

void UidSet::remove(UidRange range) {
    const auto from = std::lower_bound(ranges_.begin(), ranges_.end(), range.first,
                                       [](const UidRange& r, Uid uid) { return r.last < uid; });
    auto to = from;
    std::vector<UidRange> left;                   // of the first and the last range that are hit
    while (to != ranges_.end() && to->first <= range.last) {
        if (to->first < range.first) {
            left.push_back(UidRange{to->first, range.first - 1});
        }
        if (to->last > range.last) {
            left.push_back(UidRange{range.last + 1, to->last});
        }
        ++to;
    }
    ranges_.insert(ranges_.erase(from, to), left.begin(), left.end());
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
