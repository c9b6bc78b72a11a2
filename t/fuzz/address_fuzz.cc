// SMTP paths and header address lists.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/mail/address.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (const bool strict : {false, true}) {
        const Result<SmtpPath> path = parse_path(text, {.strict = strict, .allow_null = true});
        if (path && !path->address.empty()) {   // what is accepted survives the way through an SMTP command
            const Result<SmtpPath> again = parse_path("<" + path->address.external() + ">", {.strict = false, .allow_null = true});
            if (path->address.external().size() < 1000 && path->address.external().find('\t') == std::string::npos &&
                (!again || again->address.local != path->address.local)) {
                std::abort();
            }
        }
    }
    const std::vector<ListAddress> list = parse_address_list(text);
    int depth = 0;
    for (const ListAddress& address : list) {
        depth += address.kind == ListAddress::Kind::group_start ? 1 : address.kind == ListAddress::Kind::group_end ? -1 : 0;
        if (depth < 0 || depth > 1) {
            std::abort();
        }
        (void)format_list_address(address);
    }
    if (depth != 0) {
        std::abort();
    }
    (void)parse_address(text);
    (void)valid_mail_domain(text, true);
    const SplitLocal split = split_extension(text, "+-");
    if (split.base.size() + split.extension.size() + (split.delimiter != 0 ? 1 : 0) != size) {
        std::abort();
    }
    return 0;
}
