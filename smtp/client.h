/// What all deliveries of the process share: settings, tables, resolver, connections that are kept.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/mta_sts/client.h"
#include "lib/queue/messages.h"
#include "lib/tlsrpt/client.h"
#include "lib/route/own_addresses.h"
#include "lib/table/match_list.h"
#include "lib/table/status_filter.h"
#include "lib/table/table.h"
#include "smtp/connect.h"
#include "smtp/dane.h"
#include "smtp/generic.h"
#include "smtp/hosts.h"
#include "smtp/ledger.h"
#include "smtp/shared_ledger.h"
#include "smtp/next_hop.h"
#include "smtp/requiretls_policy.h"
#include "smtp/session.h"
#include "smtp/sasl.h"
#include "smtp/session_cache.h"
#include "smtp/settings.h"
#include "smtp/tls_policy.h"

namespace postern::smtp {

/// Where notices for the postmaster go: cleanup, or a test.
class NoticeOutlet {
public:
    virtual ~NoticeOutlet() = default;
    /// `notice` is a whole message.
    virtual Task<Result<void>> submit(queue::Begin notice) = 0;
};

class Client final : private SelfTest {
public:
    /// Opens everything that needs files; before rights are given up.  `config` outlives the client.
    /// Errors: config and what opening tables says, with the parameter's name.
    static Result<std::unique_ptr<Client>> create(const Config& config, Protocol protocol);
    /// The same with a resolver and connections of the caller's making.
    static Result<std::unique_ptr<Client>> create(const Config& config, Protocol protocol, std::unique_ptr<Dns> dns,
                                                  std::unique_ptr<Connector> connector);

    const Settings& settings() const { return settings_; }
    const Config& config() const { return settings_.config(); }
    const Services& services() const { return services_; }
    HostFinder& hosts() { return *hosts_; }
    Connector& connector() { return *connector_; }
    TableList& reply_filter() { return reply_filter_; }
    StatusFilter& status_filter() { return status_filter_; }
    SessionCache& cache() { return *cache_; }
    TlsPolicies& tls() { return *tls_; }
    StsClient& sts() { return sts_; }
    TlsrptClient& tlsrpt() { return tlsrpt_; }
    DaneFinder& dane() { return *dane_; }
    SaslClient& sasl() { return *sasl_; }
    RequireTlsPolicy& requiretls() { return requiretls_; }
    GenericMaps& generic() { return *generic_; }
    ContentChecks& checks() { return *checks_; }
    Ledger& ledger() { return ledger_; }
    /// What all agents of the instance know together; null in tests that need none.
    std::unique_ptr<SharedLedger> shared_ledger;
    /// For notify_classes; null in tests that need none.
    std::unique_ptr<NoticeOutlet> postmaster;
    /// The process is to end: messages whose final dot has not been sent are not concluded any more.
    bool stopping = false;
    /// debug_peer_list has the server.
    bool debugs(const HostAddress& host);
    /// smtp_discard_ehlo_keywords and _address_maps for a server, lower case.
    std::vector<std::string> ignored_keywords(const std::string& address);

private:
    Client(const Config& config, Protocol protocol) : settings_(config, protocol) {}
    Result<void> open();
    Result<void> open_dns(const TableContext& tables);
    Result<void> open_filters(const TableContext& tables);
    Result<void> open_destinations(const TableContext& tables);
    Result<void> open_security(const TableContext& tables);
    Result<void> open_rewriting(const TableContext& tables);
    bool is_self(const std::string& address) const override { return own_.contains(address); }

    Settings settings_;
    Services services_;
    OwnAddresses own_;
    std::unique_ptr<Dns> dns_;
    std::unique_ptr<Dns> filtered_dns_;     ///< as smtp_dns_reply_filter leaves its answers
    std::unique_ptr<Dns> host_dns_;         ///< that one, asked as smtp_dns_resolver_options says
    std::unique_ptr<Connector> connector_;
    std::unique_ptr<HostFinder> hosts_;
    std::unique_ptr<SessionCache> cache_;
    std::unique_ptr<TlsPolicies> tls_;
    StsClient sts_;
    TlsrptClient tlsrpt_;
    std::unique_ptr<DaneFinder> dane_;
    std::unique_ptr<SaslClient> sasl_;
    std::unique_ptr<GenericMaps> generic_;
    std::unique_ptr<ContentChecks> checks_;
    Ledger ledger_;
    TableList reply_filter_, ignored_maps_;
    StatusFilter status_filter_;
    RequireTlsPolicy requiretls_;
    MatchList debug_peers_;
};

}  // namespace postern::smtp
