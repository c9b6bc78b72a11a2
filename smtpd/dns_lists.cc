/// DNS lists (RFC 5782): reject_rbl_client, reject_rhsbl_*, permit_dnswl_client, permit_rhswl_client, and their replies
/// (rbl_reply_maps, default_rbl_reply).
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/config/expand.h"
#include "lib/dns/dns.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/table/address_lookup.h"
#include "smtpd/reply_names.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

/// "list.example=127.0.0.[2;4..8]" cut at "=".
struct ListName {
    std::string domain;
    std::string filter;
};

ListName cut_list(std::string_view argument) {
    const std::size_t equals = argument.find('=');
    ListName out;
    out.domain = argument.substr(0, equals);
    out.filter = equals == std::string_view::npos ? std::string_view() : argument.substr(equals + 1);
    return out;
}

/// One octet of a filter: ranges of numbers.  Nothing when it is malformed: a number, or [n;n..m;...].
std::optional<std::vector<std::pair<std::uint64_t, std::uint64_t>>> octet_ranges(std::string_view pattern) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
    std::vector<std::string> parts{std::string(pattern)};
    if (!pattern.empty() && pattern.front() == '[') {
        if (pattern.back() != ']') {
            return std::nullopt;
        }
        parts = split_exact(pattern.substr(1, pattern.size() - 2), ';');
    }
    for (const std::string& part : parts) {
        const std::size_t dots = part.find("..");
        const auto low = parse_number(std::string_view(part).substr(0, dots));
        const auto high = dots == std::string::npos ? low : parse_number(std::string_view(part).substr(dots + 2));
        if (!low || !high || *low > *high || *high > 255) {
            return std::nullopt;
        }
        out.emplace_back(*low, *high);
    }
    return out;
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
    if (filter.empty()) {
        return true;
    }
    const std::vector<std::string> octets = split_exact(address, '.');
    const std::vector<std::string> patterns = filter_octets(filter);
    for (std::size_t i = 0; i < 4; ++i) {
        const std::uint64_t octet = parse_number(octets[i]).value_or(256);
        const auto ranges = octet_ranges(patterns[i]);
        bool fits = false;
        for (const auto& [low, high] : *ranges) {
            fits = fits || (octet >= low && octet <= high);
        }
        if (!fits) {
            return false;
        }
    }
    return true;
}

/// What a list is asked about, and what the reply calls it.
struct Listed {
    std::string what;         ///< client address, name, mail address; empty: there is nothing to ask
    const char* class_name;
};

Listed listed_subject(const Rule& rule, const Subject& subject) {
    const auto name = [](const std::string& text) { return text == "unknown" ? std::string() : text; };
    switch (rule.kind) {
    case RuleKind::reject_rbl_client:
    case RuleKind::permit_dnswl_client:
        return {subject.client_address, "Client host"};
    case RuleKind::reject_rhsbl_client:
    case RuleKind::permit_rhswl_client:
        return {name(subject.client_name), "Client host"};
    case RuleKind::reject_rhsbl_reverse_client:
        return {name(subject.reverse_name), "Unverified Client host"};
    case RuleKind::reject_rhsbl_helo:
        return {subject.helo, "Helo command"};
    case RuleKind::reject_rhsbl_sender:
        return {subject.sender.value_or(""), "Sender address"};
    default:
        return {subject.recipient.value_or(""), "Recipient address"};
    }
}

/// What is put before the list's domain; empty when there is nothing to ask.
std::string question_for(const Rule& rule, const std::string& what) {
    if (rule.kind == RuleKind::reject_rbl_client || rule.kind == RuleKind::permit_dnswl_client) {
        return reversed_labels(what);
    }
    const AddressParts parts = split_address(what);
    const std::string domain(parts.has_domain ? parts.domain : std::string_view(what));
    // Lists of names do not want addresses, nor what only looks like a name.
    const std::size_t dot = domain.rfind('.');
    const std::string last = dot == std::string::npos ? domain : domain.substr(dot + 1);
    const bool numeric = last.find_first_not_of("0123456789") == std::string::npos;
    return numeric || !valid_hostname(domain) ? std::string() : domain;
}

