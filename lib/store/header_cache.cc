#include "lib/store/header_cache.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/header.h"
#include "lib/mail/imap_structure.h"
#include "lib/mail/mime.h"
#include "lib/store/backend.h"

namespace postern::store {
namespace {

template <class Wanted>
std::string pick_fields(std::string_view header, Wanted&& wanted) {
    std::string out;
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        if (!field.name.empty() && wanted(field.name)) {
            append_crlf(out, field.whole);
            out += "\r\n";
        }
    }
    return out;
}

}  // namespace

bool is_cached_header(std::string_view name) {
    for (const std::string_view known : kCachedHeaders) {
        if (known.size() == name.size() && equals_ignoring_case(known, name)) {
            return true;
        }
    }
    return false;
}

std::string named_fields(std::string_view header, std::span<const std::string> names) {
    return pick_fields(header, [names](std::string_view name) {
        return std::any_of(names.begin(), names.end(),
                           [name](const std::string& wanted) { return equals_ignoring_case(wanted, name); });
    });
}

std::string cached_fields(std::string_view header) {
    return pick_fields(header, [](std::string_view name) { return is_cached_header(name); });
}

std::pair<std::string, std::string> summarise(std::string_view text, std::int64_t internal_date) {
    const MimeTree tree = MimeTree::parse(text);
    const std::string_view header = tree.root().header.of(text);
    const std::string envelope = imap_envelope(header);
    const std::string body = imap_body(tree);
    const std::string bodystructure = imap_bodystructure(tree);
    CachedSummary summary;
    summary.size = tree.octets();
    summary.internal_date = internal_date;
    summary.header_size = tree.root().header.octets();
    summary.envelope = envelope;
    summary.body = body;
    summary.bodystructure = bodystructure;
    return {encode_summary(summary), cached_fields(header)};
}

}  // namespace postern::store
