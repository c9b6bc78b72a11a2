#include "smtp/tls_report.h"

#include "lib/stream/local_address.h"

namespace postern::smtp {
namespace {

constexpr std::string_view kNotInPolicy = "the MTA-STS policy does not name this MX host";

Session::TlsVerdict distrusted(const TlsPeer& peer) {
    // OpenSSL's words for X509_V_ERR_CERT_HAS_EXPIRED.
    const bool expired = peer.verify_error == "certificate has expired";
    const bool mismatch = peer.verify_error == "hostname mismatch";   // DANE-TA: OpenSSL looks at names too
    return {expired    ? TlsrptResult::certificate_expired
            : mismatch ? TlsrptResult::certificate_host_mismatch
                       : TlsrptResult::certificate_not_trusted,
            peer.verify_error};
}

TlsrptResult result_of(StsProblem problem) {
    switch (problem) {
    case StsProblem::invalid: return TlsrptResult::sts_policy_invalid;
    case StsProblem::webpki_invalid: return TlsrptResult::sts_webpki_invalid;
    default: return TlsrptResult::sts_policy_fetch_error;
    }
}

/// The policy's part.
TlsrptOutcome about(const NextHop& hop, const TlsPolicy& policy) {
    TlsrptOutcome out;
    out.domain = policy.sts && !policy.sts->domain.empty() ? policy.sts->domain : hop.domain;
    out.policy = static_cast<std::uint8_t>(TlsrptPolicy::no_policy_found);
    if (policy.sts) {
        out.policy = static_cast<std::uint8_t>(TlsrptPolicy::sts);
        out.policy_strings = policy.sts->lines;
        out.mx_patterns = policy.sts->patterns;
    } else if (policy.is_dane()) {
        out.policy = static_cast<std::uint8_t>(TlsrptPolicy::tlsa);
        for (const TlsaRecord& record : policy.tlsa) {
            out.policy_strings.push_back(record.text());
        }
    }
    return out;
}

}  // namespace

Session::TlsVerdict verdict_of(const TlsPolicy& policy, const HostAddress& host, const TlsPeer& peer) {
    const bool by_sts = policy.sts && policy.sts->found;
    if (policy.level == TlsLevel::fingerprint && !peer.matched) {
        return {TlsrptResult::validation_failure, "no fingerprint matches"};
    }
    if (policy.level > TlsLevel::fingerprint || by_sts) {
        if (!peer.trusted) {
            return distrusted(peer);
        }
        if (!peer.matched) {
            return {TlsrptResult::certificate_host_mismatch, "certificate for " + peer.subject};
        }
    }
    if (by_sts && !policy.sts->allows(host.given_name())) {
        return {TlsrptResult::validation_failure, std::string(kNotInPolicy)};
    }
    return {};
}

bool counts_sessions(const Settings& settings, const NextHop& hop) {
    return settings.tlsrpt_enable() && !hop.literal_host && hop.socket_path.empty();
}

TlsrptOutcome outcome_of(const NextHop& hop, const TlsPolicy& policy, const Session& session) {
    TlsrptOutcome out = about(hop, policy);
    const Session::TlsVerdict& verdict = *session.tls_verdict();
    out.result = static_cast<std::uint8_t>(verdict.result);
    out.reason = verdict.reason;
    if (policy.sts && policy.sts->problem != StsProblem::none && !policy.sts->found && verdict.result == TlsrptResult::success) {
        out.result = static_cast<std::uint8_t>(result_of(policy.sts->problem));   // the session was one without policy
        out.reason = policy.sts->problem_text;
    }
    out.sending_ip = local_ip_address(session.stream());
    out.receiving_host = session.host().host;
    out.receiving_helo = session.server_helo();
    out.receiving_ip = session.host().address;
    return out;
}

TlsrptOutcome outcome_without_dane(const NextHop& hop, const TlsPolicy& policy, const HostAddress& host, std::string reason) {
    TlsrptOutcome out = about(hop, policy);
    const bool required = policy.level == TlsLevel::dane_only && reason.find("lookup error") == std::string::npos;
    out.result = static_cast<std::uint8_t>(required ? TlsrptResult::dane_required : TlsrptResult::dnssec_invalid);
    out.reason = std::move(reason);
    out.receiving_host = host.host;
    out.receiving_ip = host.address;
    return out;
}

TlsrptOutcome outcome_of_forbidden(const NextHop& hop, const TlsPolicy& policy, const HostAddress& host) {
    TlsrptOutcome out = about(hop, policy);
    out.result = static_cast<std::uint8_t>(TlsrptResult::validation_failure);
    out.reason = kNotInPolicy;
    out.receiving_host = host.host;
    out.receiving_ip = host.address;
    return out;
}

}  // namespace postern::smtp
