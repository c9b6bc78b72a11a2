#include "smtp/generic.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/header.h"
#include "lib/mail/header_kinds.h"
#include "lib/mail/header_rewrite.h"
#include "lib/table/address_lookup.h"

namespace postern::smtp {

Result<std::unique_ptr<GenericMaps>> GenericMaps::create(const Settings& settings, const TableContext& tables) {
    std::unique_ptr<GenericMaps> out(new GenericMaps(settings));
    Result<TableList> maps = TableList::open(settings.prefix() + "_generic_maps", settings.generic_maps(), tables);
    if (!maps) {
        return maps.error();
    }
    out->maps_ = std::move(*maps);
    if (out->maps_.empty()) {
        return out;
    }
    const Config& config = settings.config();
    Result<MatchList> local = MatchList::open("mydestination", config.mydestination(), MatchKind::domain,
                                              matches_subdomains(config, "mydestination"), tables);
    if (!local) {
        return local.error();
    }
    out->local_domains_ = std::move(*local);
    const std::vector<std::string> propagate = split_list(config.propagate_unmatched_extensions());
    out->propagate_ = std::find(propagate.begin(), propagate.end(), "generic") != propagate.end();
    return out;
}

Result<std::string> GenericMaps::map(const std::string& address) {
    if (maps_.empty() || address.empty()) {
        return address;
    }
    const Config& config = settings_.config();
    const AddressParts parts = split_address(address);
    const Result<bool> local = local_domains_.matches(parts.domain);
    if (!local) {
        return local.error();
    }
    AddressQuery query;
    query.address = address;
    query.delimiters = config.recipient_delimiter();
    query.domain_is_local = *local || equals_ignoring_case(parts.domain, config.myorigin());
    Result<std::optional<AddressHit>> hit = lookup_address(maps_, query);
    if (!hit) {
        return hit.error();
    }
    if (!*hit) {
        return address;
    }
    const std::vector<ListAddress> found = parse_address_list((*hit)->value);
    if (found.empty() || found[0].kind != ListAddress::Kind::mailbox || found[0].address().empty()) {
        return address;
    }
    Address result = found[0].address();
    if (result.local.empty()) {   // "@other.domain": same user, another domain
        result.local = parts.local;
    } else if (propagate_ && !(*hit)->extension.empty()) {
        result.local += (*hit)->extension;
    }
    if (result.domain.empty()) {
        result.domain = config.myorigin();
    }
    return result.internal();
}

Result<std::string> GenericMaps::map_headers(std::string_view headers) {
    std::string out;
    out.reserve(headers.size() + 64);
    HeaderReader reader(headers);
    HeaderField field;
    while (reader.next(field)) {
        const HeaderKind& kind = header_kind(field.name);
        if (!kind.sender_addresses && !kind.recipient_addresses) {
            out += field.whole;
            out += '\n';
            continue;
        }
        const Result<std::string> mapped = rewrite_addresses(field.whole, [this](const std::string& address) { return map(address); });
        if (!mapped) {
            return mapped.error();
        }
        out += *mapped;
        out += '\n';
    }
    return out;
}

}  // namespace postern::smtp
