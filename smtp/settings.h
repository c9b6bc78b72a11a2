/// The client's settings: smtp_x or lmtp_x of the parameter table, whichever protocol is spoken.
#pragma once

#include <algorithm>
#include <string>

#include "lib/checks/checks.h"
#include "lib/config/config.h"

namespace postern::smtp {

enum class Protocol : unsigned char { smtp, lmtp };

class Settings {
public:
    /// `config` outlives this.
    Settings(const Config& config, Protocol protocol) : config_(config), lmtp_(protocol == Protocol::lmtp) {}

    const Config& config() const { return config_; }
    bool lmtp() const { return lmtp_; }
    /// "smtp" or "lmtp": in front of parameter names in messages.
    std::string prefix() const { return lmtp_ ? "lmtp" : "smtp"; }

    // --- finding and reaching the host
    const std::string& tcp_port() const { return pick(&Config::smtp_tcp_port, &Config::lmtp_tcp_port); }
    const std::string& host_lookup() const { return pick(&Config::smtp_host_lookup, &Config::lmtp_host_lookup); }
    const std::string& dns_support_level() const {
        return pick(&Config::smtp_dns_support_level, &Config::lmtp_dns_support_level);
    }
    const std::string& dns_reply_filter() const { return pick(&Config::smtp_dns_reply_filter, &Config::lmtp_dns_reply_filter); }
    const std::string& dns_resolver_options() const {
        return pick(&Config::smtp_dns_resolver_options, &Config::lmtp_dns_resolver_options);
    }
    bool cname_overrides_servername() const {
        return pick(&Config::smtp_cname_overrides_servername, &Config::lmtp_cname_overrides_servername);
    }
    /// No MX lookups.
    bool dns_disabled() const {
        return dns_support_level() == "disabled" || (dns_support_level().empty() && config_.disable_dns_lookups());
    }
    const std::string& address_preference() const {
        return pick(&Config::smtp_address_preference, &Config::lmtp_address_preference);
    }
    bool randomize_addresses() const { return pick(&Config::smtp_randomize_addresses, &Config::lmtp_randomize_addresses); }
    bool balance_inet_protocols() const {
        return pick(&Config::smtp_balance_inet_protocols, &Config::lmtp_balance_inet_protocols);
    }
    long mx_address_limit() const { return pick(&Config::smtp_mx_address_limit, &Config::lmtp_mx_address_limit); }
    long mx_session_limit() const { return pick(&Config::smtp_mx_session_limit, &Config::lmtp_mx_session_limit); }
    bool defer_if_no_mx_address_found() const {
        return pick(&Config::smtp_defer_if_no_mx_address_found, &Config::lmtp_defer_if_no_mx_address_found);
    }
    const std::string& fallback_relay() const { return pick(&Config::smtp_fallback_relay, &Config::lmtp_fallback_relay); }
    const std::string& bind_address() const { return pick(&Config::smtp_bind_address, &Config::lmtp_bind_address); }
    const std::string& bind_address6() const { return pick(&Config::smtp_bind_address6, &Config::lmtp_bind_address6); }
    bool bind_address_enforce() const { return pick(&Config::smtp_bind_address_enforce, &Config::lmtp_bind_address_enforce); }
    Seconds connect_timeout() const { return pick(&Config::smtp_connect_timeout, &Config::lmtp_connect_timeout); }

