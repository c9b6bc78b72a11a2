#include "lib/route/router.h"

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/mail/address.h"
#include "lib/route/tables.h"

namespace postern {
namespace {

constexpr std::string_view kRetryTransport = "retry";

/// "transport:nexthop" as in main.cf and in transport_maps; either part may be empty.
struct TransportNexthop {
    std::string transport;
    std::string nexthop;
};

TransportNexthop split_transport(std::string_view text) {
    const std::size_t colon = text.find(':');
    TransportNexthop parts;
    parts.transport = trim(text.substr(0, colon));
    parts.nexthop = colon == std::string_view::npos ? std::string() : std::string(trim(text.substr(colon + 1)));
    return parts;
}

/// Transports of the address classes, and the relay host.
struct ClassTransports {
    ClassTransports(const Config& config, RouteFor purpose)
        : ClassTransports(config, purpose == RouteFor::probes) {}
    const std::string &local, &virtual_mailbox, &relay, &other, &relayhost;

private:
    ClassTransports(const Config& config, bool probes)
        : local(probes ? config.address_verify_local_transport() : config.local_transport()),
          virtual_mailbox(probes ? config.address_verify_virtual_transport() : config.virtual_transport()),
          relay(probes ? config.address_verify_relay_transport() : config.relay_transport()),
          other(probes ? config.address_verify_default_transport() : config.default_transport()),
          relayhost(probes ? config.address_verify_relayhost() : config.relayhost()) {}
};

class TableRouter final : public Router {
public:
    TableRouter(const Config& config, std::unique_ptr<RouteTables> tables, RouteFor purpose)
        : config_(config), tables_(std::move(tables)), transports_(config, purpose) {}

    Result<AddressClass> classify(std::string_view domain) override;
    Result<bool> is_local(std::string_view domain) override;
    std::string rewrite_address(std::string_view address, RewriteContext context) const override {
        return postern::rewrite_address(address,
                                        context == RewriteContext::local ? tables_->local_rules : tables_->remote_rules);
    }
    Result<Route> resolve(std::string_view sender, std::string_view recipient) override;
    Result<Listing> recipient_known(std::string_view address) override;
    Result<Listing> sender_known(std::string_view address) override;
    bool is_own_address(std::string_view ip) const override { return tables_->own.contains(ip); }

private:
    struct Stripped {
        std::string address;
        bool local = false;   ///< the last domain was one of ours
    };
    Result<Stripped> strip_local_domains(std::string_view recipient);
    bool is_opaque(std::string_view local) const;
    void put_brackets(std::string& address, std::size_t at) const;
    Result<void> choose_by_class(std::string_view sender, std::string_view domain, Route& route);
    Result<std::string> sender_dependent(TableList& maps, std::string_view sender, const std::string& null_key);
    Result<void> apply_transport_maps(std::string_view domain, Route& route);
    Result<void> apply_relocated_maps(Route& route);
    Result<bool> listed(TableList& maps, std::string_view address);
    Result<Listing> known(std::string_view address, bool as_sender);
    Result<Listing> known_in_class(const Route& route);
    Listing unknown(std::string_view table, std::string_view parameter, long code) const;

