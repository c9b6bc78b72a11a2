/// tcp_windowsize: how much a TCP connection may have on its way.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <climits>

#include "lib/base/result.h"

namespace postern {

/// For a socket before it connects or listens, since the window's scale is settled with the first packet (RFC 7323 section 2.2).
/// 0 leaves it to the kernel.  Errors: what the kernel said.
inline Result<void> set_tcp_window(int fd, long bytes) {
    const int size = static_cast<int>(std::clamp(bytes, 0L, static_cast<long>(INT_MAX)));
    if (size == 0) {
        return {};
    }
    if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) != 0 || ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0) {
        return errno_error("set tcp_windowsize");
    }
    return {};
}

}  // namespace postern
