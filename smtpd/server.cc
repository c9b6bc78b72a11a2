#include "smtpd/server.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/dns/reply_filter.h"
#include "lib/log/log.h"
#include "lib/stream/tls_options.h"
#include "lib/table/open_lists.h"
#include "lib/tls/ciphers.h"
#include "lib/tls/openssl_config.h"
#include "lib/tls/server_keys.h"

namespace postern::smtpd {

namespace {

Result<void> open_list(MatchList& out, const char* title, const std::string& patterns, const Config& config,
                       const TableContext& tables) {
    Result<MatchList> list =
        MatchList::open(title, patterns, MatchKind::name_and_address, matches_subdomains(config, title), tables);
    if (!list) {
        return Error(list.error().code, fmt::format("parameter {}: {}", title, list.error().what));
    }
    out = std::move(*list);
    return {};
}

bool has_word(std::string_view list, std::string_view word) {
    const std::vector<std::string> words = split_list(list);
    return std::find(words.begin(), words.end(), word) != words.end();
}

TlsLevel level_of(const Config& config) {
    const std::string& level = config.smtpd_tls_security_level();
    if (level == "encrypt" || (level.empty() && config.smtpd_enforce_tls())) {
        return TlsLevel::encrypt;
    }
    if (level == "may" || (level.empty() && config.smtpd_use_tls()) || config.smtpd_tls_wrappermode()) {
        return TlsLevel::may;
    }
    return TlsLevel::none;
}

}  // namespace

Words::Words(const Config& config)
    : rewrite_own_hosts(has_word(config.local_header_rewrite_clients(), "permit_inet_interfaces")),
      rewrite_authenticated(has_word(config.local_header_rewrite_clients(), "permit_sasl_authenticated")),
      rewrite_mynetworks(has_word(config.local_header_rewrite_clients(), "permit_mynetworks")),
      map_addresses(!has_word(config.receive_override_options(), "no_address_mappings")),
      check_content(!has_word(config.receive_override_options(), "no_header_body_checks")),
      sasl_options(split_list(to_lower(config.smtpd_sasl_security_options()))),
      sasl_tls_options(split_list(to_lower(config.smtpd_sasl_tls_security_options()))) {
    for (const std::string& word : split_list(config.smtpd_discard_ehlo_keywords())) {
        hidden_keywords.push_back(to_lower(word));
    }
}

Server::Server(const Config& config, std::string service_name)
    : config_(config), service_name_(std::move(service_name)), words_(config), tables_(table_context(config)) {}

Result<std::unique_ptr<Server>> Server::create(const Config& config, std::string service_name) {
    std::unique_ptr<Server> server(new Server(config, std::move(service_name)));
    if (Result<void> done = server->open_tables(); !done) {
        return done.error();
    }
    if (Result<void> done = server->compile_lists(); !done) {
        return done.error();
    }
    if (Result<void> done = server->prepare_tls(); !done) {
        return done.error();
    }
    server->limits_ =
        std::make_unique<ClientLimits>(config, server->service_name_, std::make_unique<AnvilClient>("private/anvil"));
    server->auth_ = std::make_unique<AuthClient>("private/auth");
    server->outlet_ = std::make_unique<CleanupOutlet>("public/" + config.cleanup_service_name());
    return server;
}

Result<void> Server::open_dns() {
    if (Result<void> loaded = load_openssl_config(config_); !loaded) {   // before the resolver library uses OpenSSL
        return loaded.error();
    }
    DnsOptions options;
    options.idna = config_.enable_idna2003_compatibility() ? IdnaRules::transitional : IdnaRules::current;
    Result<std::unique_ptr<Dns>> dns = Dns::create(options);
    if (!dns) {
        return dns.error();
    }
    dns_ = std::move(*dns);
    Result<std::unique_ptr<Dns>> filtered = with_reply_filter(*dns_, "smtpd_dns_reply_filter", config_.smtpd_dns_reply_filter(), tables_);
    if (!filtered) {
        return filtered.error();
    }
    filtered_dns_ = std::move(*filtered);
    return {};
}

Result<void> Server::open_tables() {
    Result<std::unique_ptr<Router>> router = Router::create(config_, tables_);
    if (!router) {
        return router.error();
    }
    router_ = std::move(*router);
    if (Result<void> opened = open_dns(); !opened) {
        return opened;
    }
    struct Wanted {
        MatchList& list;
        const char* title;
        std::string patterns;
    };
    const Wanted wanted[] = {
        {clients_.mynetworks, "mynetworks", config_.mynetworks()},
        {clients_.mx_backup_networks, "permit_mx_backup_networks", config_.permit_mx_backup_networks()},
        {clients_.xclient, "smtpd_authorized_xclient_hosts", config_.smtpd_authorized_xclient_hosts()},
        {clients_.verp, "smtpd_authorized_verp_clients", config_.smtpd_authorized_verp_clients()},
        {clients_.xforward, "smtpd_authorized_xforward_hosts", config_.smtpd_authorized_xforward_hosts()},
        {clients_.bare_newline_exclusions, "smtpd_forbid_bare_newline_exclusions",
         config_.smtpd_forbid_bare_newline_exclusions()},
        {clients_.sasl_exceptions, "smtpd_sasl_exceptions_networks", config_.smtpd_sasl_exceptions_networks()},
        {clients_.event_limit_exceptions, "smtpd_client_event_limit_exceptions",
         config_.smtpd_client_event_limit_exceptions()},
        {debug_peers_, "debug_peer_list", config_.debug_peer_list()},
    };
    for (const Wanted& want : wanted) {
        if (Result<void> opened = open_list(want.list, want.title, want.patterns, config_, tables_); !opened) {
            return opened;
        }
    }
    const Result<void> lists =
        open_lists({{sender_login_maps_, "smtpd_sender_login_maps", config_.smtpd_sender_login_maps()},
                    {discard_keyword_maps_, "smtpd_discard_ehlo_keyword_address_maps", config_.smtpd_discard_ehlo_keyword_address_maps()},
                    {client_certificates_, "relay_clientcerts", config_.relay_clientcerts()},
                    {rbl_replies_, "rbl_reply_maps", config_.rbl_reply_maps()},
                    {command_filter_, "smtpd_command_filter", config_.smtpd_command_filter()},
                    {reject_footer_maps_, "smtpd_reject_footer_maps", config_.smtpd_reject_footer_maps()},
                    {reject_filter_maps_, "smtpd_reject_filter_maps", config_.smtpd_reject_filter_maps()}},
                   tables_);
    if (!lists) {
        return lists;
    }
    struct WantedWords {
        MatchList& list;
        const char* title;
        const std::string& patterns;
    };
    const WantedWords wanted_words[] = {
        {mechanism_filter_, "smtpd_sasl_mechanism_filter", config_.smtpd_sasl_mechanism_filter()},
        {forbidden_commands_, "smtpd_forbidden_commands", config_.smtpd_forbidden_commands()},
        {noop_commands_, "smtpd_noop_commands", config_.smtpd_noop_commands()},
        {logged_permits_, "smtpd_log_access_permit_actions", config_.smtpd_log_access_permit_actions()},
    };
    for (const WantedWords& want : wanted_words) {
        Result<MatchList> list = MatchList::open(want.title, want.patterns, MatchKind::string, false, tables_);
        if (!list) {
            return list.error();
        }
        want.list = std::move(*list);
    }
    Result<MatchList> flushed = MatchList::open("fast_flush_domains", config_.fast_flush_domains(), MatchKind::domain,
                                                matches_subdomains(config_, "fast_flush_domains"), tables_);
    if (!flushed) {
        return flushed.error();
    }
    flush_domains_ = std::move(*flushed);
    return {};
}

/// What follows when a name cannot be looked up now.
Result<void> Server::check_actions() const {
    const std::pair<const char*, const std::string&> actions[] = {
        {"unknown_address_tempfail_action", config_.unknown_address_tempfail_action()},
        {"unverified_sender_tempfail_action", config_.unverified_sender_tempfail_action()},
        {"unverified_recipient_tempfail_action", config_.unverified_recipient_tempfail_action()},
        {"unknown_helo_hostname_tempfail_action", config_.unknown_helo_hostname_tempfail_action()},
    };
    for (const auto& [name, value] : actions) {
        if (!equals_ignoring_case(value, "defer") && !equals_ignoring_case(value, "defer_if_permit")) {
            return Error(Errc::config, fmt::format("parameter {}: \"{}\" is neither defer nor defer_if_permit", name, value));
        }
    }
    return {};
}

/// A word that is not understood would offer what it was to keep out.
Result<void> Server::check_sasl_options() const {
    constexpr std::string_view kKnown[] = {"noplaintext", "noactive", "nodictionary", "noanonymous", "forward_secrecy", "mutual_auth"};
    const std::pair<const char*, const std::vector<std::string>&> settings[] = {
        {"smtpd_sasl_security_options", words_.sasl_options}, {"smtpd_sasl_tls_security_options", words_.sasl_tls_options}};
    for (const auto& [name, words] : settings) {
        for (const std::string& word : config_.smtpd_sasl_auth_enable() ? words : std::vector<std::string>()) {
            if (std::find(std::begin(kKnown), std::end(kKnown), word) == std::end(kKnown)) {
                return Error(Errc::config, fmt::format("parameter {}: unknown word \"{}\": want some of {}", name, word,
                                                       fmt::join(kKnown, ", ")));
            }
        }
    }
    return {};
}

Result<void> Server::compile_lists() {
    if (Result<void> checked = check_actions(); !checked) {
        return checked;
    }
    if (Result<void> checked = check_sasl_options(); !checked) {
        return checked;
    }
    rules_.config = &config_;
    rules_.router = router_.get();
    rules_.mynetworks = &clients_.mynetworks;
    rules_.mx_backup_networks = &clients_.mx_backup_networks;
    rules_.sender_login_maps = &sender_login_maps_;
    rules_.client_certificates = &client_certificates_;
    rules_.rbl_replies = &rbl_replies_;
    rules_.logged_permits = &logged_permits_;
    rules_.policy_servers = &policy_servers_;
    rules_.tables = tables_;
    rules_.dns = filtered_dns_.get();
    struct Wanted {
        RestrictionList& list;
        const char* parameter;
        const std::string& rules;
        Stage stage;
    };
    const Wanted wanted[] = {
        {lists_.client, "smtpd_client_restrictions", config_.smtpd_client_restrictions(), Stage::client},
        {lists_.helo, "smtpd_helo_restrictions", config_.smtpd_helo_restrictions(), Stage::helo},
        {lists_.sender, "smtpd_sender_restrictions", config_.smtpd_sender_restrictions(), Stage::sender},
        {lists_.relay, "smtpd_relay_restrictions", config_.smtpd_relay_restrictions(), Stage::recipient},
        {lists_.recipient, "smtpd_recipient_restrictions", config_.smtpd_recipient_restrictions(), Stage::recipient},
        {lists_.data, "smtpd_data_restrictions", config_.smtpd_data_restrictions(), Stage::data},
        {lists_.end_of_data, "smtpd_end_of_data_restrictions", config_.smtpd_end_of_data_restrictions(),
         Stage::end_of_data},
        {lists_.etrn, "smtpd_etrn_restrictions", config_.smtpd_etrn_restrictions(), Stage::etrn},
    };
    for (const Wanted& want : wanted) {
        Result<RestrictionList> list = RestrictionList::compile(want.parameter, want.rules, want.stage, rules_);
        if (!list) {
            return list.error();
        }
        want.list = std::move(*list);
    }
    // As Postfix: a server whose lists say nothing about relaying would be an open relay.
    for (const RestrictionList* list : {&lists_.relay, &lists_.recipient}) {
        for (const Rule& rule : list->rules()) {
            if (rule.kind == RuleKind::reject_unauth_destination || rule.kind == RuleKind::defer_unauth_destination ||
                rule.kind == RuleKind::reject || rule.kind == RuleKind::defer) {
                return {};
            }
        }
    }
    return Error(Errc::config,
                 "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one of: "
                 "reject_unauth_destination, defer_unauth_destination, reject, defer; without it this would be an open "
                 "mail relay");
}

Result<void> Server::choose_ciphers(TlsSettings& settings) const {
    const bool mandatory = tls_level_ == TlsLevel::encrypt;
    settings.protocols = mandatory ? config_.smtpd_tls_mandatory_protocols() : config_.smtpd_tls_protocols();
    std::string excluded = config_.smtpd_tls_exclude_ciphers();
    if (mandatory) {
        excluded += " " + config_.smtpd_tls_mandatory_exclude_ciphers();
    }
    Result<std::string> ciphers =
        tls_cipher_list(config_, mandatory ? config_.smtpd_tls_mandatory_ciphers() : config_.smtpd_tls_ciphers(), excluded);
    Result<std::string> groups = tls_group_list(config_, config_.smtpd_tls_eecdh_grade());
    const Result<std::uint64_t> on = parse_tls_options(config_.tls_ssl_options());
    const Result<std::uint64_t> off = parse_tls_options(config_.tls_disable_workarounds());
    if (!ciphers || !groups) {
        const Error& why = !ciphers ? ciphers.error() : groups.error();
        return Error(Errc::config, (!ciphers ? "smtpd_tls_ciphers: " : "smtpd_tls_eecdh_grade: ") + why.what);
    }
    if (!on || !off) {
        return Error(Errc::config, !on ? "tls_ssl_options: " + on.error().what : "tls_disable_workarounds: " + off.error().what);
    }
    settings.ciphers = std::move(*ciphers);
    settings.groups = std::move(*groups);
    settings.options_on = *on;
    settings.options_off = *off;
    settings.prefer_server_ciphers = config_.tls_preempt_cipherlist();
    return {};
}

Result<void> Server::prepare_tls() {
    Result<TlsLogLevel> log_level =
        TlsLogLevel::open("smtpd_tls_loglevel", config_.smtpd_tls_loglevel(), config_.smtpd_tls_loglevel_maps(), tables_);
    if (!log_level) {
        return log_level.error();
    }
    tls_log_level_ = std::move(*log_level);
    tls_level_ = level_of(config_);
    if (tls_level_ == TlsLevel::none) {
        return {};
    }
    TlsSettings settings;
    settings.cert_file = config_.smtpd_tls_cert_file();
    settings.key_file = config_.smtpd_tls_key_file();
    settings.chain_files = split_list(config_.smtpd_tls_chain_files());
    if (settings.cert_file.empty()) {   // an ECDSA pair alone will do
        settings.cert_file = config_.smtpd_tls_eccert_file();
        settings.key_file = config_.smtpd_tls_eckey_file();
    } else {
        settings.ec_cert_file = config_.smtpd_tls_eccert_file();
        settings.ec_key_file = config_.smtpd_tls_eckey_file();
    }
    if (settings.cert_file.empty() && settings.chain_files.empty()) {
        if (config_.smtpd_tls_wrappermode()) {
            return Error(Errc::config, "smtpd_tls_wrappermode needs smtpd_tls_cert_file or smtpd_tls_chain_files");
        }
        if (tls_level_ == TlsLevel::encrypt) {   // without TLS nothing would be encrypted, and all be taken
            return Error(Errc::config, "smtpd_tls_security_level = encrypt needs smtpd_tls_cert_file or smtpd_tls_chain_files");
        }
        log_warning("No server certs available. TLS won't be enabled: set smtpd_tls_cert_file or smtpd_tls_chain_files");
        tls_level_ = TlsLevel::none;
        return {};
    }
    settings.ca_file = config_.smtpd_tls_CAfile();
    settings.ca_path = config_.smtpd_tls_CApath();
    settings.default_ca = config_.tls_append_default_CA();
    settings.verify_depth = static_cast<int>(config_.smtpd_tls_ccert_verifydepth());
    settings.any_client_purpose = config_.tls_trust_server_ccerts();
    settings.ask_client_certificate = config_.smtpd_tls_ask_ccert();
    settings.require_client_certificate = config_.smtpd_tls_req_ccert() && tls_level_ == TlsLevel::encrypt;
    settings.ticket_seconds = static_cast<long>(config_.smtpd_tls_session_cache_timeout().count());
    if (const Result<void> chosen = choose_ciphers(settings); !chosen) {
        return chosen;
    }
    Result<ServerKeys> keys = open_server_keys(config_);
    if (!keys) {
        return keys.error();
    }
    settings.keys_for = std::move(*keys);
    Result<std::unique_ptr<TlsContext>> context = TlsContext::server(settings);
    if (!context) {
        return context.error();
    }
    tls_ = std::move(*context);
    return {};
}

bool Server::debugs(const std::string& name, const std::string& address) {
    const Result<bool> listed = debug_peers_.matches(name, address);
    if (!listed) {
        log_warning("{}", listed.error().what);
    }
    return listed && *listed;
}

std::vector<std::string> Server::discarded_keywords(const std::string& client_address) {
    if (discard_keyword_maps_.empty()) {
        return words_.hidden_keywords;
    }
    Lookup found = discard_keyword_maps_.lookup(client_address);
    if (!found || !*found) {
        return words_.hidden_keywords;
    }
    std::vector<std::string> out;
    for (const std::string& word : split_list(**found)) {
        out.push_back(to_lower(word));
    }
    return out;
}

Task<std::vector<std::string>> Server::sasl_mechanisms(bool tls_active) {
    std::vector<std::string> out;
    Result<std::vector<std::string>> all = co_await auth_->mechanisms();
    if (!all) {
        log_warning("SASL: {}", all.error().what);
        co_return out;
    }
    const std::vector<std::string>& options = tls_active ? words_.sasl_tls_options : words_.sasl_options;
    const auto has = [&options](std::string_view name) {
        return std::find(options.begin(), options.end(), name) != options.end();
    };
    const bool no_plaintext = has("noplaintext");
    const bool no_anonymous = has("noanonymous");
    const bool mutual = has("mutual_auth");
    if (has("forward_secrecy")) {   // which no mechanism has
        co_return out;
    }
    for (const std::string& name : *all) {
        const bool plaintext = name == "PLAIN" || name == "LOGIN";
        if ((plaintext && no_plaintext) || (name == "ANONYMOUS" && no_anonymous) ||
            (mutual && !name.starts_with("SCRAM-"))) {
            continue;
        }
        Result<bool> offered = mechanism_filter_.matches(name);
        if (!offered) {
            log_warning("{}", offered.error().what);
        }
        if (!offered || !*offered) {
            continue;
        }
        out.push_back(name);
    }
    co_return out;
}

}  // namespace postern::smtpd
