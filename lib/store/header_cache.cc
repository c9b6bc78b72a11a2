#include "lib/store/header_cache.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

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

std::size_t cached_header_index(std::string_view name) {
    std::size_t n = 0;
    while (n < kCachedHeaders.size() &&
           (kCachedHeaders[n].size() != name.size() || !equals_ignoring_case(kCachedHeaders[n], name))) {
        ++n;
    }
    return n;
}

std::string named_fields(std::string_view header, std::span<const std::string> names) {
    return pick_fields(header, [names](std::string_view name) {
        return std::any_of(names.begin(), names.end(),
                           [name](const std::string& wanted) { return equals_ignoring_case(wanted, name); });
    });
}

std::string pack_cached_fields(std::string_view header) {
    std::string out;
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        const std::size_t index = cached_header_index(field.name);
        if (index == kCachedHeaders.size()) {
            continue;
        }
        out += static_cast<char>(index);
        const std::size_t at = out.size();
        out.append(sizeof(std::uint32_t), '\0');
        append_crlf(out, field.whole);
        out += "\r\n";
        const auto length = static_cast<std::uint32_t>(out.size() - at - sizeof(std::uint32_t));
        std::memcpy(out.data() + at, &length, sizeof length);
    }
    return out;
}

bool pick_cached_fields(std::string_view packed, std::span<const std::string> names, std::string& out) {
    static_assert(kCachedHeaders.size() <= 32);
    std::uint32_t wanted = 0;
    for (const std::string& name : names) {
        wanted |= std::uint32_t{1} << (cached_header_index(name) & 31);
    }
    while (!packed.empty()) {
        std::uint32_t length = 0;
        const auto index = static_cast<unsigned char>(packed[0]);
        if (packed.size() < 1 + sizeof length || index >= kCachedHeaders.size()) {
            return false;
        }
        std::memcpy(&length, packed.data() + 1, sizeof length);
        packed.remove_prefix(1 + sizeof length);
        if (length > packed.size()) {
            return false;
        }
        if ((wanted >> index & 1) != 0) {
            out += packed.substr(0, length);
        }
        packed.remove_prefix(length);
    }
    return true;
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
    return {encode_summary(summary), pack_cached_fields(header)};
}

}  // namespace postern::store
