// What TLS has to be for a delivery: policies of tables, of the DNS and of the message itself.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/header.h"
#include "smtp/delivery.h"
#include "smtp/tls_report.h"

namespace postern::smtp {

/// What tables and settings say about the destination.  False, with the reason noted, when they cannot be asked.
bool Delivery::find_tls_policies(const NextHop& hop) {
    Result<TlsPolicy> policy = client_.tls().find(hop);
    Result<RequireTlsLevel> requiretls = RequireTlsLevel::disable;
    if (request_.requiretls && client_.config().requiretls_enable()) {
        requiretls = client_.requiretls().find(hop.socket_path.empty() ? hop.domain : hop.text);
    }
    if (!policy || !requiretls) {
        const Error& error = policy ? requiretls.error() : policy.error();
        log_warning("{}", error.what);
        not_asked({error.code == Errc::temporary ? "4.7.0" : "4.7.5", "client TLS configuration problem"});
        return false;
    }
    policy_ = std::move(*policy);
    requiretls_ = *requiretls;
    return true;
}

/// MTA-STS (RFC 8461), where it may have a say: not for hosts with TLSA records (section 2).  Without an answer it has none.
Task<> Delivery::ask_sts(const NextHop& hop) {
    if (!client_.tls().wants_sts(hop, policy_)) {
        co_return;
    }
    std::optional<StsAnswer> answer = co_await client_.sts().ask(hop.domain);
    if (answer) {
        policy_ = client_.tls().under_sts(std::move(policy_), hop.domain, std::move(*answer));
    }
}

/// "TLS-Required: No" (RFC 8689 section 5): the sender wants the mail to arrive, whatever the server's TLS is like.
bool Delivery::tls_is_not_required() const {
    if (request_.requiretls || !client_.config().tls_required_enable()) {
        return false;
    }
    const HeaderField field = find_field(content_.headers(), "TLS-Required");
    return !field.whole.empty() && equals_ignoring_case(strip_comments(field.value), "no");
}

/// What the destination's policy comes to for this host.  Nothing when it forbids to use it now; the reason is noted.
Task<std::optional<TlsPolicy>> Delivery::policy_for(const HostAddress& host, const NextHop& hop) {
    HostPolicy found = co_await client_.dane().find(policy_, hop, host);
    if (!found.failure.dsn.empty()) {
        log_warning("TLS policy lookup for {}/{}: {}", hop.domain, host.host, found.failure.text);
        if (counts_sessions(client_.settings(), hop)) {
            client_.tlsrpt().tell(outcome_without_dane(hop, policy_, host, found.failure.text));
        }
        not_asked(std::move(found.failure));
        co_return std::nullopt;
    }
    if (requiretls_ >= RequireTlsLevel::opportunistic_starttls && !insist_on_tls(found.policy, host)) {
        co_return std::nullopt;
    }
    co_return std::move(found.policy);
}

/// A policy under which nothing goes out in the clear; under enforce, one under which a certificate is good enough (RFC 8689
/// section 4.2.1).  False, with the reason noted, without TLS, or when the name of the host would have to be believed and
/// cannot be, so that no certificate proves anything.
bool Delivery::insist_on_tls(TlsPolicy& policy, const HostAddress& host) {
    const bool off = policy.level == TlsLevel::none;
    const bool enforced = requiretls_ == RequireTlsLevel::enforce;
    if (off || (enforced && policy.level == TlsLevel::half_dane)) {
        Failure why{"5.7.10", off ? "REQUIRETLS: TLS is switched off here" : fmt::format("REQUIRETLS: the MX record that names {} is not signed", host.host),
                    true};
        log_info("{}: {}", request_.queue_id, why.text);
        if (why_.dsn.empty() || why_.hard()) {   // else another host may do, later
            not_asked(std::move(why));
        }
        return false;
    }
    if (!enforced && !policy.required()) {
        policy.level = TlsLevel::encrypt;
        policy.protocols.clear();
        policy.grade.clear();
        policy.exclude.clear();
        policy = client_.tls().completed(std::move(policy));
    }
    if (enforced && !policy.authenticates()) {
        TlsPolicy secure = client_.tls().opportunistic(std::move(policy));
        secure.level = TlsLevel::secure;
        secure.protocols.clear();
        secure.grade.clear();
        secure.exclude.clear();
        secure.match = {"nexthop", "dot-nexthop"};
        if (client_.settings().dns_support_level() == "dnssec" && host.by_mx && host.mx_secure) {
            secure.match.emplace_back("hostname");
        }
        policy = client_.tls().completed(std::move(secure));
    }
    return true;
}

/// Optional TLS that does not work is left out once the message has waited for a while, as in Postfix: by then it is no
/// passing trouble.
bool Delivery::plaintext_fallback(const Session& session, const TlsPolicy& policy) const {
    const std::int64_t waited = request_.active_usec - request_.arrival_usec;
    return session.tls_failed() && policy.level == TlsLevel::may && !client_.settings().tls_wrappermode() &&
           waited >= client_.config().minimal_backoff_time().count() * 1'000'000 && !client_.settings().sasl_auth_enable();
}

/// For the log: what TLS came to, and what REQUIRETLS.
std::string Delivery::tls_status(const Session* session) const {
    if (session == nullptr || !client_.settings().log_tls_feature_status()) {
        return std::string();
    }
    std::string out = session->tls_status();
    if (requiretls_ == RequireTlsLevel::disable) {
        return out;
    }
    const std::string_view lacking = session->tls() == nullptr          ? ":nostarttls"
                                     : !session->features().requiretls ? ":none"
                                     : !session->tls_secured()         ? ":nocertmatch"
                                                                       : "";
    const bool violated = !lacking.empty() && (requiretls_ == RequireTlsLevel::enforce ||
                                               (requiretls_ == RequireTlsLevel::opportunistic_starttls && session->tls() == nullptr));
    return out + fmt::format("{}{}requiretls{}", out.empty() ? "" : "/", violated ? "!" : "", lacking);
}

/// For the TLS reports (RFC 8460).  What a resumed session has proved, it has proved before.
void Delivery::count_session(const NextHop& hop, const TlsPolicy& policy, const Session& session) {
    const bool again = session.tls() != nullptr && session.tls()->resumed && client_.settings().tlsrpt_skip_reused_handshakes();
    if (session.tls_verdict() && !again && counts_sessions(client_.settings(), hop)) {
        client_.tlsrpt().tell(outcome_of(hop, policy, session));
    }
}

}  // namespace postern::smtp
