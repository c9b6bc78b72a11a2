/// The tables and lists that routing reads, opened once.
#pragma once

#include <memory>

#include "lib/route/own_addresses.h"
#include "lib/route/rewrite.h"
#include "lib/route/router.h"
#include "lib/table/address_lookup.h"
#include "lib/table/match_list.h"
#include "lib/table/table.h"

namespace postern {

struct RouteTables {
    MatchList mydestination, virtual_alias_domains, virtual_mailbox_domains, relay_domains;
    TableList transport_maps, relocated_maps, sender_dependent_relayhost_maps, sender_dependent_default_transport_maps;
    TableList local_recipient_maps, virtual_alias_maps, virtual_mailbox_maps, relay_recipient_maps;
    TableList canonical_maps, recipient_canonical_maps, sender_canonical_maps;
    OwnAddresses own;
    RewriteRules local_rules, remote_rules;
    bool transport_parents = false;   ///< transport_maps is in parent_domain_matches_subdomains

    /// Errors: those of open_table(), with the parameter's name.
    static Result<std::unique_ptr<RouteTables>> open(const Config& config, const TableContext& context, RouteFor purpose);
};

}  // namespace postern