/// The text of an expanded template begins with the code, perhaps with an enhanced one (RFC 3463) behind it.
Verdict verdict_of(const Evaluation& evaluation, const std::string& reply) {
    const auto code = parse_number(reply.substr(0, 3));
    if (!code || *code < 400 || *code > 599 || reply.size() < 4 || reply[3] != ' ') {
        log_warning("rbl response code configuration error: {}", reply);
        return reject_with(evaluation, 450, "4.7.1", "Service unavailable");
    }
    std::string text(trim(std::string_view(reply).substr(4)));
    std::string dsn = "4.7.1";
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::vector<std::string> numbers = split_exact(std::string_view(text).substr(0, end), '.');
    if (numbers.size() == 3 && (numbers[0] == "4" || numbers[0] == "5") && parse_number(numbers[1]) && parse_number(numbers[2])) {
        dsn = text.substr(0, end);
        text = trim(std::string_view(text).substr(end));
    }
    return reject_with(evaluation, static_cast<int>(*code), dsn, text.empty() ? "Service unavailable" : text);
}

Verdict refusal(const Rule& rule, Evaluation& evaluation, const Listed& listed, const std::string& domain, const std::string& reason) {
    const std::string& usual = evaluation.context.config->default_rbl_reply();
    const ReplyNames names(*evaluation.context.config, evaluation.subject,
                           {{"rbl_code", std::to_string(evaluation.context.config->maps_rbl_reject_code())},
                            {"rbl_domain", domain},
                            {"rbl_reason", reason},
                            {"rbl_txt", reason},
                            {"rbl_what", listed.what},
                            {"rbl_class", listed.class_name}});
    Lookup special = evaluation.context.rbl_replies->lookup(rule.argument);
    if (!special) {
        return lookup_failure(evaluation, judged_for(rule.kind, evaluation), special.error());
    }
    if (*special) {
        Result<std::string> reply = expand(**special, names);
        if (reply) {
            return verdict_of(evaluation, *reply);
        }
        log_warning("rbl_reply_maps: bad rbl reply template for domain {}: {}", domain, **special);
    }
    Result<std::string> reply = expand(usual, names);
    if (!reply) {
        log_warning("default_rbl_reply: bad default rbl reply template: {}", usual);
        return reject_with(evaluation, 450, "4.7.1", "Service unavailable");
    }
    return verdict_of(evaluation, *reply);
}

bool permits(const Rule& rule) {
    return rule.kind == RuleKind::permit_dnswl_client || rule.kind == RuleKind::permit_rhswl_client;
}

/// A list must not turn this into an open relay.
bool may_permit(const Evaluation& evaluation) {
    if (!evaluation.subject.recipient) {
        return false;
    }
    Result<bool> ours = authorized_destination(evaluation, *evaluation.subject.recipient);
    return ours && *ours;
}

}  // namespace

bool valid_dns_list(std::string_view argument) {
    const ListName list = cut_list(argument);
    if (!valid_hostname(list.domain)) {
        return false;
    }
    if (list.filter.empty()) {
        return argument.find('=') == std::string_view::npos;
    }
    const std::vector<std::string> patterns = filter_octets(list.filter);
    for (const std::string& pattern : patterns) {
        if (!octet_ranges(pattern)) {
            return false;
        }
    }
    return patterns.size() == 4;
}

Task<Verdict> evaluate_dns_list(const Rule& rule, Evaluation& evaluation) {
    const Listed listed = listed_subject(rule, evaluation.subject);
    const std::string prefix = question_for(rule, listed.what);
    if (prefix.empty() || evaluation.context.dns == nullptr || (permits(rule) && !may_permit(evaluation))) {
        co_return Verdict{};
    }
    const ListName list = cut_list(rule.argument);
    const std::string question = prefix + "." + list.domain;
    Result<DnsAnswer> answer = co_await evaluation.context.dns->query(question, DnsType::a, kDnsPatience);
    if (!answer || answer->filtered) {
        log_warning("{}: RBL lookup error: {}", question, answer ? "DNS reply filter drops all results" : answer.error().what);
        if (!permits(rule)) {
            co_return Verdict{};
        }
        Verdict later = reject_with(evaluation, 450, "4.7.1",
                                    fmt::format("<{}>: {} rejected: Service unavailable", listed.what, listed.class_name));
        co_return defer_if_reject(evaluation, std::move(later));
    }
    bool is_listed = false;
    for (const DnsAnswer::Record& record : answer->records) {
        is_listed = is_listed || answer_counts(record.text, list.filter);
    }
    if (!is_listed) {
        co_return Verdict{};
    }
    if (permits(rule)) {
        co_return permit_verdict();
    }
    std::string reason;
    Result<DnsAnswer> text = co_await evaluation.context.dns->query(question, DnsType::txt, kDnsPatience);
    if (!text) {
        log_warning("{}: TXT lookup error: {}", question, text.error().what);
    } else if (!text->records.empty()) {
        reason = printable(text->records[0].text, 400);
    }
    co_return refusal(rule, evaluation, listed, list.domain, reason);
}

}  // namespace postern::smtpd
