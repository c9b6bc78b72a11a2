/// permit_mx_backup: mail for domains that name this host as an MX, but not as the first.
#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/log/log.h"
#include "lib/table/address_lookup.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

using Records = std::vector<DnsAnswer::Record>;

/// What cannot be looked up now may have been a reason to let the mail in: it turns a later refusal into "try again".
void not_now(const Rule& rule, Evaluation& evaluation, const std::string& why) {
    (void)defer_if_reject(evaluation, rejected(rule.kind, evaluation, 450, "4.4.4", why));
}

/// Both families; an error only when nothing is known.
Task<Result<std::vector<std::string>>> addresses_of(Dns& dns, std::string host) {
    std::vector<std::string> out;
    std::optional<Error> failure;
    for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
        Result<DnsAnswer> answer = co_await dns.query(host, type, kDnsPatience);
        if (!answer) {
            failure = answer.error();
            continue;
        }
        for (const DnsAnswer::Record& record : answer->records) {
            out.push_back(record.text);
        }
    }
    if (out.empty() && failure) {
        co_return *failure;
    }
    co_return out;
}

/// `host` is this machine.  What cannot be looked up is taken for it, as in Postfix: refusing would be for good.
Task<bool> is_me(const Rule& rule, Evaluation& evaluation, std::string host) {
    Result<std::vector<std::string>> addresses = co_await addresses_of(*evaluation.context.dns, host);
    if (!addresses) {
        not_now(rule, evaluation, fmt::format("Unable to verify host {} as mail exchanger", host));
        co_return true;
    }
    co_return std::any_of(addresses->begin(), addresses->end(),
                          [&](const std::string& ip) { return evaluation.context.router->is_own_address(ip); });
}

Task<bool> i_am_among(const Rule& rule, Evaluation& evaluation, Records hosts) {
    for (const DnsAnswer::Record& host : hosts) {
        if (equals_ignoring_case(host.text, evaluation.context.config->myhostname())) {
            co_return true;
        }
    }
    for (const DnsAnswer::Record& host : hosts) {
        const bool mine = co_await is_me(rule, evaluation, host.text);
        if (mine) {
            co_return true;
        }
    }
    co_return false;
}

/// All addresses of the first MX hosts are in permit_mx_backup_networks.
Task<bool> primaries_allowed(const Rule& rule, Evaluation& evaluation, Records hosts) {
    for (const DnsAnswer::Record& host : hosts) {
        Result<std::vector<std::string>> addresses = co_await addresses_of(*evaluation.context.dns, host.text);
        if (!addresses || addresses->empty()) {
            if (!addresses) {
                not_now(rule, evaluation, fmt::format("Unable to look up mail exchanger host {}: {}", host.text, addresses.error().what));
            }
            co_return false;
        }
        for (const std::string& address : *addresses) {
            Result<bool> inside = evaluation.context.mx_backup_networks->matches("", address);
            if (!inside || !*inside) {
                co_return false;
            }
        }
    }
    co_return true;
}

Task<Verdict> judge_mx(const Rule& rule, Evaluation& evaluation, std::string domain) {
    Result<DnsAnswer> answer = co_await evaluation.context.dns->query(domain, DnsType::mx, kDnsPatience);
    if (!answer) {
        not_now(rule, evaluation, "Unable to look up mail exchanger information: " + answer.error().what);
        co_return Verdict{};
    }
    if (answer->records.empty()) {   // perhaps a name of this machine
        const bool mine = co_await is_me(rule, evaluation, domain);
        co_return mine ? permit_verdict() : Verdict{};
    }
    std::uint16_t best = UINT16_MAX;
    for (const DnsAnswer::Record& record : answer->records) {
        best = std::min(best, record.preference);
    }
    Records primaries;
    Records backups;
    for (DnsAnswer::Record& record : answer->records) {
        (record.preference == best ? primaries : backups).push_back(std::move(record));
    }
    const bool primary = co_await i_am_among(rule, evaluation, primaries);
    if (primary || backups.empty()) {
        co_return Verdict{};
    }
    const bool backup = co_await i_am_among(rule, evaluation, backups);
    if (!backup) {
        co_return Verdict{};
    }
    if (!evaluation.context.mx_backup_networks->empty()) {
        const bool allowed = co_await primaries_allowed(rule, evaluation, primaries);
        if (!allowed) {
            co_return Verdict{};
        }
    }
    co_return permit_verdict();
}

}  // namespace

Task<Verdict> evaluate_mx_backup(const Rule& rule, Evaluation& evaluation) {
    if (!evaluation.subject.recipient) {
        co_return Verdict{};
    }
    const std::string recipient = *evaluation.subject.recipient;
    Result<bool> ours = authorized_destination(evaluation, recipient);
    if (!ours) {
        co_return lookup_failure(evaluation, judged_for(rule.kind, evaluation), ours.error());
    }
    if (*ours) {
        co_return permit_verdict();
    }
    Result<Route> route = evaluation.context.router->resolve(evaluation.subject.sender.value_or(""), recipient);
    const std::string domain(split_address(recipient).domain);
    if (!route || route->source_routed || domain.empty() || domain.front() == '[' || evaluation.context.dns == nullptr) {
        co_return Verdict{};   // safety: no sender-specified routing
    }
    co_return co_await judge_mx(rule, evaluation, domain);
}

}  // namespace postern::smtpd
