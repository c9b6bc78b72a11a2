/// A child that is forked without exec and keeps next to nothing of its parent's.
#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

struct ForkedChild {
    pid_t pid = -1;
    UniqueFd socket;   ///< the parent's end
};

/// Forks a child that has the other end of a new Unix socket of `type` (SOCK_STREAM, SOCK_SEQPACKET).  In the child nothing of the
/// parent's is destroyed: its descriptors are closed at once, but 0 to 2, the socket, the log's and `kept` (-1 is none);
/// then `run` is called, and its return ends the child.  Errors: of socketpair(2) and fork(2).
Result<ForkedChild> fork_child(int type, std::vector<int> kept, const std::function<void(UniqueFd socket)>& run);

}  // namespace postern
