/// A frame from a hostile process, decoded as the conversations with the most kinds of members.
#include <cstddef>
#include <cstdint>

#include "lib/ipc/channel.h"
#include "lib/queue/deliver.h"
#include "lib/queue/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    if (size == 0) {
        return 0;
    }
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const Result<std::optional<Frame>> whole = read_frame(bytes, 1000);
    if (whole && *whole && ((*whole)->payload.size() > 1000 || !has_whole_frame(bytes))) {
        __builtin_trap();
    }
    Frame frame;
    frame.tag = data[0] & 15;
    frame.payload.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
    std::deque<UniqueFd> fds;
    (void)Channel<queue::FromCleanup, queue::ToCleanup>::decode(frame, fds).ok();
    (void)Channel<queue::FromQmgr, queue::ToQmgr>::decode(frame, fds).ok();
    (void)Channel<queue::FromAgent, queue::ToAgent>::decode(frame, fds).ok();
    return 0;
}