    // --- the conversation
    const std::string& helo_name() const { return pick(&Config::smtp_helo_name, &Config::lmtp_lhlo_name); }
    bool always_send_ehlo() const { return lmtp_ || config_.smtp_always_send_ehlo(); }
    bool never_send_ehlo() const { return !lmtp_ && config_.smtp_never_send_ehlo(); }
    bool skip_5xx_greeting() const { return pick(&Config::smtp_skip_5xx_greeting, &Config::lmtp_skip_5xx_greeting); }
    bool skip_quit_response() const { return pick(&Config::smtp_skip_quit_response, &Config::lmtp_skip_quit_response); }
    bool quote_rfc821_envelope() const { return pick(&Config::smtp_quote_rfc821_envelope, &Config::lmtp_quote_rfc821_envelope); }
    bool send_xforward_command() const { return pick(&Config::smtp_send_xforward_command, &Config::lmtp_send_xforward_command); }
    bool send_dummy_mail_auth() const { return pick(&Config::smtp_send_dummy_mail_auth, &Config::lmtp_send_dummy_mail_auth); }
    bool assume_final() const { return lmtp_ && config_.lmtp_assume_final(); }
    std::size_t line_length_limit() const {
        return static_cast<std::size_t>(pick(&Config::smtp_line_length_limit, &Config::lmtp_line_length_limit));
    }
    bool replace_stray_cr() const { return pick(&Config::smtp_replace_stray_cr, &Config::lmtp_replace_stray_cr); }
    const std::string& address_verify_target() const {
        return pick(&Config::smtp_address_verify_target, &Config::lmtp_address_verify_target);
    }
    const std::string& discard_ehlo_keywords() const {
        return pick(&Config::smtp_discard_ehlo_keywords, &Config::lmtp_discard_lhlo_keywords);
    }
    const std::string& discard_ehlo_keyword_address_maps() const {
        return pick(&Config::smtp_discard_ehlo_keyword_address_maps, &Config::lmtp_discard_lhlo_keyword_address_maps);
    }
    /// smtp_header_checks and its kin.
    ContentChecks::Settings checks() const {
        if (lmtp_) {
            return {{"lmtp_header_checks", "lmtp_mime_header_checks", "lmtp_nested_header_checks", "lmtp_body_checks"},
                    {&config_.lmtp_header_checks(), &config_.lmtp_mime_header_checks(), &config_.lmtp_nested_header_checks(),
                     &config_.lmtp_body_checks()}};
        }
        return {{"smtp_header_checks", "smtp_mime_header_checks", "smtp_nested_header_checks", "smtp_body_checks"},
                {&config_.smtp_header_checks(), &config_.smtp_mime_header_checks(), &config_.smtp_nested_header_checks(),
                 &config_.smtp_body_checks()}};
    }
    const std::string& generic_maps() const { return pick(&Config::smtp_generic_maps, &Config::lmtp_generic_maps); }
    const std::string& reply_filter() const { return pick(&Config::smtp_reply_filter, &Config::lmtp_reply_filter); }
    const std::string& delivery_status_filter() const {
        return pick(&Config::smtp_delivery_status_filter, &Config::lmtp_delivery_status_filter);
    }
    Seconds helo_timeout() const { return pick(&Config::smtp_helo_timeout, &Config::lmtp_lhlo_timeout); }
    Seconds xforward_timeout() const { return pick(&Config::smtp_xforward_timeout, &Config::lmtp_xforward_timeout); }
    Seconds mail_timeout() const { return pick(&Config::smtp_mail_timeout, &Config::lmtp_mail_timeout); }
    Seconds rcpt_timeout() const { return pick(&Config::smtp_rcpt_timeout, &Config::lmtp_rcpt_timeout); }
    Seconds data_init_timeout() const { return pick(&Config::smtp_data_init_timeout, &Config::lmtp_data_init_timeout); }
    Seconds data_xfer_timeout() const { return pick(&Config::smtp_data_xfer_timeout, &Config::lmtp_data_xfer_timeout); }
    Seconds data_done_timeout() const { return pick(&Config::smtp_data_done_timeout, &Config::lmtp_data_done_timeout); }
    Seconds rset_timeout() const { return pick(&Config::smtp_rset_timeout, &Config::lmtp_rset_timeout); }
    Seconds quit_timeout() const { return pick(&Config::smtp_quit_timeout, &Config::lmtp_quit_timeout); }

