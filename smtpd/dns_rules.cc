/// Restrictions that ask the DNS: names that must exist, and DNS lists (RFC 5782).
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

constexpr Millis kPatience = std::chrono::seconds(20);

enum class Existence : unsigned char { yes, no, unknown };

/// Mail for the domain can go somewhere: it has an MX (not a null MX, RFC 7505) or an address.
Task<Existence> domain_exists(Dns& dns, std::string domain, bool with_mx) {
    bool failed = false;
    if (with_mx) {
        Result<DnsAnswer> mx = co_await dns.query(domain, DnsType::mx, kPatience);
        failed = !mx;
        if (mx && !mx->records.empty()) {
            const bool null_mx = mx->records.size() == 1 && mx->records[0].text.empty();
            co_return null_mx ? Existence::no : Existence::yes;
        }
    }
    for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
        Result<DnsAnswer> address = co_await dns.query(domain, type, kPatience);
        if (address && !address->records.empty()) {
            co_return Existence::yes;
        }
        failed = failed || !address;
    }
    co_return failed ? Existence::unknown : Existence::no;
}

struct Question {
    std::string domain;
    bool with_mx = true;
    long code = 450;
    const char* dsn = "4.1.8";
    const char* text = "Domain not found";
};

/// What reject_unknown_* asks, or an empty domain when there is nothing to ask.
Question question_for(const Rule& rule, const Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    const Config& config = *evaluation.context.config;
    Question out;
    if (rule.kind == RuleKind::reject_unknown_helo_hostname) {
        out.domain = valid_hostname(subject.helo) ? subject.helo : "";
        out.code = config.unknown_hostname_reject_code();
        out.dsn = "4.7.1";
        out.text = "Host not found";
        return out;
    }
    const bool is_sender = rule.kind == RuleKind::reject_unknown_sender_domain;
    const auto& address = is_sender ? subject.sender : subject.recipient;
    out.code = config.unknown_address_reject_code();
    out.dsn = is_sender ? "4.1.8" : "4.1.2";
    if (!address || address->empty()) {
        return out;
    }
    const std::string domain(split_address(*address).domain);
    Result<AddressClass> address_class = evaluation.context.router->classify(domain);
    if (domain.empty() || valid_address_literal(domain) || (address_class && *address_class != AddressClass::other)) {
        return out;
    }
    out.domain = domain;
    return out;
}

Task<Verdict> judge_unknown(const Rule& rule, Evaluation& evaluation) {
    const Question question = question_for(rule, evaluation);
    if (question.domain.empty()) {
        co_return Verdict{};
    }
    const Existence exists = co_await domain_exists(*evaluation.context.dns, question.domain, question.with_mx);
    if (exists == Existence::yes) {
        co_return Verdict{};
    }
    const Judged judged = judged_for(rule.kind, evaluation);
    const int code = exists == Existence::no ? static_cast<int>(question.code) : 450;
    Verdict verdict = reject_with(evaluation, code, question.dsn,
                                  fmt::format("{}: {} rejected: {}", judged.what, judged.subject, question.text));
    if (exists == Existence::unknown && !evaluation.defer_if_permit) {
        evaluation.defer_if_permit = verdict;   // unknown_address_tempfail_action: defer_if_permit
        co_return Verdict{};
    }
    co_return verdict;
}

/// "list.example=127.0.0.[2;4..8]" cut at "=".
struct ListName {
    std::string domain;
    std::string filter;
};

ListName cut_list(const std::string& argument) {
    const std::size_t equals = argument.find('=');
    return {argument.substr(0, equals), equals == std::string::npos ? "" : argument.substr(equals + 1)};
}

/// One octet pattern: a number, or [n;n..m;...].
bool octet_matches(std::string_view pattern, std::uint64_t octet) {
    if (pattern.size() < 2 || pattern.front() != '[') {
        return parse_number(pattern) == octet;
    }
    for (const std::string& part : split_exact(pattern.substr(1, pattern.size() - 2), ';')) {
        const std::size_t dots = part.find("..");
        const auto low = parse_number(part.substr(0, dots));
        const auto high = dots == std::string::npos ? low : parse_number(part.substr(dots + 2));
        if (low && high && octet >= *low && octet <= *high) {
            return true;
        }
    }
    return false;
}

