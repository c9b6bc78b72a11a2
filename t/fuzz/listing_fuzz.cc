/// What a hostile showq(8) says, shown as postqueue(1) does: lines stay lines, and control characters do not reach the
/// terminal.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "lib/ipc/channel.h"
#include "lib/listing/listing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    using Listed = std::variant<ListedMessage, ListingEnd>;
    if (size == 0) {
        return 0;
    }
    Frame frame;
    frame.tag = data[0] >> 4;
    frame.payload.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
    std::deque<UniqueFd> fds;
    const Result<Listed> listed = Channel<std::variant<Trigger>, Listed>::decode(frame, fds);
    if (!listed || !std::holds_alternative<ListedMessage>(*listed)) {
        return 0;
    }
    const ListedMessage& message = std::get<ListedMessage>(*listed);
    const auto harmless = [](char c) { return static_cast<unsigned char>(c) >= ' ' || c == '\n'; };
    for (const bool long_ids : {false, true}) {
        TextListing text(long_ids);
        const std::string shown = text.message(message) + text.end();
        if (!std::all_of(shown.begin(), shown.end(), harmless)) {
            __builtin_trap();
        }
    }
    const std::string json = json_listing(message);
    if (json.find('\n') != json.size() - 1 || !std::all_of(json.begin(), json.end(), harmless)) {
        __builtin_trap();
    }
    return 0;
}