    // --- TLS
    const std::string& tls_security_level() const {
        return pick(&Config::smtp_tls_security_level, &Config::lmtp_tls_security_level);
    }
    const std::string& tls_policy_maps() const { return pick(&Config::smtp_tls_policy_maps, &Config::lmtp_tls_policy_maps); }
    const std::string& tls_CAfile() const { return pick(&Config::smtp_tls_CAfile, &Config::lmtp_tls_CAfile); }
    const std::string& tls_CApath() const { return pick(&Config::smtp_tls_CApath, &Config::lmtp_tls_CApath); }
    const std::string& tls_cert_file() const { return pick(&Config::smtp_tls_cert_file, &Config::lmtp_tls_cert_file); }
    const std::string& tls_key_file() const { return pick(&Config::smtp_tls_key_file, &Config::lmtp_tls_key_file); }
    const std::string& tls_eccert_file() const { return pick(&Config::smtp_tls_eccert_file, &Config::lmtp_tls_eccert_file); }
    const std::string& tls_eckey_file() const { return pick(&Config::smtp_tls_eckey_file, &Config::lmtp_tls_eckey_file); }
    const std::string& tls_chain_files() const { return pick(&Config::smtp_tls_chain_files, &Config::lmtp_tls_chain_files); }
    const std::string& tls_protocols() const { return pick(&Config::smtp_tls_protocols, &Config::lmtp_tls_protocols); }
    const std::string& tls_mandatory_protocols() const {
        return pick(&Config::smtp_tls_mandatory_protocols, &Config::lmtp_tls_mandatory_protocols);
    }
    const std::string& tls_ciphers() const { return pick(&Config::smtp_tls_ciphers, &Config::lmtp_tls_ciphers); }
    const std::string& tls_mandatory_ciphers() const {
        return pick(&Config::smtp_tls_mandatory_ciphers, &Config::lmtp_tls_mandatory_ciphers);
    }
    const std::string& tls_exclude_ciphers() const {
        return pick(&Config::smtp_tls_exclude_ciphers, &Config::lmtp_tls_exclude_ciphers);
    }
    const std::string& tls_mandatory_exclude_ciphers() const {
        return pick(&Config::smtp_tls_mandatory_exclude_ciphers, &Config::lmtp_tls_mandatory_exclude_ciphers);
    }
    const std::string& tls_verify_cert_match() const {
        return pick(&Config::smtp_tls_verify_cert_match, &Config::lmtp_tls_verify_cert_match);
    }
    const std::string& tls_secure_cert_match() const {
        return pick(&Config::smtp_tls_secure_cert_match, &Config::lmtp_tls_secure_cert_match);
    }
    const std::string& tls_fingerprint_cert_match() const {
        return pick(&Config::smtp_tls_fingerprint_cert_match, &Config::lmtp_tls_fingerprint_cert_match);
    }
    const std::string& tls_fingerprint_digest() const {
        return pick(&Config::smtp_tls_fingerprint_digest, &Config::lmtp_tls_fingerprint_digest);
    }
    const std::string& tls_trust_anchor_file() const {
        return pick(&Config::smtp_tls_trust_anchor_file, &Config::lmtp_tls_trust_anchor_file);
    }
    bool tls_block_early_mail_reply() const {
        return pick(&Config::smtp_tls_block_early_mail_reply, &Config::lmtp_tls_block_early_mail_reply);
    }
    bool tls_force_insecure_host_tlsa_lookup() const {
        return pick(&Config::smtp_tls_force_insecure_host_tlsa_lookup, &Config::lmtp_tls_force_insecure_host_tlsa_lookup);
    }
    const std::string& tls_loglevel() const { return pick(&Config::smtp_tls_loglevel, &Config::lmtp_tls_loglevel); }
    const std::string& tls_loglevel_maps() const { return pick(&Config::smtp_tls_loglevel_maps, &Config::lmtp_tls_loglevel_maps); }
    bool tls_enforce_sts_mx_patterns() const {
        return pick(&Config::smtp_tls_enforce_sts_mx_patterns, &Config::lmtp_tls_enforce_sts_mx_patterns);
    }
    bool log_tls_feature_status() const { return pick(&Config::smtp_log_tls_feature_status, &Config::lmtp_log_tls_feature_status); }
    bool tlsrpt_enable() const { return pick(&Config::smtp_tlsrpt_enable, &Config::lmtp_tlsrpt_enable); }
    bool tlsrpt_skip_reused_handshakes() const {
        return pick(&Config::smtp_tlsrpt_skip_reused_handshakes, &Config::lmtp_tlsrpt_skip_reused_handshakes);
    }
    const std::string& tls_servername() const { return pick(&Config::smtp_tls_servername, &Config::lmtp_tls_servername); }
    bool use_tls() const { return pick(&Config::smtp_use_tls, &Config::lmtp_use_tls); }
    bool enforce_tls() const { return pick(&Config::smtp_enforce_tls, &Config::lmtp_enforce_tls); }
    bool tls_enforce_peername() const { return pick(&Config::smtp_tls_enforce_peername, &Config::lmtp_tls_enforce_peername); }
    bool per_request_deadline() const { return pick(&Config::smtp_per_request_deadline, &Config::lmtp_per_request_deadline); }
    long min_data_rate() const { return pick(&Config::smtp_min_data_rate, &Config::lmtp_min_data_rate); }
    bool tls_wrappermode() const { return pick(&Config::smtp_tls_wrappermode, &Config::lmtp_tls_wrappermode); }
    bool tls_note_starttls_offer() const {
        return pick(&Config::smtp_tls_note_starttls_offer, &Config::lmtp_tls_note_starttls_offer);
    }
    bool tls_connection_reuse() const { return pick(&Config::smtp_tls_connection_reuse, &Config::lmtp_tls_connection_reuse); }
    long tls_scert_verifydepth() const { return pick(&Config::smtp_tls_scert_verifydepth, &Config::lmtp_tls_scert_verifydepth); }
    Seconds tls_session_cache_timeout() const {
        return pick(&Config::smtp_tls_session_cache_timeout, &Config::lmtp_tls_session_cache_timeout);
    }
    Seconds starttls_timeout() const { return pick(&Config::smtp_starttls_timeout, &Config::lmtp_starttls_timeout); }

