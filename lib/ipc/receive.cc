#include "lib/ipc/receive.h"

#include <cerrno>

#include "lib/ipc/frame.h"

namespace postern {

Result<std::size_t> receive_bytes(int socket, std::span<char> buffer, int flags, std::deque<UniqueFd>& fds, std::size_t max_fds) {
    FdsOfMessage descriptors;
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    descriptors.expect(message);
    const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return std::size_t{0};
    }
    if (got >= 0) {
        FdsOfMessage::take(message, fds);
    }
    if (got <= 0) {
        return Error(Errc::closed, "lost connection");
    }
    if (fds.size() > max_fds || (message.msg_flags & MSG_CTRUNC) != 0) {
        return Error(Errc::syntax, "too many descriptors");
    }
    return static_cast<std::size_t>(got);
}

}  // namespace postern
