// What is in the cache file of verify(8), which anybody may have written.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "verify/entry.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::verify;
    const auto entry = parse_entry({reinterpret_cast<const char*>(data), size});
    if (entry) {
        const auto again = parse_entry(format_entry(*entry));
        const bool cut = !entry->text.empty() && entry->text.back() == '\0';
        if (!again || again->status != entry->status || again->probed != entry->probed || again->updated != entry->updated ||
            (!cut && again->text != entry->text)) {
            std::abort();
        }
    }
    return 0;
}
