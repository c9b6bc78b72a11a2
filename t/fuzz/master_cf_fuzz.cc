/// master.cf from an unknown hand; and what is printed must be read back as the same service.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/config/master_cf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<MasterCf> file = parse_master_cf(text, "master.cf");
    if (!file) {
        return 0;
    }
    for (const MasterEntry& entry : file->entries) {
        (void)entry.overrides();
        (void)entry.other_arguments();
        const Result<MasterEntry> again = parse_master_entry(to_text(entry));
        if (!again || again->arguments != entry.arguments || again->columns != entry.columns) {
            std::abort();
        }
    }
    return 0;
}
