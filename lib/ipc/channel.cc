#include "lib/ipc/channel.h"

#include <atomic>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "lib/ipc/receive.h"

namespace postern {

namespace {

constexpr std::size_t kReceive = 64 * 1024;

Error wake_error(Wake wake) {
    return wake == Wake::timed_out ? Error(Errc::timeout, "timeout") : Error(Errc::closed, "lost connection");
}

}  // namespace

FrameSocket::FrameSocket(UniqueFd socket, std::size_t max_frame_bytes)
    : socket_(std::move(socket)), max_frame_(max_frame_bytes) {
    ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
    events_.open(socket_.get());
}

FrameSocket::~FrameSocket() = default;

void FrameSocket::close() {
    events_.close();
    socket_.reset();
    flushing_ = false;   // who waited for room does not come back to this object
}

void FrameSocket::post(std::uint8_t tag, std::string_view payload, std::vector<UniqueFd> fds) {
    if (!fds.empty()) {
        out_fds_.push_back(OutFds{out_.size(), {}});
        out_fds_.back().fds = std::move(fds);
    }
    const std::size_t fd_count = out_fds_.empty() || out_fds_.back().offset != out_.size() ? 0 : out_fds_.back().fds.size();
    append_frame(out_, tag, fd_count, payload);
}

/// Sends from offset `at`: up to the next frame that carries descriptors, or that frame's first part with them.
Result<std::size_t> FrameSocket::send_now(std::size_t at) {
    iovec io{};
    msghdr message{};
    FdsOfMessage descriptors;
    std::size_t end = out_.size();
    bool with_fds = false;
    if (!out_fds_.empty() && out_fds_.front().offset == at) {
        with_fds = true;
        const auto& fds = out_fds_.front().fds;
        if (fds.size() > kMaxFrameFds) {
            return Error(Errc::too_big, "too many descriptors in one message");
        }
        descriptors.attach(message, fds);
        if (out_fds_.size() > 1) {
            end = out_fds_[1].offset;
        }
    } else if (!out_fds_.empty()) {
        end = out_fds_.front().offset;
    }
    io.iov_base = out_.data() + at;
    io.iov_len = end - at;
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return std::size_t{0};
        }
        return Error(Errc::closed, "lost connection");
    }
    if (with_fds) {
        out_fds_.pop_front();
    }
    return static_cast<std::size_t>(sent);
}

Task<Result<void>> FrameSocket::flush(Millis timeout) {
    if (flushing_) {
        co_return Result<void>();   // the coroutine that is at it sends this too
    }
    flushing_ = true;
    std::size_t at = 0;
    const auto stop_here = [this, &at] {   // who tries again goes on in the middle of the frame that was cut
        flushing_ = false;
        out_.erase(0, at);
        for (OutFds& waiting : out_fds_) {
            waiting.offset -= at;
        }
    };
    while (at < out_.size()) {
        if (!socket_) {
            flushing_ = false;
            co_return Error(Errc::closed, "closed");
        }
        Result<std::size_t> sent = send_now(at);
        if (!sent) {
            stop_here();
            co_return sent.error();
        }
        at += *sent;
        if (*sent == 0) {
            const Wake wake = co_await events_.writable(timeout);
            if (wake == Wake::closed) {   // the channel may be gone
                co_return wake_error(wake);
            }
            if (wake != Wake::ready) {
                stop_here();
                co_return wake_error(wake);
            }
        }
    }
    if (out_.capacity() > kReceive) {
        std::string().swap(out_);
    } else {
        out_.clear();
    }
    flushing_ = false;
    co_return Result<void>();
}

bool FrameSocket::has_frame() const { return has_whole_frame(unread()); }

Result<bool> FrameSocket::receive_now() {
    static thread_local std::unique_ptr<std::array<char, kReceive>> buffer;
    if (!buffer) {
        buffer = std::make_unique_for_overwrite<std::array<char, kReceive>>();   // untouched pages cost nothing
    }
    const Result<std::size_t> got = receive_bytes(socket_.get(), *buffer, 0, received_fds_, 4 * kMaxFrameFds);
    if (!got) {
        return got.error();
    }
    if (*got == 0) {
        return false;
    }
    if (in_at_ > 0 && in_at_ == in_.size()) {
        in_.clear();
        in_at_ = 0;
    }
    in_.append(buffer->data(), *got);
    return true;
}

