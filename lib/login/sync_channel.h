/// The conversation of lib/ipc/channel.h for a program without an event loop: the same frames, blocking calls.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/ipc/channel.h"

namespace postern {

/// Frames over a Unix stream socket, without types.
class SyncFrames {
public:
    SyncFrames() = default;
    SyncFrames(UniqueFd socket, std::size_t max_frame_bytes) : socket_(std::move(socket)), max_frame_(max_frame_bytes) {}

    /// Takes what the socket has now; true when something came.  Errors: closed, syntax.
    Result<bool> read_now();
    /// The next whole frame that has been read, if any.  Errors: too_big, syntax.
    Result<std::optional<Frame>> next();
    /// Sends, waiting while the peer is slow.  Errors: closed, timeout.
    Result<void> send(std::uint8_t tag, std::string_view payload, const std::vector<UniqueFd>& fds, Millis timeout);
    /// Waits for bytes; false when the time is up.
    bool wait_readable(Millis timeout) const;

    std::deque<UniqueFd>& received_fds() { return received_fds_; }
    int fd() const { return socket_.get(); }
    void close() { socket_.reset(); }

private:
    UniqueFd socket_;
    std::size_t max_frame_ = 0;
    std::string in_;
    std::deque<UniqueFd> received_fds_;
};

template <class Out, class In>
class SyncChannel {
public:
    SyncChannel() = default;
    explicit SyncChannel(UniqueFd socket, std::size_t max_frame_bytes = 1024 * 1024)
        : frames_(std::move(socket), max_frame_bytes) {}

    Result<bool> read_now() { return frames_.read_now(); }
    /// A message that has been read whole, or nothing.  Errors: the peer broke the rules.
    Result<std::optional<In>> next() {
        Result<std::optional<Frame>> frame = frames_.next();
        if (!frame) {
            return frame.error();
        }
        if (!*frame) {
            return std::optional<In>();
        }
        Result<In> message = Channel<Out, In>::decode(**frame, frames_.received_fds());
        if (!message) {
            return message.error();
        }
        return std::optional<In>(std::move(*message));
    }
    /// Waits for one message.  Errors: as above, timeout.
    Result<In> receive(Millis timeout) {
        for (;;) {
            Result<std::optional<In>> message = next();
            if (!message) {
                return message.error();
            }
            if (*message) {
                return std::move(**message);
            }
            if (!frames_.wait_readable(timeout)) {
                return Error(Errc::timeout, "timeout");
            }
            if (const Result<bool> got = read_now(); !got) {
                return got.error();
            }
        }
    }
    template <class T>
    Result<void> send(T message, Millis timeout) {
        std::string payload;
        std::vector<UniqueFd> fds;
        Encoder encoder(payload, fds);
        fields(encoder, message);
        return frames_.send(Channel<Out, In>::template tag_of<T>(), payload, fds, timeout);
    }
    int fd() const { return frames_.fd(); }
    void close() { frames_.close(); }
    bool is_open() const { return frames_.fd() >= 0; }

private:
    SyncFrames frames_;
};

}  // namespace postern
