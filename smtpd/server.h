/// What all sessions of one smtpd process share: settings, tables, keys, and the ways to cleanup and auth.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/route/router.h"
#include "lib/sasl/auth_client.h"
#include "lib/stream/tls.h"
#include "lib/table/match_list.h"
#include "lib/tls/log_level.h"
#include "smtpd/client_limits.h"
#include "smtpd/policy_servers.h"
#include "smtpd/restrictions.h"
#include "smtpd/submission.h"

namespace postern::smtpd {

/// smtpd_tls_security_level, with the older smtpd_use_tls and smtpd_enforce_tls.
enum class TlsLevel : unsigned char { none, may, encrypt };

/// The restriction lists, compiled.
struct Lists {
    RestrictionList client, helo, sender, relay, recipient, data, end_of_data, etrn;
};

/// Settings that are lists of words, taken apart once.
struct Words {
    explicit Words(const Config& config);
    bool rewrite_own_hosts, rewrite_authenticated, rewrite_mynetworks;   ///< local_header_rewrite_clients
    bool map_addresses, check_content;                                   ///< receive_override_options
    std::vector<std::string> hidden_keywords;                            ///< smtpd_discard_ehlo_keywords, lower case
    std::vector<std::string> sasl_options, sasl_tls_options;             ///< smtpd_sasl_[tls_]security_options, lower case
};

/// Lists of clients that some feature is for.
struct ClientLists {
    MatchList mynetworks;
    MatchList mx_backup_networks;
    MatchList xclient;
    MatchList xforward;
    MatchList verp;
    MatchList bare_newline_exclusions;
    MatchList sasl_exceptions;
    MatchList event_limit_exceptions;
};

class Server {
public:
    /// Opens everything the settings name; call it before rights are given up.  `config` outlives the server.
    /// Errors: config and those of open_table(), naming the parameter.
    static Result<std::unique_ptr<Server>> create(const Config& config, std::string service_name);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    const Config& config() const { return config_; }
    const std::string& service_name() const { return service_name_; }
    Router& router() { return *router_; }
    Dns* dns() { return dns_.get(); }
    Lists& lists() { return lists_; }
    ClientLists& clients() { return clients_; }
    const Words& words() const { return words_; }
    /// smtpd_noop_commands.
    Result<bool> does_nothing(std::string_view verb) { return noop_commands_.matches(verb); }
    TableList& command_filter() { return command_filter_; }
    /// smtpd_reject_footer, smtpd_reject_footer_maps.
    bool has_reject_footer() const { return !reject_footer_maps_.empty() || !config_.smtpd_reject_footer().empty(); }
    TableList& reject_footer_maps() { return reject_footer_maps_; }
    TableList& reject_filter_maps() { return reject_filter_maps_; }
    /// debug_peer_list: what is said to this client, and by it, is logged.
    bool debugs(const std::string& name, const std::string& address);
    /// smtpd_forbidden_commands: for commands that are unknown.
    Result<bool> forbidden(std::string_view verb) { return forbidden_commands_.matches(verb); }
    /// fast_flush_domains: deferred mail for the domain may be asked for.
    Result<bool> flushes(std::string_view domain) { return flush_domains_.matches(domain); }
    ClientLimits& limits() { return *limits_; }
    AuthClient& auth() { return *auth_; }
    Outlet& outlet() { return *outlet_; }
    void set_outlet(std::unique_ptr<Outlet> outlet) { outlet_ = std::move(outlet); }

    TlsLevel tls_level() const { return tls_level_; }
    /// AUTH is for TLS sessions only: smtpd_tls_auth_only, or TLS is required anyway.
    bool auth_needs_tls() const { return config_.smtpd_tls_auth_only() || tls_level_ == TlsLevel::encrypt; }
    TlsLogLevel& tls_log_level() { return tls_log_level_; }
    /// Null when TLS is off.
    TlsContext* tls() { return tls_.get(); }

    /// EHLO keywords that this client must not see, lower case.
    std::vector<std::string> discarded_keywords(const std::string& client_address);
    /// SASL mechanisms to offer, filtered by smtpd_sasl_mechanism_filter and security options.
    Task<std::vector<std::string>> sasl_mechanisms(bool tls_active);

private:
    Server(const Config& config, std::string service_name);
    Result<void> open_tables();
    Result<void> open_dns();
    Result<void> compile_lists();
    Result<void> prepare_tls();
    Result<void> choose_ciphers(TlsSettings& settings) const;
    Result<void> check_actions() const;
    Result<void> check_sasl_options() const;

    const Config& config_;
    std::string service_name_;
    Words words_;
    TableContext tables_;
    std::unique_ptr<Router> router_;
    std::unique_ptr<Dns> dns_;                ///< for clients' names
    std::unique_ptr<Dns> filtered_dns_;       ///< for restrictions: as smtpd_dns_reply_filter leaves its answers
    ClientLists clients_;
    TableList sender_login_maps_;
    TableList discard_keyword_maps_;
    TableList client_certificates_;
    TableList rbl_replies_;
    MatchList mechanism_filter_;
    MatchList forbidden_commands_;
    MatchList noop_commands_;
    MatchList logged_permits_;
    MatchList debug_peers_;
    TableList command_filter_, reject_footer_maps_, reject_filter_maps_;
    MatchList flush_domains_;
    PolicyServers policy_servers_;
    RuleContext rules_;
    Lists lists_;
    std::unique_ptr<ClientLimits> limits_;
    std::unique_ptr<AuthClient> auth_;
    std::unique_ptr<Outlet> outlet_;
    TlsLevel tls_level_ = TlsLevel::none;
    TlsLogLevel tls_log_level_;
    std::unique_ptr<TlsContext> tls_;
};

}  // namespace postern::smtpd
