#include "lib/login/sync_channel.h"

#include <poll.h>
#include <unistd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace postern {

namespace {

constexpr std::size_t kHeader = 8;
constexpr std::size_t kMaxFds = 16;

std::uint32_t load32(const char* bytes) {
    std::uint32_t out = 0;
    for (std::size_t i = 4; i-- > 0;) {
        out = out << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return out;
}

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

void take_fds(msghdr& message, std::deque<UniqueFd>& out) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
            out.emplace_back(fd);
        }
    }
}

}  // namespace

bool SyncFrames::wait_readable(Millis timeout) const {
    return wait_for(socket_.get(), POLLIN, timeout);
}

Result<bool> SyncFrames::read_now() {
    std::array<char, 16 * 1024> buffer{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return false;
        }
        return Error(Errc::closed, "lost connection");
    }
    take_fds(message, received_fds_);
    if (got == 0) {
        return Error(Errc::closed, "lost connection");
    }
    if (received_fds_.size() > kMaxFds || (message.msg_flags & MSG_CTRUNC) != 0) {
        return Error(Errc::syntax, "too many descriptors");
    }
    in_.append(buffer.data(), static_cast<std::size_t>(got));
    return true;
}

Result<std::optional<FrameSocket::Frame>> SyncFrames::next() {
    if (in_.size() < kHeader) {
        return std::optional<FrameSocket::Frame>();
    }
    const std::uint32_t size = load32(in_.data());
    if (size > max_frame_) {
        return Error(Errc::too_big, "message too large");
    }
    FrameSocket::Frame frame;
    frame.tag = static_cast<std::uint8_t>(in_[4]);
    frame.fd_count = static_cast<std::uint8_t>(in_[5]);
    if (frame.fd_count > kMaxFds || in_[6] != 0 || in_[7] != 0) {
        return Error(Errc::syntax, "malformed message");
    }
    if (in_.size() - kHeader < size) {
        return std::optional<FrameSocket::Frame>();
    }
    frame.payload = in_.substr(kHeader, size);
    in_.erase(0, kHeader + size);
    if (in_.empty()) {
        std::string().swap(in_);
    }
    return std::optional(std::move(frame));
}

Result<void> SyncFrames::send(std::uint8_t tag, std::string_view payload, const std::vector<UniqueFd>& fds,
                              Millis timeout) {
    std::string frame;
    for (std::size_t i = 0; i < 4; ++i) {
        frame += static_cast<char>(payload.size() >> (8 * i) & 0xff);
    }
    frame += static_cast<char>(tag);
    frame += static_cast<char>(fds.size());
    frame.append(2, '\0');
    frame += payload;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
    std::size_t at = 0;
    while (at < frame.size()) {
        iovec part{frame.data() + at, frame.size() - at};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (at == 0 && !fds.empty()) {
            message.msg_control = control.data();
            message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
            cmsghdr* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
            for (std::size_t i = 0; i < fds.size(); ++i) {
                const int fd = fds[i].get();
                std::memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof fd);
            }
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

void close_all_but(std::vector<int> kept) {
    std::sort(kept.begin(), kept.end());
    unsigned from = 3;
    for (const int fd : kept) {
        if (fd < static_cast<int>(from)) {
            continue;
        }
        if (static_cast<unsigned>(fd) > from) {
            ::close_range(from, static_cast<unsigned>(fd) - 1, 0);
        }
        from = static_cast<unsigned>(fd) + 1;
    }
    ::close_range(from, ~0U, 0);
}

}  // namespace postern
