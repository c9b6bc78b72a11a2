#include "lib/login/sync_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "lib/ipc/receive.h"

namespace postern {

namespace {

int milliseconds(Millis timeout) {
    return timeout == kForever ? -1 : static_cast<int>(std::min<Millis::rep>(timeout.count(), 1 << 30));
}

bool wait_for(int fd, short what, Millis timeout) {
    pollfd wait{fd, what, 0};
    int ready = 0;
    do {
        ready = ::poll(&wait, 1, milliseconds(timeout));
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

}  // namespace

bool SyncFrames::wait_readable(Millis timeout) const {
    return wait_for(socket_.get(), POLLIN, timeout);
}

Result<bool> SyncFrames::read_now() {
    std::array<char, 16 * 1024> buffer{};
    const Result<std::size_t> got = receive_bytes(socket_.get(), buffer, MSG_DONTWAIT, received_fds_, kMaxFrameFds);
    if (!got) {
        return got.error();
    }
    in_.append(buffer.data(), *got);
    return *got > 0;
}

Result<std::optional<Frame>> SyncFrames::next() {
    Result<std::optional<Frame>> frame = read_frame(in_, max_frame_);
    if (!frame || !*frame) {
        return frame;
    }
    in_.erase(0, kFrameHeader + (*frame)->payload.size());
    if (in_.empty()) {
        std::string().swap(in_);
    }
    return frame;
}

Result<void> SyncFrames::send(std::uint8_t tag, std::string_view payload, const std::vector<UniqueFd>& fds,
                              Millis timeout) {
    std::string frame;
    append_frame(frame, tag, fds.size(), payload);
    FdsOfMessage descriptors;
    std::size_t at = 0;
    while (at < frame.size()) {
        iovec part{frame.data() + at, frame.size() - at};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (at == 0 && !fds.empty()) {
            descriptors.attach(message, fds);
        }
        const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += static_cast<std::size_t>(sent);
        } else if (errno != EAGAIN && errno != EINTR) {
            return Error(Errc::closed, "lost connection");
        } else if (!wait_for(socket_.get(), POLLOUT, timeout)) {
            return Error(Errc::timeout, "timeout");
        }
    }
    return {};
}

}  // namespace postern
