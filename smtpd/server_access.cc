/// check_{client,reverse_client_hostname,helo,sender,recipient}_{a,mx,ns}_access: access(5) tables that are searched for
/// the hosts a name stands for, instead of the name.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/log/log.h"
#include "lib/table/address_lookup.h"
#include "lib/table/match_list.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

/// What one name may make us look up.
constexpr std::size_t kMaxServers = 100;
constexpr int kMaxParents = 20;

const char* type_name(DnsType type) {
    return type == DnsType::mx ? "MX" : type == DnsType::ns ? "NS" : "A";
}

/// The name whose hosts are wanted; empty when there is none.
std::string name_for(const Rule& rule, const Subject& subject) {
    switch (rule.kind) {
    case RuleKind::check_client_server_access:
        return subject.client_name == "unknown" ? "" : subject.client_name;
    case RuleKind::check_reverse_client_server_access:
        return subject.reverse_name == "unknown" ? "" : subject.reverse_name;
    case RuleKind::check_helo_server_access:
        return subject.helo;
    case RuleKind::check_sender_server_access:
        return subject.sender.value_or("");
    default:
        return subject.recipient.value_or("");
    }
}

/// MX hosts, the domain itself where it has none (RFC 5321 section 5.1); name servers, of the nearest parent that has some.
/// Nothing when that cannot be known now, or there is nothing.
Task<std::vector<std::string>> servers_of(Dns& dns, std::string domain, DnsType type) {
    std::vector<std::string> out;
    if (type == DnsType::a) {
        out.push_back(domain);
        co_return out;
    }
    std::string asked = domain;
    for (int parents = 0; parents < kMaxParents; ++parents) {
        Result<DnsAnswer> answer = co_await dns.query(asked, type, kDnsPatience);
        if (!answer) {
            log_warning("Unable to look up {} host for {}: {}", type_name(type), asked, answer.error().what);
            co_return out;
        }
        for (const DnsAnswer::Record& record : answer->records) {
            if (!record.text.empty() && out.size() < kMaxServers) {   // a null MX names nobody (RFC 7505)
                out.push_back(record.text);
            }
        }
        const std::size_t dot = asked.find('.');
        if (!answer->records.empty() || type == DnsType::mx || dot == std::string::npos) {
            if (answer->records.empty() && type == DnsType::mx) {
                out.push_back(domain);
            }
            co_return out;
        }
        asked.erase(0, dot + 1);
    }
    co_return out;
}

Task<Lookup> find_host(const Rule& rule, Evaluation& evaluation, std::string host) {
    TableList& table = *rule.table;
    const auto type = static_cast<DnsType>(rule.record);
    if (type != DnsType::a) {
        const bool parents = matches_subdomains(*evaluation.context.config, "smtpd_access_maps");
        Lookup found = find_domain(table, host, parents);
        if (!found || *found) {
            co_return found;
        }
    }
    bool known = false;
    for (const DnsType address_type : {DnsType::a, DnsType::aaaa}) {
        Result<DnsAnswer> answer = co_await evaluation.context.dns->query(host, address_type, kDnsPatience);
        if (!answer) {
            continue;
        }
        for (const DnsAnswer::Record& record : answer->records) {
            known = true;
            Lookup found = find_address(table, record.text);
            if (!found || *found) {
                co_return found;
            }
        }
    }
    if (!known && type != DnsType::a) {
        const Judged judged = judged_for(rule.kind, evaluation);
        log_warning("Unable to look up {} host {} for {} {}", type_name(type), printable(host, 255), judged.subject, judged.what);
    }
    co_return std::optional<std::string>();
}

/// OK would let in whoever names a host that is in the table.
Verdict not_allowed(const Rule& rule, const Evaluation& evaluation, const std::string& target) {
    log_warning("restriction {} returns OK for {}", rule.name, target);
    log_warning("this is not allowed for security reasons");
    log_warning("use DUNNO instead of OK if you want to make an exception");
    return server_error(evaluation);
}

}  // namespace

Task<Verdict> evaluate_server_access(const Rule& rule, Evaluation& evaluation) {
    const std::string name = name_for(rule, evaluation.subject);
    const AddressParts parts = split_address(name);
    const std::string domain = to_lower(parts.has_domain ? parts.domain : std::string_view(name));
    if (domain.empty() || evaluation.context.dns == nullptr) {
        co_return Verdict{};
    }
    std::vector<std::string> hosts;
    Lookup found = std::optional<std::string>();
    if (domain.front() == '[') {
        std::string address = domain.substr(1, domain.find(']') == std::string::npos ? std::string::npos : domain.find(']') - 1);
        if (starts_with_ignoring_case(address, "ipv6:")) {
            address.erase(0, 5);
        }
        found = find_address(*rule.table, address);
    } else {
        hosts = co_await servers_of(*evaluation.context.dns, domain, static_cast<DnsType>(rule.record));
    }
    for (const std::string& host : hosts) {
        found = co_await find_host(rule, evaluation, host);
        if (!found || *found) {
            break;
        }
    }
    const Judged judged = judged_for(rule.kind, evaluation);
    if (!found) {
        co_return lookup_failure(evaluation, judged, found.error());
    }
    if (!*found) {
        co_return Verdict{};
    }
    const Action action = parse_action(**found);
    const bool discards = evaluation.effects.discard;
    const Verdict verdict = co_await carry_out(action, judged, evaluation);
    if (verdict.outcome == Verdict::Outcome::permit && evaluation.effects.discard == discards) {
        co_return not_allowed(rule, evaluation, name);
    }
    co_return verdict;
}

}  // namespace postern::smtpd
