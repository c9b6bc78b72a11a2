/// One read from a Unix socket, with the descriptors that come along.
#pragma once

#include <cstddef>
#include <deque>
#include <span>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

/// Reads from a Unix socket into `buffer`, which is not empty: the number of bytes; 0 when there are none yet (the socket or `flags`
/// say not to wait) or a signal came.  Their descriptors are appended to `fds`.
/// Errors: closed; syntax, when `fds` has become more than `max_fds`.
Result<std::size_t> receive_bytes(int socket, std::span<char> buffer, int flags, std::deque<UniqueFd>& fds, std::size_t max_fds);

}  // namespace postern
