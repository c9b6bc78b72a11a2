/// mbox files: any bytes are split into messages that follow each other without gaps.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/store/mbox_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::store;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const MboxFile file = parse_mbox(text);
    std::uint64_t end = file.messages.empty() ? 0 : file.messages.front().start;
    for (const MboxMessage& message : file.messages) {
        if (message.start != end || message.header > message.body || message.body > message.end ||
            message.text_end > message.end || message.end <= message.start) {
            std::abort();
        }
        end = message.end;
        if (visible_text(text, message).size() > 2 * size + 16) {
            std::abort();
        }
    }
    if (!file.messages.empty() && end != size) {
        std::abort();
    }
    header_without_state(text);
    // Quoted text holds no line that begins a message.
    if (parse_mbox("From a 10:10\n\n\n" + quote_from(text)).messages.size() != 1) {
        std::abort();
    }
    return 0;
}
