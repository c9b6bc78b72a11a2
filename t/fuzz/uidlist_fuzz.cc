/// dovecot-uidlist and courierimapuiddb: any bytes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/store/maildir_name.h"
#include "lib/store/uidlist.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::store;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto list = parse_uidlist(text)) {
        Uid last = 0;
        for (const UidListEntry& entry : list->entries) {
            if (entry.uid <= last || entry.base.empty() || entry.base.find(':') != std::string::npos) {
                std::abort();
            }
            last = entry.uid;
        }
        if (list->uidvalidity == 0 || list->uidnext <= last) {
            std::abort();
        }
    }
    const NameParts name = split_name(text);
    const NameFlags flags = parse_suffix(name.suffix);
    if (flags.usual && suffix_for(flags.flags, flags.keywords) != name.suffix) {
        std::abort();
    }
    size_in_name(name.base, 'W');
    return 0;
}
