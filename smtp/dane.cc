#include "smtp/dane.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/dns/tlsa.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/stream/tls_dane.h"

namespace postern::smtp {
namespace {

constexpr Millis kPatience = std::chrono::seconds(60);
constexpr std::size_t kMaxRecords = 100;

/// The names a certificate under a DANE-TA record may be for (RFC 7672 section 3.2.2).
std::vector<std::string> certified_names(const std::string& base_domain, const NextHop& hop, const HostAddress& host) {
    std::vector<std::string> names{base_domain};
    for (const std::string& name : {host.by_mx ? hop.domain : std::string(), host.mx_canonical}) {
        const auto same = [&](const std::string& other) { return equals_ignoring_case(other, name); };
        if (!name.empty() && std::none_of(names.begin(), names.end(), same)) {
            names.push_back(name);
        }
    }
    return names;
}

}  // namespace

DaneFinder::DaneFinder(const Settings& settings, Dns& dns, TlsPolicies& policies)
    : settings_(settings), dns_(dns), policies_(policies) {}

/// DANE does not help here: opportunistic DANE goes on with less, mandatory DANE does not go on.
HostPolicy DaneFinder::without(TlsPolicy policy, TlsLevel instead, std::string why) const {
    HostPolicy out{std::move(policy)};
    out.found.push_back(why);
    if (out.policy.level == TlsLevel::dane_only) {
        out.failure = {"4.7.5", std::move(why), true};
        return out;
    }
    if (instead == TlsLevel::may && out.policy.without_dane) {
        const std::shared_ptr<const TlsPolicy> other = out.policy.without_dane;
        out.policy = *other;
        return out;
    }
    out.policy.level = instead;
    out.policy = policies_.completed(std::move(out.policy));
    if (settings_.tls_wrappermode() && !out.policy.required()) {
        out.failure = {"4.7.5", settings_.prefix() + "_tls_wrappermode requires level encrypt or stronger", true};
    }
    return out;
}

/// The administrator asked for DANE and for something that defeats it.
HostPolicy DaneFinder::misconfigured(TlsPolicy policy, const NextHop& hop, const std::string& why) const {
    log_warning("{}: {} configured {}", hop.domain, tls_level_name(policy.level), why);
    HostPolicy out = without(std::move(policy), TlsLevel::may, "configured " + why);
    if (!out.failure.dsn.empty()) {
        out.failure.text = "client TLS configuration problem";
    }
    return out;
}

std::string DaneFinder::obstacle() const {
    if (settings_.dns_support_level() != "dnssec") {
        return "with dnssec lookups disabled";
    }
    if (settings_.config().ignore_mx_lookup_error()) {
        return "with MX lookup errors ignored";
    }
    return "";
}

/// A name that is securely an alias may have records of its own, wherever it leads (RFC 7672 section 2.2.2).  Errors: as query():
/// whoever can suppress the answer shall not thereby do away with DANE (section 2.1.1).
Task<Result<bool>> DaneFinder::alias_is_secure(std::string name) {
    const Result<DnsAnswer> alias = co_await dns_.query(name, DnsType::cname, kPatience);
    if (!alias) {
        co_return alias.error();
    }
    co_return alias->secure && !alias->records.empty();
}

Task<DaneFinder::Records> DaneFinder::look_up(std::string name, std::uint16_t port, std::vector<std::string>& found) {
    Records out;
    out.base_domain = name;
    const std::string question = tlsa_name(name, port);
    const Result<DnsAnswer> answer = co_await dns_.query(question, DnsType::tlsa, kPatience);
    if (!answer) {
        out.failed = true;
        found.push_back(answer.error().what);
        co_return out;
    }
    if (answer->records.empty() || !answer->secure) {
        const std::string_view secure = answer->secure ? "" : " (not validated by DNSSEC)";
        found.push_back(fmt::format("{}: {}TLSA records{}", question, answer->records.empty() ? "no " : "ignored ", secure));
        co_return out;
    }
    for (std::size_t i = 0; i < std::min(answer->records.size(), kMaxRecords); ++i) {
        out.any = true;
        Result<TlsaRecord> record = parse_tlsa(answer->records[i].text);
        const bool usable = record && tlsa_usable(*record, policies_.dane_digests());
        found.push_back(fmt::format("{}: TLSA {} ({})", question, record ? record->text() : record.error().what, usable ? "usable" : "unusable"));
        if (usable) {
            out.usable.push_back(std::move(*record));
        }
    }
    co_return out;
}

/// At the name that the host's CNAME records lead to, then at its own (section 2.2.3).
Task<DaneFinder::Records> DaneFinder::records_of(const HostAddress& host, std::vector<std::string>& found) {
    if (!host.alias.empty() && host.address_secure) {
        Records out = co_await look_up(host.host, host.port, found);
        if (!out.any && !out.failed) {
            out = co_await look_up(host.alias, host.port, found);
        }
        co_return out;
    }
    const std::string name = host.alias.empty() ? host.host : host.alias;
    bool secure = host.address_secure || settings_.tls_force_insecure_host_tlsa_lookup();
    if (!secure && host.aliased) {
        const Result<bool> is_signed = co_await alias_is_secure(name);
        if (!is_signed) {
            Records out;
            out.failed = true;
            found.push_back(is_signed.error().what);
            co_return out;
        }
        secure = *is_signed;
    }
    if (!secure) {
        found.push_back(fmt::format("{}: address not validated by DNSSEC", name));
        co_return Records();
    }
    co_return co_await look_up(name, host.port, found);
}

Task<HostPolicy> DaneFinder::find(TlsPolicy policy, NextHop hop, HostAddress host) {
    if (!policy.is_dane()) {
        HostPolicy out{std::move(policy)};
        co_return out;
    }
    if (const std::string why = obstacle(); !why.empty()) {
        co_return misconfigured(std::move(policy), hop, why);
    }
    const std::string& insecure_mx = settings_.config().smtp_tls_dane_insecure_mx_policy();
    const bool forged = !host.mx_secure;   // perhaps
    if (forged && (policy.level == TlsLevel::dane_only || insecure_mx == "may")) {
        co_return without(std::move(policy), TlsLevel::may, "non DNSSEC destination");
    }
    std::vector<std::string> found;
    Records records = co_await records_of(host, found);
    HostPolicy out;
    if (records.failed) {
        out.policy = std::move(policy);
        out.failure = {"4.7.5", fmt::format("TLSA lookup error for {}:{}", host.host, host.port), true};
    } else if (!records.any) {
        out = without(std::move(policy), TlsLevel::may, "no TLSA records found");
    } else if (records.usable.empty()) {
        out = without(std::move(policy), TlsLevel::encrypt, "TLSA records unusable");
    } else if (forged && insecure_mx == "encrypt") {
        out = without(std::move(policy), TlsLevel::encrypt, "non DNSSEC destination");
    } else {
        out.policy = std::move(policy);
        out.policy.level = forged ? TlsLevel::half_dane : out.policy.level;
        out.policy.server_name = records.base_domain;   // SNI, whatever else was configured (section 8.1)
        out.policy.match = certified_names(records.base_domain, hop, host);
        out.policy.tlsa = std::move(records.usable);
        out.policy = policies_.completed(std::move(out.policy));
    }
    out.found.insert(out.found.begin(), found.begin(), found.end());
    co_return out;
}

}  // namespace postern::smtp
