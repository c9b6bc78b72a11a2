/// What a hostile process says to anvil(8), and what a hostile anvil answers: frames one after another, into the real books.
#include <cstddef>
#include <cstdint>

#include "lib/ipc/channel.h"
#include "lib/limits/anvil_messages.h"
#include "proxymap/anvil_counts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    anvil::Counts counts(std::chrono::seconds(60), 8);
    const auto now = anvil::Counts::Clock::now();
    while (size > 2) {   // tag, length, payload
        Frame frame;
        frame.tag = data[0] & 7;
        const std::size_t length = std::min<std::size_t>(data[1], size - 2);
        frame.payload.assign(reinterpret_cast<const char*>(data) + 2, length);
        data += 2 + length;
        size -= 2 + length;
        std::deque<UniqueFd> fds;
        (void)Channel<ToAnvil, FromAnvil>::decode(frame, fds).ok();
        const Result<ToAnvil> message = Channel<FromAnvil, ToAnvil>::decode(frame, fds);
        if (!message) {
            continue;
        }
        if (const auto* opened = std::get_if<AnvilOpened>(&*message)) {
            counts.opened(opened->client, now);
        } else if (const auto* event = std::get_if<AnvilEvent>(&*message); event != nullptr && event->what < kClientEvents) {
            counts.event(event->client, static_cast<ClientEvent>(event->what), event->amount, now);
        } else if (const auto* closed = std::get_if<AnvilClosed>(&*message)) {
            counts.closed(closed->client, 1, now);
        } else if (const auto* still = std::get_if<AnvilStillOpen>(&*message)) {
            counts.still_open(still->client, still->connections, now);
        }
    }
    if (counts.clients() > 8) {
        __builtin_trap();
    }
    (void)counts.take_statistics();
    return 0;
}
