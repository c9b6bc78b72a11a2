/// reject_unknown_helo_hostname, reject_unknown_sender_domain, reject_unknown_recipient_domain: names that must exist.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/table/address_lookup.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

enum class Existence : unsigned char { yes, no, null_mx, unknown };

/// smtpd_dns_reply_filter has taken all there was.  Nobody is refused for that.
Existence filtered_out(const std::string& name, const char* what) {
    log_warning("{}: {} lookup error: DNS reply filter drops all results", name, what);
    return Existence::yes;
}

/// Mail for the domain can go somewhere: it has an MX (not a null MX, RFC 7505) or an address.
Task<Existence> domain_exists(Dns& dns, std::string domain) {
    Result<DnsAnswer> mx = co_await dns.query(domain, DnsType::mx, kDnsPatience);
    bool failed = !mx;
    if (!mx) {
        log_warning("{}: MX or address lookup error: {}", domain, mx.error().what);
        if (mx.error().code == Errc::timeout) {
            co_return Existence::unknown;   // its servers do not answer: the client has waited long enough
        }
    } else if (!mx->records.empty()) {
        co_return mx->records.size() == 1 && mx->records[0].text.empty() ? Existence::null_mx : Existence::yes;
    } else if (mx->filtered) {
        co_return filtered_out(domain, "MX or address");
    }
    bool filtered = false;
    for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
        Result<DnsAnswer> address = co_await dns.query(domain, type, kDnsPatience);
        if (address && !address->records.empty()) {
            co_return Existence::yes;
        }
        failed = failed || !address;
        filtered = filtered || (address && address->filtered);
    }
    if (filtered) {
        co_return filtered_out(domain, "MX or address");
    }
    co_return failed ? Existence::unknown : Existence::no;
}

/// A host of that name: an address, or an MX.
Task<Existence> host_exists(Dns& dns, std::string name) {
    bool failed = false, filtered = false;
    for (const DnsType type : {DnsType::a, DnsType::aaaa, DnsType::mx}) {
        Result<DnsAnswer> answer = co_await dns.query(name, type, kDnsPatience);
        if (answer && !answer->records.empty()) {
            co_return Existence::yes;
        }
        failed = failed || !answer;
        filtered = filtered || (answer && answer->filtered);
        if (!answer && answer.error().code == Errc::timeout) {
            break;   // as above
        }
    }
    if (filtered) {
        co_return filtered_out(name, "address or MX");
    }
    co_return failed ? Existence::unknown : Existence::no;
}

Task<Verdict> unknown_helo(const Rule& rule, Evaluation& evaluation) {
    const Config& config = *evaluation.context.config;
    const std::string helo = evaluation.subject.helo;
    if (helo.empty() || valid_address_literal(helo)) {
        co_return Verdict{};
    }
    if (helo[0] == '[') {
        co_return rejected(rule.kind, evaluation, static_cast<int>(config.invalid_hostname_reject_code()), "5.5.2",
                           "invalid ip address");
    }
    Existence exists = Existence::no;
    if (valid_hostname(helo)) {
        exists = co_await host_exists(*evaluation.context.dns, helo);
    }
    switch (exists) {
    case Existence::no:
        co_return rejected(rule.kind, evaluation, static_cast<int>(config.unknown_hostname_reject_code()), "4.7.1",
                           "Host not found");
    case Existence::unknown:
        co_return soft_failure(evaluation, config.unknown_helo_hostname_tempfail_action(),
                               rejected(rule.kind, evaluation, 450, "4.7.1", "Host not found"));
    default:
        co_return Verdict{};
    }
}

/// Where the address's mail ends here, its domain need not be in the DNS.
Result<bool> final_here(const Evaluation& evaluation, const std::string& domain) {
    Result<AddressClass> address_class = evaluation.context.router->classify(domain);
    if (!address_class) {
        return address_class.error();
    }
    return *address_class != AddressClass::relay && *address_class != AddressClass::other;
}

Task<Verdict> unknown_domain(const Rule& rule, Evaluation& evaluation) {
    const Config& config = *evaluation.context.config;
    const bool is_sender = rule.kind == RuleKind::reject_unknown_sender_domain;
    const auto& address = is_sender ? evaluation.subject.sender : evaluation.subject.recipient;
    const std::string domain(address ? split_address(*address).domain : std::string_view());
    if (domain.empty() || domain[0] == '[') {
        co_return Verdict{};
    }
    Result<bool> is_final = final_here(evaluation, domain);
    if (!is_final) {
        co_return lookup_failure(evaluation, judged_for(rule.kind, evaluation), is_final.error());
    }
    if (*is_final) {
        co_return Verdict{};
    }
    const char* const dsn = is_sender ? "4.1.8" : "4.1.2";
    Existence exists = Existence::no;
    if (valid_hostname(domain, true)) {
        exists = co_await domain_exists(*evaluation.context.dns, domain);
    }
    switch (exists) {
    case Existence::null_mx:   // RFC 7505 section 4.2
        co_return rejected(rule.kind, evaluation, is_sender ? 550 : 556, is_sender ? "5.7.27" : "5.1.10",
                           fmt::format("Domain {} does not accept mail (nullMX)", domain));
    case Existence::no:
        co_return rejected(rule.kind, evaluation, static_cast<int>(config.unknown_address_reject_code()), dsn,
                           "Domain not found");
    case Existence::unknown:
        co_return soft_failure(evaluation, config.unknown_address_tempfail_action(),
                               rejected(rule.kind, evaluation, 450, dsn, "Domain not found"));
    case Existence::yes:
        break;
    }
    co_return Verdict{};
}

}  // namespace

Task<Verdict> evaluate_unknown(const Rule& rule, Evaluation& evaluation) {
    if (evaluation.context.dns == nullptr) {
        Error error(Errc::temporary, rule.name + ": no resolver");
        co_return lookup_failure(evaluation, judged_for(rule.kind, evaluation), error);
    }
    if (rule.kind == RuleKind::reject_unknown_helo_hostname) {
        co_return co_await unknown_helo(rule, evaluation);
    }
    co_return co_await unknown_domain(rule, evaluation);
}

}  // namespace postern::smtpd
