/// Arithmetic of UID sets that the commands need.
#pragma once

#include "lib/store/uid_arithmetic.h"

namespace postern::imapd {

/// The UIDs at positions (sequence numbers, from 1) of a snapshot's UIDs.  Positions past the end are left out.
store::UidSet uids_at(const store::UidSet& snapshot, const store::UidSet& positions);

/// What is in `a` but not in `b`.
store::UidSet difference(const store::UidSet& a, const store::UidSet& b);

}  // namespace postern::imapd
