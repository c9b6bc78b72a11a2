#include "smtp/client.h"

#include "lib/base/strings.h"
#include "lib/dns/reply_filter.h"
#include "lib/dns/search.h"
#include "lib/dns/trust_anchor.h"
#include "lib/log/log.h"
#include "lib/table/open_lists.h"
#include "lib/tls/openssl_config.h"

namespace postern::smtp {
namespace {

/// smtp_host_lookup: "native" is the system's way, of which the hosts file can be had without leaving the chroot.
Result<HostsUse> hosts_use(const Settings& settings) {
    bool dns = false, native = false;
    HostsUse use = HostsUse::never;
    for (const std::string& word : split(settings.host_lookup(), ", \t")) {
        if (word != "dns" && word != "native") {
            return Error(Errc::config, settings.prefix() + "_host_lookup: \"" + printable(word, 80) + "\" is not one of dns, native");
        }
        dns = dns || word == "dns";
        if (word == "native" && !native) {
            native = true;
            use = dns ? HostsUse::last : HostsUse::first;
        }
    }
    if (!dns && !native) {
        return Error(Errc::config, settings.prefix() + "_host_lookup is empty: it wants dns, native or both");
    }
    return settings.dns_disabled() ? HostsUse::first : use;
}

}  // namespace

Result<std::unique_ptr<Client>> Client::create(const Config& config, Protocol protocol) {
    if (Result<void> loaded = load_openssl_config(config); !loaded) {   // before the resolver library uses OpenSSL
        return loaded.error();
    }
    DnsOptions options;
    Result<HostsUse> hosts = hosts_use(Settings(config, protocol));
    if (!hosts) {
        return hosts.error();
    }
    options.hosts = *hosts;
    options.idna = config.enable_idna2003_compatibility() ? IdnaRules::transitional : IdnaRules::current;
    if (Settings(config, protocol).dns_support_level() == "dnssec") {
        Result<std::vector<std::string>> read = read_trust_anchors(split(config.dnssec_trust_anchor_files(), ", \t\n"));
        if (!read) {
            return Error(Errc::config, "dnssec_trust_anchor_files: " + read.error().what);
        }
        options.anchors = std::move(*read);
    }
    Result<std::unique_ptr<Dns>> dns = Dns::create(options);
    if (!dns) {
        return dns.error();
    }
    return create(config, protocol, std::move(*dns), nullptr);
}

Result<std::unique_ptr<Client>> Client::create(const Config& config, Protocol protocol, std::unique_ptr<Dns> dns,
                                               std::unique_ptr<Connector> connector) {
    std::unique_ptr<Client> client(new Client(config, protocol));
    client->dns_ = std::move(dns);
    client->connector_ = std::move(connector);
    if (Result<void> done = client->open(); !done) {
        return done.error();
    }
    return client;
}

/// smtp_dns_reply_filter, smtp_dns_resolver_options.
Result<void> Client::open_dns(const TableContext& tables) {
    Result<std::unique_ptr<Dns>> filtered = with_reply_filter(*dns_, settings_.prefix() + "_dns_reply_filter", settings_.dns_reply_filter(), tables);
    if (!filtered) {
        return filtered.error();
    }
    filtered_dns_ = std::move(*filtered);
    const Result<SearchRules> rules = SearchRules::parse(settings_.dns_resolver_options());
    if (!rules) {
        return Error(Errc::config, settings_.prefix() + "_dns_resolver_options: " + rules.error().what);
    }
    host_dns_ = with_search(*filtered_dns_, *rules, read_resolv_conf());
    return {};
}

Result<void> Client::open() {
    if (connector_ == nullptr) {
        Result<std::unique_ptr<SocketConnector>> connector = SocketConnector::create(settings_);
        if (!connector) {
            return connector.error();
        }
        connector_ = std::move(*connector);
    }
    Result<OwnAddresses> own = OwnAddresses::find(config());
    if (!own) {
        return own.error();
    }
    own_ = std::move(*own);
    if (const Result<std::uint16_t> port = services_.port(settings_.tcp_port()); !port) {
        return Error(Errc::config, "parameter " + settings_.prefix() + "_tcp_port: " + port.error().what);
    }
    const TableContext tables = table_context(config());
    for (const auto step : {&Client::open_dns, &Client::open_filters, &Client::open_destinations, &Client::open_security, &Client::open_rewriting}) {
        if (Result<void> opened = (this->*step)(tables); !opened) {
            return opened;
        }
    }
    return {};
}

/// What answers of servers and outcomes go through.
Result<void> Client::open_filters(const TableContext& tables) {
    const char* const ignored = settings_.lmtp() ? "_discard_lhlo_keyword_address_maps" : "_discard_ehlo_keyword_address_maps";
    const Result<void> lists = open_lists({{reply_filter_, settings_.prefix() + "_reply_filter", settings_.reply_filter()},
                                           {ignored_maps_, settings_.prefix() + ignored, settings_.discard_ehlo_keyword_address_maps()}},
                                          tables);
    if (!lists) {
        return lists;
    }
    Result<StatusFilter> filter =
        StatusFilter::open(settings_.prefix() + "_delivery_status_filter", settings_.delivery_status_filter(), tables);
    if (!filter) {
        return filter.error();
    }
    status_filter_ = std::move(*filter);
    return {};
}

/// How hosts are found, which connections are kept and which are logged in full.
Result<void> Client::open_destinations(const TableContext& tables) {
    const std::string title = settings_.prefix() + "_connection_cache_destinations";
    Result<MatchList> kept = MatchList::open(title, settings_.connection_cache_destinations(), MatchKind::string, false, tables);
    if (!kept) {
        return kept.error();
    }
    cache_ = std::make_unique<SessionCache>(settings_, std::move(*kept));
    Result<MatchList> debugged = MatchList::open("debug_peer_list", config().debug_peer_list(), MatchKind::name_and_address,
                                                 matches_subdomains(config(), "debug_peer_list"), tables);
    if (!debugged) {
        return debugged.error();
    }
    debug_peers_ = std::move(*debugged);
    Result<MatchList> services = MatchList::open("use_srv_lookup", config().use_srv_lookup(), MatchKind::string, false, tables);
    if (!services) {
        return services.error();
    }
    hosts_ = std::make_unique<HostFinder>(settings_, *host_dns_, static_cast<const SelfTest&>(*this), std::move(*services));
    return {};
}

/// TLS and passwords.
Result<void> Client::open_security(const TableContext& tables) {
    Result<std::unique_ptr<TlsPolicies>> tls = TlsPolicies::create(settings_, tables);
    if (!tls) {
        return tls.error();
    }
    tls_ = std::move(*tls);
    Result<RequireTlsPolicy> requiretls =
        RequireTlsPolicy::open(settings_.prefix() + "_requiretls_policy", settings_.requiretls_policy(), tables);
    if (!requiretls) {
        return requiretls.error();
    }
    requiretls_ = std::move(*requiretls);
    dane_ = std::make_unique<DaneFinder>(settings_, *filtered_dns_, *tls_);
    Result<std::unique_ptr<SaslClient>> sasl = SaslClient::create(settings_, tables);
    if (!sasl) {
        return sasl.error();
    }
    sasl_ = std::move(*sasl);
    return {};
}

/// What changes messages on their way.
Result<void> Client::open_rewriting(const TableContext& tables) {
    Result<std::unique_ptr<GenericMaps>> generic = GenericMaps::create(settings_, tables);
    if (!generic) {
        return generic.error();
    }
    generic_ = std::move(*generic);
    Result<std::unique_ptr<ContentChecks>> checks = ContentChecks::open(settings_.checks(), tables, CheckActions::changes_only);
    if (!checks) {
        return checks.error();
    }
    checks_ = std::move(*checks);
    return {};
}

bool Client::debugs(const HostAddress& host) {
    const Result<bool> listed = debug_peers_.matches(host.host, host.address);
    if (!listed) {
        log_warning("{}", listed.error().what);
    }
    return listed && *listed;
}

std::vector<std::string> Client::ignored_keywords(const std::string& address) {
    if (!ignored_maps_.empty()) {
        const Lookup found = ignored_maps_.lookup(address);
        if (!found) {
            log_warning("{}", found.error().what);
        } else if (*found) {
            return split(to_lower(**found), ", \t");
        }
    }
    return split(to_lower(settings_.discard_ehlo_keywords()), ", \t");
}

}  // namespace postern::smtp
