#include "lib/route/tables.h"

#include "lib/config/config.h"

namespace postern {
namespace {

/// Opens one after another until something fails.
class Opener {
public:
    Opener(const Config& config, const TableContext& context) : config_(config), context_(context) {}

    void list(MatchList& into, std::string_view name, const std::string& value, MatchKind kind) {
        if (error_) {
            return;
        }
        Result<MatchList> opened = MatchList::open(name, value, kind, matches_subdomains(config_, name), context_);
        keep(into, opened);
    }
    void maps(TableList& into, std::string_view name, const std::string& value) { maps(into, name, value, context_); }
    /// Results are transports and hosts, which an address that a stranger wrote must not choose.
    void routes(TableList& into, std::string_view name, const std::string& value) {
        maps(into, name, value, context_.without_substitution());
    }
    template <class T>
    void keep(T& into, Result<T>& opened) {
        if (opened) {
            into = std::move(*opened);
        } else {
            error_ = opened.error();
        }
    }
    const std::optional<Error>& error() const { return error_; }

private:
    void maps(TableList& into, std::string_view name, const std::string& value, const TableContext& context) {
        if (error_) {
            return;
        }
        Result<TableList> opened = TableList::open(name, value, context);
        keep(into, opened);
    }
    const Config& config_;
    const TableContext& context_;
    std::optional<Error> error_;
};

}  // namespace

Result<std::unique_ptr<RouteTables>> RouteTables::open(const Config& config, const TableContext& context, RouteFor purpose) {
    const bool probes = purpose == RouteFor::probes;
    auto tables = std::make_unique<RouteTables>();
    Opener open(config, context);
    open.list(tables->mydestination, "mydestination", config.mydestination(), MatchKind::string);
    open.list(tables->virtual_alias_domains, "virtual_alias_domains", config.virtual_alias_domains(), MatchKind::string);
    open.list(tables->virtual_mailbox_domains, "virtual_mailbox_domains", config.virtual_mailbox_domains(),
              MatchKind::string);
    open.list(tables->relay_domains, "relay_domains", config.relay_domains(), MatchKind::domain);
    open.routes(tables->transport_maps, probes ? "address_verify_transport_maps" : "transport_maps",
                probes ? config.address_verify_transport_maps() : config.transport_maps());
    open.maps(tables->relocated_maps, "relocated_maps", config.relocated_maps());
    open.routes(tables->sender_dependent_relayhost_maps,
                probes ? "address_verify_sender_dependent_relayhost_maps" : "sender_dependent_relayhost_maps",
              probes ? config.address_verify_sender_dependent_relayhost_maps() : config.sender_dependent_relayhost_maps());
    open.routes(tables->sender_dependent_default_transport_maps,
                probes ? "address_verify_sender_dependent_default_transport_maps" : "sender_dependent_default_transport_maps",
              probes ? config.address_verify_sender_dependent_default_transport_maps()
                     : config.sender_dependent_default_transport_maps());
    open.maps(tables->local_recipient_maps, "local_recipient_maps", config.local_recipient_maps());
    open.maps(tables->virtual_alias_maps, "virtual_alias_maps", config.virtual_alias_maps());
    open.maps(tables->virtual_mailbox_maps, "virtual_mailbox_maps", config.virtual_mailbox_maps());
    open.maps(tables->relay_recipient_maps, "relay_recipient_maps", config.relay_recipient_maps());
    open.maps(tables->canonical_maps, "canonical_maps", config.canonical_maps());
    open.maps(tables->recipient_canonical_maps, "recipient_canonical_maps", config.recipient_canonical_maps());
    open.maps(tables->sender_canonical_maps, "sender_canonical_maps", config.sender_canonical_maps());
    if (open.error()) {
        return *open.error();
    }
    Result<OwnAddresses> own = OwnAddresses::find(config);
    if (!own) {
        return own.error();
    }
    tables->own = std::move(*own);
    tables->local_rules = RewriteRules::local(config);
    tables->remote_rules = RewriteRules::remote(config);
    tables->transport_parents = matches_subdomains(config, "transport_maps");
    return tables;
}

}  // namespace postern