    const Config& config_;
    std::unique_ptr<RouteTables> tables_;
    ClassTransports transports_;
};

Result<bool> TableRouter::is_local(std::string_view given) {
    std::string_view domain = given;
    if (!domain.empty() && domain.back() == '.') {
        domain.remove_suffix(1);
    }
    if (domain.empty()) {
        return false;
    }
    const Result<bool> listed = tables_->mydestination.matches(domain);
    if (!listed || *listed) {
        return listed;
    }
    return tables_->own.contains_literal(domain);
}

Result<AddressClass> TableRouter::classify(std::string_view domain) {
    const Result<bool> local = is_local(domain);
    if (!local) {
        return local.error();
    }
    if (*local) {
        return AddressClass::local;
    }
    struct {
        MatchList& list;
        AddressClass address_class;
    } const classes[] = {{tables_->virtual_alias_domains, AddressClass::virtual_alias},
                         {tables_->virtual_mailbox_domains, AddressClass::virtual_mailbox},
                         {tables_->relay_domains, AddressClass::relay}};
    for (const auto& one : classes) {
        const Result<bool> listed = one.list.matches(domain);
        if (!listed) {
            return listed.error();
        }
        if (*listed) {
            return one.address_class;
        }
    }
    return AddressClass::other;
}

/// resolve_dequoted_address = no: what has to stand in quotes is not followed.  It is still no destination that anybody may relay to.
bool TableRouter::is_opaque(std::string_view local) const {
    return !config_.resolve_dequoted_address() && external_form(std::string(local) + "@x").front() == '"';
}

/// resolve_numeric_domain: "user@192.0.2.1" is meant as "user@[192.0.2.1]".
void TableRouter::put_brackets(std::string& address, std::size_t at) const {
    const std::string domain = address.substr(at + 1);
    if (config_.resolve_numeric_domain() && valid_ip_address(domain) && domain.find(':') == std::string::npos) {
        address.replace(at + 1, domain.size(), "[" + domain + "]");
    }
}

/// Takes our own domains off the end, and follows the routing that is then found in the local part
/// (user%site@ours, site!user@ours, user@site@ours), until the domain is somebody else's or none is left.
Result<TableRouter::Stripped> TableRouter::strip_local_domains(std::string_view recipient) {
    std::string address(recipient);
    std::string own_domain;
    const std::size_t limit = address.size() + 100;   // every round makes it shorter; this is for the unforeseen
    for (std::size_t round = 0; round < limit; ++round) {
        if (address.size() > 1 && address.back() == '.' && address.find('@') != std::string::npos &&
            address[address.size() - 2] != '.') {
            address.pop_back();
        }
        if (config_.resolve_null_domain() && !address.empty() && address.back() == '@') {
            address.pop_back();
        }
        const std::size_t at = address.rfind('@');
        if (at != std::string::npos) {
            put_brackets(address, at);
            const Result<bool> local = is_local(std::string_view(address).substr(at + 1));
            if (!local) {
                return local.error();
            }
            if (!*local) {
                return Stripped{std::move(address), false};
            }
            own_domain = address.substr(at + 1);
            address.resize(at);
        }
        const bool routed = address.find('@') != std::string::npos ||
                            (config_.swap_bangpath() && address.find('!') != std::string::npos) ||
                            (config_.allow_percent_hack() && address.find('%') != std::string::npos);
        if (!routed || is_opaque(address)) {
            break;
        }
        address = postern::rewrite_address(address, tables_->local_rules);
    }
    if (address.empty()) {
        address = config_.empty_address_recipient();
    }
    address += "@" + (own_domain.empty() ? config_.myhostname() : own_domain);
    return Stripped{std::move(address), true};
}

/// The value for a sender (whole address, then @domain), or empty.
Result<std::string> TableRouter::sender_dependent(TableList& maps, std::string_view sender, const std::string& null_key) {
    if (maps.empty()) {
        return std::string();
    }
    if (sender.empty()) {
        Lookup answer = maps.lookup(null_key);
        return answer ? Result<std::string>(answer->value_or(std::string())) : Result<std::string>(answer.error());
    }
    AddressQuery query;
    query.address = sender;
    query.keys = kKeyFull | kKeyNoExtension | kKeyAtDomain;
    query.delimiters = config_.recipient_delimiter();
    Result<std::optional<AddressHit>> hit = lookup_address(maps, query);
    if (!hit) {
        return hit.error();
    }
    return *hit ? (*hit)->value : std::string();
}

/// Transport and next hop before transport_maps, for an address that is not local.
Result<void> TableRouter::choose_by_class(std::string_view sender, std::string_view domain, Route& route) {
    const Result<AddressClass> address_class = classify(domain);
    if (!address_class) {
        return address_class.error();
    }
    route.address_class = *address_class;
    std::string transport;
    route.nexthop = domain;
    switch (*address_class) {
        case AddressClass::local: transport = transports_.local; break;
        case AddressClass::virtual_mailbox: transport = transports_.virtual_mailbox; break;
        case AddressClass::virtual_alias:
            // Cleanup has replaced every address that virtual_alias_maps lists.
            route.transport = config_.error_service_name();
            route.nexthop = config_.show_user_unknown_table_name() ? "5.1.1 User unknown in virtual alias table"
                                                                   : "5.1.1 User unknown";
            return {};
        case AddressClass::relay: transport = transports_.relay; break;
        case AddressClass::other: {
            Result<std::string> own = sender_dependent(tables_->sender_dependent_default_transport_maps, sender,
                                                       config_.empty_address_default_transport_maps_lookup_key());
            if (!own) {
                return own.error();
            }
            const bool none = own->empty() || equals_ignoring_case(*own, "DUNNO");
            transport = none ? transports_.other : std::move(*own);
            break;
        }
    }
    if (*address_class == AddressClass::relay || *address_class == AddressClass::other) {
        Result<std::string> host = sender_dependent(tables_->sender_dependent_relayhost_maps, sender,
                                                    config_.empty_address_relayhost_maps_lookup_key());
        if (!host) {
            return host.error();
        }
        if (host->empty() || equals_ignoring_case(*host, "DUNNO")) {
            *host = transports_.relayhost;
        }
        if (!host->empty()) {
            route.nexthop = std::move(*host);
        }
    }
    const TransportNexthop chosen = split_transport(transport);
    if (chosen.transport.empty()) {
        return Error(Errc::temporary, "null transport for " + std::string(domain) + " is not allowed");
    }
    route.transport = chosen.transport;
    if (!chosen.nexthop.empty()) {
        route.nexthop = chosen.nexthop;
    }
    return {};
}

/// transport(5): the address, its domain, the parents, "*".
Result<void> TableRouter::apply_transport_maps(std::string_view domain, Route& route) {
    if (tables_->transport_maps.empty() || route.address_class == AddressClass::virtual_alias) {
        return {};
    }
    AddressQuery query;
    query.address = route.recipient;
    query.keys = kKeysTransport;
    query.delimiters = config_.recipient_delimiter();
    query.parent_domains = tables_->transport_parents;
    const Result<std::optional<AddressHit>> hit = lookup_address(tables_->transport_maps, query);
    if (!hit) {
        return hit.error();
    }
    std::string value;
    if (*hit) {
        value = (*hit)->value;
    } else {
        Lookup wildcard = tables_->transport_maps.lookup("*");
        if (!wildcard) {
            return wildcard.error();
        }
        if (!*wildcard) {
            return {};
        }
        value = std::move(**wildcard);
    }
    TransportNexthop chosen = split_transport(value);
    if (!chosen.transport.empty()) {
        route.transport = std::move(chosen.transport);
        route.nexthop = domain;
        if (route.transport == config_.error_service_name() || route.transport == kRetryTransport) {
            route.nexthop = "Address is undeliverable";
        }
    }
    if (!chosen.nexthop.empty()) {
        route.nexthop = std::move(chosen.nexthop);
    }
    return {};
}

Result<void> TableRouter::apply_relocated_maps(Route& route) {
    if (tables_->relocated_maps.empty()) {
        return {};
    }
    AddressQuery query;
    query.address = route.recipient;
    query.delimiters = config_.recipient_delimiter();
    query.domain_is_local = route.address_class == AddressClass::local ||
                            equals_ignoring_case(split_address(route.recipient).domain, config_.myorigin());
    const Result<std::optional<AddressHit>> hit = lookup_address(tables_->relocated_maps, query);
    if (!hit) {
        return hit.error();
    }
    if (*hit) {
        route.transport = config_.error_service_name();
        route.nexthop = config_.relocated_prefix_enable() ? "5.1.6 User has moved to " + (*hit)->value : (*hit)->value;
    }
    return {};
}

Result<Route> TableRouter::resolve(std::string_view sender, std::string_view recipient) {
    Result<Stripped> stripped = strip_local_domains(recipient);
    if (!stripped) {
        return stripped.error();
    }
    Route route;
    route.recipient = std::move(stripped->address);
    const std::size_t at = route.recipient.rfind('@');
    const std::string domain = route.recipient.substr(at + 1);
    route.source_routed = route.recipient.find_first_of("@!%") != at;
    const bool option = !route.recipient.empty() && route.recipient.front() == '-' && !config_.allow_min_user();   // for a command that gets it
    if (option || (!valid_hostname(domain, true) && !valid_address_literal(domain))) {
        route.bad_address = true;
        route.transport = config_.error_service_name();
        route.nexthop = "5.1.3 bad address syntax";
        return route;
    }
    if (stripped->local) {
        route.address_class = AddressClass::local;
        const TransportNexthop chosen = split_transport(transports_.local);
        if (chosen.transport.empty()) {
            return Error(Errc::temporary, "local_transport: null transport is not allowed");
        }
        route.transport = chosen.transport;
        route.nexthop = chosen.nexthop.empty() ? domain : chosen.nexthop;
    } else if (const Result<void> chosen = choose_by_class(sender, domain, route); !chosen) {
        return chosen.error();
    }
    if (const Result<void> applied = apply_transport_maps(domain, route); !applied) {
        return applied.error();
    }
    if (const Result<void> applied = apply_relocated_maps(route); !applied) {
        return applied.error();
    }
    return route;
}

Result<bool> TableRouter::listed(TableList& maps, std::string_view address) {
    if (maps.empty()) {
        return false;
    }
    const AddressParts parts = split_address(address);
    const Result<bool> local = is_local(parts.domain);
    if (!local) {
        return local;
    }
    AddressQuery query;
    query.address = address;
    query.delimiters = config_.recipient_delimiter();
    query.domain_is_local = *local || equals_ignoring_case(parts.domain, config_.myorigin());
    const Result<std::optional<AddressHit>> hit = lookup_address(maps, query);
    if (!hit) {
        return hit.error();
    }
    return hit->has_value();
}

Listing TableRouter::unknown(std::string_view table, std::string_view parameter, long code) const {
    Listing listing;
    listing.known = false;
    listing.table_text = config_.show_user_unknown_table_name() ? std::string(table) : std::string();
    listing.code_parameter = parameter;
    listing.reply_code = static_cast<int>(code);
    return listing;
}

Result<Listing> TableRouter::known_in_class(const Route& route) {
    struct {
        AddressClass address_class;
        TableList& maps;
        std::string_view table;
        std::string_view parameter;
        long code;
    } const classes[] = {
        {AddressClass::local, tables_->local_recipient_maps, "local recipient table", "unknown_local_recipient_reject_code",
         config_.unknown_local_recipient_reject_code()},
        {AddressClass::virtual_mailbox, tables_->virtual_mailbox_maps, "virtual mailbox table",
         "unknown_virtual_mailbox_reject_code", config_.unknown_virtual_mailbox_reject_code()},
        {AddressClass::relay, tables_->relay_recipient_maps, "relay recipient table",
         "unknown_relay_recipient_reject_code", config_.unknown_relay_recipient_reject_code()},
    };
    for (const auto& one : classes) {
        // An empty list means that every address of the class is taken.
        if (one.address_class != route.address_class || one.maps.empty()) {
            continue;
        }
        const Result<bool> found = listed(one.maps, route.recipient);
        if (!found) {
            return found.error();
        }
        if (!*found) {
            return unknown(one.table, one.parameter, one.code);
        }
    }
    return Listing{};
}

Result<Listing> TableRouter::known(std::string_view address, bool as_sender) {
    const Result<Route> route = resolve({}, address);
    if (!route) {
        return route.error();
    }
    TableList* const rewriting[] = {as_sender ? &tables_->sender_canonical_maps : &tables_->recipient_canonical_maps,
                                    &tables_->canonical_maps, &tables_->virtual_alias_maps};
    for (TableList* maps : rewriting) {
        const Result<bool> found = listed(*maps, address);
        if (!found) {
            return found.error();
        }
        if (*found) {
            return Listing{};
        }
    }
    if (route->address_class == AddressClass::virtual_alias) {
        return unknown("virtual alias table", "unknown_virtual_alias_reject_code",
                       config_.unknown_virtual_alias_reject_code());
    }
    const bool retry = route->transport == kRetryTransport;
    if (retry || route->transport == config_.error_service_name()) {
        Listing listing;
        listing.known = false;
        listing.reply_code = retry ? 450 : 550;
        listing.error_text = route->nexthop;
        return listing;
    }
    return known_in_class(*route);
}

Result<Listing> TableRouter::recipient_known(std::string_view address) {
    return known(address, false);
}

Result<Listing> TableRouter::sender_known(std::string_view address) {
    if (address.empty()) {
        return Listing{};
    }
    return known(address, true);
}

}  // namespace

Result<std::unique_ptr<Router>> Router::create(const Config& config, const TableContext& context, RouteFor purpose) {
    Result<std::unique_ptr<RouteTables>> tables = RouteTables::open(config, context, purpose);
    if (!tables) {
        return tables.error();
    }
    return std::unique_ptr<Router>(std::make_unique<TableRouter>(config, std::move(*tables), purpose));
}

}  // namespace postern