/// Octets of a filter; "." inside [ ] does not separate.
std::vector<std::string> filter_octets(std::string_view filter) {
    std::vector<std::string> out(1);
    bool inside = false;
    for (const char c : filter) {
        inside = c == '[' || (inside && c != ']');
        if (c == '.' && !inside) {
            out.emplace_back();
        } else {
            out.back() += c;
        }
    }
    return out;
}

bool answer_counts(const std::string& address, const std::string& filter) {
    if (address.compare(0, 4, "127.") != 0) {
        return false;   // RFC 5782 section 2.1: anything else is an error of the list, not a listing
    }
    if (filter.empty()) {
        return true;
    }
    const std::vector<std::string> octets = split_exact(address, '.');
    const std::vector<std::string> patterns = filter_octets(filter);
    if (octets.size() != 4 || patterns.size() != 4) {
        return false;
    }
    for (std::size_t i = 0; i < 4; ++i) {
        if (!octet_matches(patterns[i], parse_number(octets[i]).value_or(256))) {
            return false;
        }
    }
    return true;
}

/// What the list is asked about; empty when there is nothing.
std::string listed_subject(const Rule& rule, const Subject& subject) {
    switch (rule.kind) {
    case RuleKind::reject_rbl_client:
        return subject.client_address;
    case RuleKind::reject_rhsbl_client:
        return subject.client_name == "unknown" ? "" : subject.client_name;
    case RuleKind::reject_rhsbl_helo:
        return valid_hostname(subject.helo) ? subject.helo : "";
    case RuleKind::reject_rhsbl_sender:
        return std::string(split_address(subject.sender.value_or("")).domain);
    default:
        return std::string(split_address(subject.recipient.value_or("")).domain);
    }
}

const char* listed_class(RuleKind kind) {
    switch (kind) {
    case RuleKind::reject_rbl_client:
    case RuleKind::reject_rhsbl_client:
        return "Client host";
    case RuleKind::reject_rhsbl_helo:
        return "Helo command";
    case RuleKind::reject_rhsbl_sender:
        return "Sender address";
    default:
        return "Recipient address";
    }
}

Task<Verdict> judge_listed(const Rule& rule, Evaluation& evaluation) {
    const std::string what = listed_subject(rule, evaluation.subject);
    const ListName list = cut_list(rule.argument);
    const bool by_address = rule.kind == RuleKind::reject_rbl_client;
    const std::string prefix = by_address ? reversed_labels(what) : what;
    if (prefix.empty()) {
        co_return Verdict{};
    }
    const std::string question = prefix + "." + list.domain;
    Result<DnsAnswer> answer = co_await evaluation.context.dns->query(question, DnsType::a, kPatience);
    if (!answer) {
        log_warning("{}: RBL lookup error: {}", question, answer.error().what);
        co_return Verdict{};
    }
    bool listed = false;
    for (const DnsAnswer::Record& record : answer->records) {
        listed = listed || answer_counts(record.text, list.filter);
    }
    if (!listed) {
        co_return Verdict{};
    }
    Result<DnsAnswer> reason = co_await evaluation.context.dns->query(question, DnsType::txt, kPatience);
    std::string text = fmt::format("Service unavailable; {} [{}] blocked using {}", listed_class(rule.kind), what, list.domain);
    if (reason && !reason->records.empty()) {
        text += "; " + printable(reason->records[0].text, 400);
    }
    co_return reject_with(evaluation, static_cast<int>(evaluation.context.config->maps_rbl_reject_code()), "5.7.1", text);
}

}  // namespace

Task<Verdict> evaluate_dns_rule(const Rule& rule, Evaluation& evaluation) {
    if (evaluation.context.dns == nullptr) {
        Error error(Errc::temporary, rule.name + ": no resolver");
        co_return lookup_failure(evaluation, judged_for(rule.kind, evaluation), error);
    }
    switch (rule.kind) {
    case RuleKind::reject_unknown_helo_hostname:
    case RuleKind::reject_unknown_sender_domain:
    case RuleKind::reject_unknown_recipient_domain:
        co_return co_await judge_unknown(rule, evaluation);
    default:
        co_return co_await judge_listed(rule, evaluation);
    }
}

}  // namespace postern::smtpd