Task<Result<Frame>> FrameSocket::receive(Millis timeout) {
    if (!out_.empty() && !flushing_) {
        Result<void> sent = co_await flush(timeout);
        if (!sent) {
            co_return sent.error();
        }
    }
    for (;;) {
        Result<std::optional<Frame>> frame = read_frame(unread(), max_frame_);
        if (!frame) {
            co_return frame.error();
        }
        if (*frame) {
            forget(kFrameHeader + (*frame)->payload.size());
            co_return std::move(**frame);
        }
        if (!socket_) {
            co_return Error(Errc::closed, "closed");
        }
        Result<bool> got = receive_now();
        if (!got) {
            co_return got.error();
        }
        if (!*got) {
            const Wake wake = co_await events_.readable(timeout);
            if (wake == Wake::timed_out || wake == Wake::closed) {
                co_return wake_error(wake);
            }
        }
    }
}

void FrameSocket::forget(std::size_t bytes) {
    in_at_ += bytes;
    if (in_at_ == in_.size()) {
        if (in_.capacity() > kReceive) {
            std::string().swap(in_);
        } else {
            in_.clear();
        }
        in_at_ = 0;
    } else if (in_at_ > kReceive) {
        in_.erase(0, in_at_);
        in_at_ = 0;
    }
}

namespace {

Result<sockaddr_un> unix_address(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return Error(Errc::too_big, "connect " + path + ": path too long for a socket");
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

/// True when connected, false when the backlog is full.
Result<bool> try_connect(int fd, const sockaddr_un& address, const std::string& path) {
    for (;;) {
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EISCONN) {
            return true;
        }
        if (errno == EAGAIN) {
            return false;
        }
        if (errno != EINTR) {
            const int why = errno;
            Error error = errno_error("connect " + path, why);
            if (why == ECONNREFUSED) {
                error.code = Errc::closed;
            }
            return error;
        }
    }
}

}  // namespace

Task<Result<UniqueFd>> connect_unix(std::string path, Millis timeout) {
    Result<sockaddr_un> address = unix_address(path);
    if (!address) {
        co_return address.error();
    }
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        co_return errno_error("socket");
    }
    Millis waited(0);
    for (;;) {
        Result<bool> connected = try_connect(fd.get(), *address, path);
        if (!connected) {
            co_return connected.error();
        }
        if (*connected) {
            co_return std::move(fd);
        }
        if (waited >= timeout) {
            co_return Error(Errc::timeout, "connect " + path + ": the service does not take connections");
        }
        co_await sleep_for(Millis(10));
        waited += Millis(10);
    }
}

namespace {
std::atomic<long> g_ipc_timeout_ms{3'600'000};   ///< as set_offload_threads() a matter of the whole process
}

void set_ipc_timeout(Millis timeout) { g_ipc_timeout_ms = static_cast<long>(timeout.count()); }

Millis ipc_timeout() { return Millis(g_ipc_timeout_ms.load()); }

Result<UniqueFd> connect_unix_blocking(const std::string& path, Millis limit) {
    Result<sockaddr_un> address = unix_address(path);
    if (!address) {
        return address.error();
    }
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) {
        return errno_error("socket");
    }
    const timeval patience{static_cast<time_t>(limit.count() / 1000), static_cast<suseconds_t>(limit.count() % 1000 * 1000)};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    Result<bool> connected = try_connect(fd.get(), *address, path);
    if (!connected) {
        return connected.error();
    }
    if (!*connected) {
        return Error(Errc::timeout, "connect " + path + ": the service does not take connections");
    }
    return fd;
}

Result<void> wake_service(const std::string& path, Millis patience) {
    Result<UniqueFd> fd = connect_unix_blocking(path, patience);
    if (!fd) {
        return fd.error();
    }
    if (::send(fd->get(), kTriggerFrame, sizeof kTriggerFrame, MSG_NOSIGNAL) != sizeof kTriggerFrame) {
        return errno_error("write " + path);
    }
    return {};
}

}  // namespace postern
