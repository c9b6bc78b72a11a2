// MTA-STS (RFC 8461) among the TLS policies of a destination.
#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "smtp/tls_policy.h"

namespace postern::smtp {

namespace {

/// The failures of RFC 8460 section 4.3.2.2, as plug-ins name them.
bool take_failure(StsRule& rule, const std::string& value) {
    constexpr std::pair<std::string_view, StsProblem> kFailures[] = {
        {"sts-policy-fetch-error", StsProblem::fetch_error},
        {"sts-policy-invalid", StsProblem::invalid},
        {"sts-webpki-invalid", StsProblem::webpki_invalid},
    };
    for (const auto& [name, problem] : kFailures) {
        if (equals_ignoring_case(value, name)) {
            rule.problem = problem;
        }
    }
    return rule.problem != StsProblem::none;
}

}  // namespace

bool StsRule::allows(std::string_view host) const {
    return !found || patterns.empty() || std::any_of(patterns.begin(), patterns.end(),
                                 [host](const std::string& pattern) { return sts_pattern_matches(pattern, host); });
}

bool take_sts_attribute(StsRule& rule, std::string_view name, const std::string& value) {
    if (name == "policy_type") {
        rule.found = equals_ignoring_case(value, "sts");
        return rule.found || equals_ignoring_case(value, "no-policy-found");
    }
    if (name == "policy_domain") {
        rule.domain = to_lower(value);
    } else if (name == "policy_ttl") {
        return parse_number(value).has_value();
    } else if (name == "policy_string") {
        rule.lines.push_back(value);
    } else if (name == "policy_failure") {
        return take_failure(rule, value);
    } else if (name == "mx_host_pattern") {
        rule.patterns.push_back(to_lower(value));
    } else {
        return false;
    }
    return true;
}

/// A level that authenticates is the plug-in's word for mode enforce.
void TlsPolicies::adopt_sts_attributes(TlsPolicy& policy, StsRule sts) const {
    if (!sts.found && sts.problem == StsProblem::none) {
        return;
    }
    sts.mode = policy.authenticates() ? StsMode::enforce : StsMode::testing;
    if (sts.found && policy.level > TlsLevel::fingerprint && !sts.patterns.empty() &&
        settings_.tls_enforce_sts_mx_patterns()) {
        policy.match = {"hostname"};   // the host matches a pattern, the certificate the host (section 4.2)
        policy.server_name = "hostname";
    }
    policy.sts = std::make_shared<StsRule>(std::move(sts));
}

bool TlsPolicies::sts_enabled() const { return !settings_.lmtp() && settings_.config().smtp_tls_mta_sts_enable(); }

bool TlsPolicies::wants_sts(const NextHop& hop, const TlsPolicy& policy) const {
    const std::string& lookups = settings_.config().smtp_dns_support_level();
    const bool by_mx = !hop.literal_host && hop.socket_path.empty() && lookups != "disabled" &&
                       !(lookups.empty() && settings_.config().disable_dns_lookups());
    return sts_enabled() && by_mx && !policy.from_table &&
           (policy.level == TlsLevel::may || policy.level == TlsLevel::dane) && !settings_.tls_wrappermode();
}

TlsPolicy TlsPolicies::under_sts(TlsPolicy policy, const std::string& domain, StsAnswer answer) const {
    if (policy.level != TlsLevel::dane) {
        return plain_under_sts(std::move(policy), domain, std::move(answer));
    }
    TlsPolicy plain = policy;
    plain.level = TlsLevel::may;
    plain = plain_under_sts(completed(std::move(plain)), domain, std::move(answer));
    policy.without_dane = std::make_shared<const TlsPolicy>(std::move(plain));
    return policy;
}

/// Mode enforce makes TLS of version 1.2 and a certificate for the MX host's own name a condition (sections 4.2 and 5); the
/// other modes change nothing but what is reported.
TlsPolicy TlsPolicies::plain_under_sts(TlsPolicy policy, const std::string& domain, StsAnswer answer) const {
    if (!answer.found && answer.problem == 0) {
        return policy;
    }
    auto rule = std::make_shared<StsRule>();
    rule->found = answer.found && answer.mode != static_cast<std::uint8_t>(StsMode::none);
    rule->mode = answer.mode <= static_cast<std::uint8_t>(StsMode::enforce) ? static_cast<StsMode>(answer.mode) : StsMode::none;
    rule->domain = domain;
    rule->patterns = std::move(answer.mx);
    rule->lines = std::move(answer.lines);
    rule->problem = answer.problem <= static_cast<std::uint8_t>(StsProblem::webpki_invalid) ? static_cast<StsProblem>(answer.problem)
                                                                                           : StsProblem::fetch_error;
    rule->problem_text = std::move(answer.problem_text);
    if (rule->found && rule->mode == StsMode::enforce) {
        const bool newer = settings_.tls_mandatory_protocols().find(">=TLSv1.3") != std::string::npos;
        policy = general_;
        policy.level = TlsLevel::secure;
        policy.protocols = newer ? "" : ">=TLSv1.2";
        policy.match = {"hostname"};
        if (!settings_.tls_enforce_sts_mx_patterns()) {
            policy.match.clear();   // any host, as long as it has a certificate for one of the names
            for (const std::string& pattern : rule->patterns) {
                policy.match.push_back(pattern.substr(0, 2) == "*." ? pattern.substr(1) : pattern);
            }
        }
        policy.server_name = "hostname";
        policy = completed(std::move(policy));
    } else if (rule->found && policy.server_name.empty()) {
        policy.server_name = "hostname";   // the certificate is judged all the same
    }
    policy.sts = std::move(rule);
    return policy;
}

std::optional<std::string> TlsPolicies::forbids(const TlsPolicy& policy, const HostAddress& host) const {
    if (!policy.sts || !policy.authenticates() || !settings_.tls_enforce_sts_mx_patterns() ||
        policy.sts->allows(host.given_name())) {
        return std::nullopt;
    }
    return fmt::format("MX host {} does not match the MTA-STS policy of {}", host.name_and_address(), policy.sts->domain);
}

}  // namespace postern::smtp