    const std::string& requiretls_policy() const { return pick(&Config::smtp_requiretls_policy, &Config::lmtp_requiretls_policy); }

    // --- logging in
    bool sasl_auth_enable() const { return pick(&Config::smtp_sasl_auth_enable, &Config::lmtp_sasl_auth_enable); }
    bool sender_dependent_authentication() const {
        return pick(&Config::smtp_sender_dependent_authentication, &Config::lmtp_sender_dependent_authentication);
    }
    bool sasl_auth_soft_bounce() const { return pick(&Config::smtp_sasl_auth_soft_bounce, &Config::lmtp_sasl_auth_soft_bounce); }
    const std::string& sasl_auth_cache_name() const { return pick(&Config::smtp_sasl_auth_cache_name, &Config::lmtp_sasl_auth_cache_name); }
    Seconds sasl_auth_cache_time() const { return pick(&Config::smtp_sasl_auth_cache_time, &Config::lmtp_sasl_auth_cache_time); }
    const std::string& sasl_password_maps() const {
        return pick(&Config::smtp_sasl_password_maps, &Config::lmtp_sasl_password_maps);
    }
    const std::string& sasl_password_result_delimiter() const {
        return pick(&Config::smtp_sasl_password_result_delimiter, &Config::lmtp_sasl_password_result_delimiter);
    }
    const std::string& sasl_mechanism_filter() const {
        return pick(&Config::smtp_sasl_mechanism_filter, &Config::lmtp_sasl_mechanism_filter);
    }
    const std::string& sasl_security_options() const {
        return pick(&Config::smtp_sasl_security_options, &Config::lmtp_sasl_security_options);
    }
    const std::string& sasl_tls_security_options() const {
        return pick(&Config::smtp_sasl_tls_security_options, &Config::lmtp_sasl_tls_security_options);
    }
    const std::string& sasl_tls_verified_security_options() const {
        return pick(&Config::smtp_sasl_tls_verified_security_options, &Config::lmtp_sasl_tls_verified_security_options);
    }

    // --- keeping connections
    const std::string& connection_cache_destinations() const {
        return pick(&Config::smtp_connection_cache_destinations, &Config::lmtp_connection_cache_destinations);
    }
    bool connection_cache_on_demand() const {
        return pick(&Config::smtp_connection_cache_on_demand, &Config::lmtp_connection_cache_on_demand);
    }
    Seconds connection_cache_time_limit() const {
        return std::min(pick(&Config::smtp_connection_cache_time_limit, &Config::lmtp_connection_cache_time_limit), config_.connection_cache_ttl_limit());
    }
    long connection_reuse_count_limit() const {
        return pick(&Config::smtp_connection_reuse_count_limit, &Config::lmtp_connection_reuse_count_limit);
    }
    Seconds connection_reuse_time_limit() const {
        return pick(&Config::smtp_connection_reuse_time_limit, &Config::lmtp_connection_reuse_time_limit);
    }

private:
    template <class R>
    R pick(R (Config::*for_smtp)() const, R (Config::*for_lmtp)() const) const {
        return (config_.*(lmtp_ ? for_lmtp : for_smtp))();
    }

    const Config& config_;
    bool lmtp_;
};

}  // namespace postern::smtp
