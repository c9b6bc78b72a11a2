/// The wire form of messages between programs, for the event loop's FrameSocket (channel.h) and for programs without one.
///
/// A frame is: size of the payload (4 bytes, little endian), tag (1), number of descriptors (1), zero (2), payload (codec.h).
/// Descriptors travel with a frame's first byte.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

inline constexpr std::size_t kFrameHeader = 8;
inline constexpr std::size_t kMaxFrameFds = 16;

struct Frame {
    std::uint8_t tag = 0;
    std::uint8_t fd_count = 0;
    std::string payload;
};

void append_frame(std::string& out, std::uint8_t tag, std::size_t fd_count, std::string_view payload);

/// Whether `bytes` begin with a whole frame, sound or not.
bool has_whole_frame(std::string_view bytes);

/// The frame that `bytes` begin with; nothing while it has not arrived whole.  It took kFrameHeader bytes and its payload's.
/// Errors: too_big (more than `max_payload_bytes`: known as soon as the header is there), syntax.
Result<std::optional<Frame>> read_frame(std::string_view bytes, std::size_t max_payload_bytes);

/// Room for the descriptors that go with one sendmsg(2) or recvmsg(2).
class FdsOfMessage {
public:
    /// `message` will carry `fds`, at least one and at most kMaxFrameFds; they stay the caller's.
    void attach(msghdr& message, const std::vector<UniqueFd>& fds);
    /// `message` may bring up to kMaxFrameFds.
    void expect(msghdr& message);
    /// Appends what `message` has brought to `out`.
    static void take(msghdr& message, std::deque<UniqueFd>& out);

private:
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFrameFds)> space_{};
};

}  // namespace postern
