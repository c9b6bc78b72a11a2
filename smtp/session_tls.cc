// A session's way into TLS.
#include <fmt/format.h>

#include "lib/log/log.h"
#include "smtp/session.h"
#include "smtp/tls_report.h"

namespace postern::smtp {

std::string Session::tls_status() const {
    if (wanted_tls_.empty() || wanted_tls_ == "none") {
        return std::string();
    }
    const std::string_view got = !tls_ ? "none" : tls_secured_ ? std::string_view(wanted_tls_) : "encrypt";
    const bool may = wanted_tls_ == "may";
    if (tls_ && (may || wanted_tls_ == "encrypt" || tls_secured_)) {
        return wanted_tls_;
    }
    return fmt::format("{}{}:{}", may ? "" : "!", wanted_tls_, got);
}

/// The handshake, the line in the log, and what the policy demands of the certificate.
Task<std::optional<Failure>> Session::handshake(TlsPolicies& policies, const TlsPolicy& policy, const NextHop& hop) {
    TlsDemand demand = policies.demand(policy, hop, host_);
    const int log_level = policies.log_level(host_, hop);
    if (log_level >= 2) {
        log_info("setting up TLS connection to {}", host_.with_port());
    }
    Result<TlsPeer> peer = co_await start_tls_client(*stream_, policies.context(policy), std::move(demand), settings_.starttls_timeout());
    if (!peer) {
        tls_failed_ = true;
        tls_verdict_ = TlsVerdict{TlsrptResult::validation_failure, peer.error().what};
        dead_ = true;
        log_info("SSL_connect error to {}: {}", host_.with_port(), peer.error().what);
        Failure failure{"4.7.5", "Cannot start TLS: handshake failure", true};
        co_return failure;
    }
    tls_ = std::move(*peer);
    tls_verdict_ = verdict_of(policy, host_, *tls_);
    const bool secured = policy.level == TlsLevel::fingerprint ? tls_->matched
                                                               : policy.authenticates() && tls_->trusted && tls_->matched;
    tls_secured_ = secured;
    // Whoever forged the MX record may have the right certificate for his host.
    const bool verified = secured && policy.level != TlsLevel::half_dane;
    tls_->matched = tls_->matched && policy.level != TlsLevel::half_dane;
    if (log_level >= 1) {
        if (tls_->has_certificate && !tls_->trusted && policy.level > TlsLevel::fingerprint) {
            log_info("certificate verification failed for {}: {}: {}", host_.with_port(), tls_->verify_error, tls_->issuer);
        }
        const std::string_view word = !tls_->has_certificate ? "Anonymous" : verified ? "Verified" : tls_->trusted ? "Trusted" : "Untrusted";
        log_info("{} TLS connection {} to {}: {}", word, tls_->resumed ? "reused" : "established", host_.with_port(), tls_->summary);
    }
    if (policy.authenticates() && !secured) {
        policies.context(policy).forget(policies.demand(policy, hop, host_).session_key);
        Failure failure{"4.7.5", "Server certificate not verified", true};
        co_return failure;
    }
    co_return std::nullopt;
}

Task<std::optional<Failure>> Session::wrap(TlsPolicies& policies, const TlsPolicy& policy, const NextHop& hop) {
    wanted_tls_ = tls_level_name(policy.level);
    co_return co_await handshake(policies, policy, hop);
}

Task<std::optional<Failure>> Session::secure(TlsPolicies& policies, const TlsPolicy& policy, const NextHop& hop, const Hello& how) {
    wanted_tls_ = tls_level_name(policy.level);
    if (policy.level == TlsLevel::none) {
        if (features_.starttls && settings_.tls_note_starttls_offer()) {
            log_info("Host offered STARTTLS: [{}]", host_.host);
        }
        co_return std::nullopt;
    }
    if (!features_.starttls) {
        tls_verdict_ = TlsVerdict{TlsrptResult::starttls_not_supported, ""};
        if (policy.required()) {
            Failure failure{"4.7.4", fmt::format("TLS is required, but was not offered by host {}", host_.name_and_address()), true};
            co_return failure;
        }
        co_return std::nullopt;
    }
    command("STARTTLS");
    Result<Reply> answer = co_await reply(settings_.starttls_timeout());
    if (!answer) {
        tls_failed_ = true;
        tls_verdict_ = TlsVerdict{TlsrptResult::validation_failure, answer.error().what};
        co_return broken(answer.error(), "performing the STARTTLS handshake");
    }
    if (!answer->positive()) {
        tls_verdict_ = TlsVerdict{TlsrptResult::starttls_not_supported, answer->one_line()};
    }
    if (!answer->positive() && policy.required()) {
        Failure failure = with_reply(*answer, fmt::format("TLS is required, but host {} refused to start TLS: {}",
                                                          host_.name_and_address(), answer->one_line()));
        failure.soften();
        failure.destination_dead = true;
        co_return failure;
    }
    if (!answer->positive()) {
        co_return std::nullopt;   // opportunistic: in the clear then
    }
    std::optional<Failure> failure = co_await handshake(policies, policy, hop);
    if (!failure) {
        failure = co_await hello(how);   // RFC 3207 section 4.2: what was said in the clear is forgotten
    }
    // Whoever put commands of his own in front of ours (CVE-2009-3555) has the server answer more than it was asked.
    if (!failure && settings_.tls_block_early_mail_reply() && !stream_->buffered().empty()) {
        dead_ = true;
        Failure early{"4.7.0", fmt::format("host {} answered commands that were not sent", host_.name_and_address()), true};
        co_return early;
    }
    co_return failure;
}

}  // namespace postern::smtp
