/// Fuzzes the IMAP command parser: any bytes give an answer, and a set that was parsed can be used.
#include <cstdint>
#include <string_view>

#include "imapd/parse_any.h"
#include "imapd/parser.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::imapd;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    parse_any(text);
    LiteralHeader header;
    if (ends_in_literal(text, header) && header.start >= text.size()) {
        __builtin_trap();
    }
    Parser parser(text);
    SequenceSet set;
    if (parser.set(set)) {
        const auto resolved = set.resolve(1000);
        const auto& ranges = resolved.ranges();
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            if (ranges[i].first > ranges[i].last || !resolved.contains(ranges[i].first) ||
                (i > 0 && ranges[i].first <= ranges[i - 1].last)) {
                __builtin_trap();
            }
        }
    }
    return 0;
}
