#include "lib/store/uid_arithmetic.h"

#include <algorithm>

namespace postern::store {

UidSet intersection(const UidSet& a, const UidSet& b) {
    UidSet out;
    auto left = a.ranges().begin();
    auto right = b.ranges().begin();
    while (left != a.ranges().end() && right != b.ranges().end()) {
        const Uid first = std::max(left->first, right->first);
        const Uid last = std::min(left->last, right->last);
        if (first <= last) {
            out.add(UidRange{first, last});
        }
        if (left->last < right->last) {
            ++left;
        } else {
            ++right;
        }
    }
    return out;
}

}  // namespace postern::store
