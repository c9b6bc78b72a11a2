#include "lib/ipc/frame.h"

#include <cstring>

namespace postern {

namespace {

std::uint32_t load32(std::string_view bytes) {
    std::uint32_t out = 0;
    for (std::size_t i = 4; i-- > 0;) {
        out = out << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return out;
}

}  // namespace

void append_frame(std::string& out, std::uint8_t tag, std::size_t fd_count, std::string_view payload) {
    for (std::size_t i = 0; i < 4; ++i) {
        out += static_cast<char>(payload.size() >> (8 * i) & 0xff);
    }
    out += static_cast<char>(tag);
    out += static_cast<char>(fd_count);
    out.append(2, '\0');
    out += payload;
}

bool has_whole_frame(std::string_view bytes) {
    return bytes.size() >= kFrameHeader && bytes.size() - kFrameHeader >= load32(bytes);
}

Result<std::optional<Frame>> read_frame(std::string_view bytes, std::size_t max_payload_bytes) {
    if (bytes.size() < kFrameHeader) {
        return std::optional<Frame>();
    }
    const std::uint32_t size = load32(bytes);
    if (size > max_payload_bytes) {
        return Error(Errc::too_big, "message too large");
    }
    Frame frame;
    frame.tag = static_cast<std::uint8_t>(bytes[4]);
    frame.fd_count = static_cast<std::uint8_t>(bytes[5]);
    if (frame.fd_count > kMaxFrameFds || bytes[6] != 0 || bytes[7] != 0) {
        return Error(Errc::syntax, "malformed message");
    }
    if (bytes.size() - kFrameHeader < size) {
        return std::optional<Frame>();
    }
    frame.payload = bytes.substr(kFrameHeader, size);
    return std::optional(std::move(frame));
}

void FdsOfMessage::attach(msghdr& message, const std::vector<UniqueFd>& fds) {
    message.msg_control = space_.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (std::size_t i = 0; i < fds.size(); ++i) {
        const int fd = fds[i].get();
        std::memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof fd);
    }
}

void FdsOfMessage::expect(msghdr& message) {
    message.msg_control = space_.data();
    message.msg_controllen = space_.size();
}

void FdsOfMessage::take(msghdr& message, std::deque<UniqueFd>& out) {
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

}  // namespace postern
