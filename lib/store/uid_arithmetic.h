/// What is done with sets of UIDs as a whole.
#pragma once

#include "lib/base/result.h"
#include "lib/store/uid_set.h"

namespace postern::store {

/// What is in both.
UidSet intersection(const UidSet& a, const UidSet& b);

/// Calls `visit(uid)` for each, in order, until it returns an error, which is then the result.
template <class Visit>
Result<void> for_each_uid(const UidSet& uids, Visit&& visit) {
    for (const UidRange& range : uids.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            if (Result<void> done = visit(static_cast<Uid>(uid)); !done) {
                return done;
            }
        }
    }
    return {};
}

}  // namespace postern::store
