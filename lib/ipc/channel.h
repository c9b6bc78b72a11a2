/// A typed conversation between two programs over a Unix socket.
///
/// Channel<Out, In> sends members of the std::variant Out and receives members of In.  On the wire each message
/// is a frame (frame.h) whose tag is the index in the variant.  A frame that is too large, has an unknown index, or
/// does not decode to its last byte ends the conversation: the other side is not trusted.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/ipc/codec.h"
#include "lib/ipc/frame.h"

namespace postern {

/// What master (or a command) sends to wake a service: the frame kTriggerFrame, on a connection of its own.
/// A service that can be woken has Trigger in its In variant; for others it is an unknown message.
struct Trigger {};
inline constexpr char kTriggerFrame[8] = {0, 0, 0, 0, '\xff', 0, 0, 0};
template <class A>
void fields(A&, Trigger&) {}

/// Frames without types: what Channel is made of, and what the fuzz target drives.
class FrameSocket {
public:
    /// Takes a connected Unix stream socket.  `max_frame_bytes` bounds what is received.
    explicit FrameSocket(UniqueFd socket, std::size_t max_frame_bytes);
    ~FrameSocket();
    FrameSocket(const FrameSocket&) = delete;
    FrameSocket& operator=(const FrameSocket&) = delete;

    /// Where a frame's descriptors wait, in order.
    std::deque<UniqueFd>& received_fds() { return received_fds_; }

    void post(std::uint8_t tag, std::string_view payload, std::vector<UniqueFd> fds);
    Task<Result<void>> flush(Millis timeout);
    /// Flushes, then waits for the next frame.  Errors: closed, timeout, too_big, syntax.
    Task<Result<Frame>> receive(Millis timeout);
    /// A frame that has arrived whole already.
    bool has_frame() const;
    void close();
    bool is_open() const { return static_cast<bool>(socket_); }
    int fd() const { return socket_.get(); }
    std::size_t pending_output() const { return out_.size(); }

private:
    Result<bool> receive_now();
    Result<std::size_t> send_now(std::size_t at);
    std::string_view unread() const { return std::string_view(in_).substr(in_at_); }
    void forget(std::size_t bytes);
    struct OutFds {
        std::size_t offset;             ///< of the frame they belong to, in out_
        std::vector<UniqueFd> fds;
    };
    UniqueFd socket_;
    FdEvents events_;
    std::size_t max_frame_;
    std::string in_;
    std::size_t in_at_ = 0;
    std::string out_;
    bool flushing_ = false;
    std::deque<OutFds> out_fds_;
    std::deque<UniqueFd> received_fds_;
};

template <class Out, class In>
class Channel {
public:
    static constexpr std::size_t kDefaultMaxFrame = 1024 * 1024;

    Channel() = default;
    explicit Channel(UniqueFd socket, std::size_t max_frame_bytes = kDefaultMaxFrame)
        : frames_(std::make_unique<FrameSocket>(std::move(socket), max_frame_bytes)) {}

    /// Queues a message; it leaves with the next flush(), send() or receive().  Descriptors are taken.
    template <class T>
    void post(T message) {
        std::string payload;
        std::vector<UniqueFd> fds;
        Encoder encoder(payload, fds);
        fields(encoder, message);
        frames_->post(tag_of<T>(), payload, std::move(fds));
    }
    Task<Result<void>> flush(Millis timeout = std::chrono::seconds(300)) { return frames_->flush(timeout); }
    /// post() and flush().
    template <class T>
    Task<Result<void>> send(T message, Millis timeout = std::chrono::seconds(300)) {
        post(std::move(message));
        return frames_->flush(timeout);
    }
    /// The peer's next message.  Errors: closed, timeout, syntax, too_big.
    Task<Result<In>> receive(Millis timeout) {
        Result<Frame> frame = co_await frames_->receive(timeout);
        if (!frame) {
            co_return frame.error();
        }
        co_return decode(*frame, frames_->received_fds());
    }
    void close() { frames_->close(); }
    bool is_open() const { return frames_ && frames_->is_open(); }
    explicit operator bool() const { return is_open(); }
    bool has_frame() const { return frames_->has_frame(); }
    int fd() const { return frames_->fd(); }
    std::size_t pending_output() const { return frames_->pending_output(); }

    /// Decodes one frame; public for the fuzz target.
    static Result<In> decode(const Frame& frame, std::deque<UniqueFd>& fds) {
        return decode_from<0>(frame, fds);
    }
    /// The tag of frames with a `T`.
    template <class T, std::size_t I = 0>
    static constexpr std::uint8_t tag_of() {
        static_assert(I < std::variant_size_v<Out>, "this message is not part of the conversation");
        if constexpr (std::is_same_v<T, std::variant_alternative_t<I, Out>>) {
            return std::is_same_v<T, Trigger> ? 255 : static_cast<std::uint8_t>(I);
        } else {
            return tag_of<T, I + 1>();
        }
    }

private:
    template <std::size_t I>
    static Result<In> decode_from(const Frame& frame, std::deque<UniqueFd>& fds) {
        if constexpr (I >= std::variant_size_v<In>) {
            return Error(Errc::syntax, "unknown message");
        } else {
            using Alternative = std::variant_alternative_t<I, In>;
            constexpr std::uint8_t kTag = std::is_same_v<Alternative, Trigger> ? 255 : static_cast<std::uint8_t>(I);
            if (frame.tag != kTag) {
                return decode_from<I + 1>(frame, fds);
            }
            Alternative message;
            Decoder decoder(frame.payload, fds, frame.fd_count);
            fields(decoder, message);
            if (!decoder.finished()) {
                return Error(Errc::syntax, "malformed message");
            }
            return In(std::move(message));
        }
    }

    std::unique_ptr<FrameSocket> frames_;
};

/// Connects to a Unix stream socket.  `path` is relative to the queue directory for services
/// ("private/local"), as every Postern program runs there.  Waits while the listener's backlog is full.
/// Errors: not_found, denied, closed (nobody listens), timeout.
Task<Result<UniqueFd>> connect_unix(std::string path, Millis timeout);

/// The same, blocking: for commands.  Sends kTriggerFrame with wake_service(); `patience` is trigger_timeout.
Result<UniqueFd> connect_unix_blocking(const std::string& path, Millis patience = std::chrono::seconds(10));
Result<void> wake_service(const std::string& path, Millis patience);

/// How long one program waits for another's answer where nothing else bounds it: ipc_timeout, which every service sets at its start.
void set_ipc_timeout(Millis timeout);
Millis ipc_timeout();

}  // namespace postern
