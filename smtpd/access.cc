/// check_*_access: access(5) tables and what their answers do.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/table/address_lookup.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

/// A domain, then its parents: as "parent" or ".parent" (parent_domain_matches_subdomains).
Lookup find_domain(TableList& table, std::string_view domain, bool parents_plain) {
    Lookup found = table.lookup(domain);
    if (!found || *found) {
        return found;
    }
    std::size_t at = 0;
    while ((at = domain.find('.', at)) != std::string_view::npos) {
        const std::string_view parent = domain.substr(parents_plain ? at + 1 : at);
        if (parent.size() > 1) {
            found = table.lookup(parent, true);
            if (!found || *found) {
                return found;
            }
        }
        ++at;
    }
    return found;
}

/// An address, then the networks around it cut at the separators (access(5), "HOST NAME/ADDRESS PATTERNS").
Lookup find_address(TableList& table, std::string_view address) {
    Lookup found = table.lookup(address);
    const char separator = address.find(':') != std::string_view::npos ? ':' : '.';
    while (found && !*found) {
        const std::size_t cut = address.rfind(separator);
        if (cut == std::string_view::npos || cut == 0) {
            break;
        }
        address = address.substr(0, cut);
        found = table.lookup(address, true);
    }
    return found;
}

Lookup find_sender_owners(const Evaluation& evaluation, const std::string& sender) {
    TableList* const tables = evaluation.context.sender_login_maps;
    if (tables == nullptr || tables->empty()) {
        return std::optional<std::string>();
    }
    const std::string_view domain = split_address(sender).domain;
    const Result<bool> local = evaluation.context.router->is_local(domain);
    if (!local) {
        return local.error();
    }
    AddressQuery query;
    query.address = sender;
    query.delimiters = evaluation.context.config->recipient_delimiter();
    query.domain_is_local = *local || equals_ignoring_case(domain, evaluation.context.config->myorigin());
    Result<std::optional<AddressHit>> hit = lookup_address(*tables, query);
    if (!hit) {
        return hit.error();
    }
    return *hit ? std::optional<std::string>(std::move((*hit)->value)) : std::optional<std::string>();
}

namespace {

Lookup find_client(TableList& table, const std::string& name, const std::string& address, bool parents) {
    Lookup found = std::optional<std::string>();
    if (!name.empty()) {   // "unknown", when it has none, comes before the address too
        found = find_domain(table, name, parents);
    }
    if (found && !*found && !address.empty()) {
        found = find_address(table, address);
    }
    return found;
}

Lookup find_mail_address(TableList& table, const Evaluation& evaluation, const std::string& address, bool parents) {
    if (address.empty()) {
        return table.lookup(evaluation.context.config->smtpd_null_access_lookup_key());
    }
    AddressQuery query;
    query.address = address;
    query.keys = kKeysAccess;
    query.delimiters = evaluation.context.config->recipient_delimiter();
    query.parent_domains = parents;
    Result<std::optional<AddressHit>> hit = lookup_address(table, query);
    if (!hit) {
        return hit.error();
    }
    return *hit ? std::optional<std::string>((*hit)->value) : std::optional<std::string>();
}

Lookup find_subject(const Rule& rule, const Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    TableList& table = *rule.table;
    const bool parents = matches_subdomains(*evaluation.context.config, "smtpd_access_maps");
    const std::optional<std::string> nothing;
    switch (rule.kind) {
    case RuleKind::check_client_access:
        return find_client(table, subject.client_name, subject.client_address, parents);
    case RuleKind::check_reverse_client_hostname_access:
        return find_client(table, subject.reverse_name, subject.client_address, parents);
    case RuleKind::check_helo_access:
        return subject.helo.empty() ? Lookup(nothing) : find_domain(table, subject.helo, parents);
    case RuleKind::check_etrn_access:
        return subject.etrn_domain.empty() ? Lookup(nothing) : find_domain(table, subject.etrn_domain, parents);
    case RuleKind::check_sasl_access:
        return subject.sasl_username.empty() ? Lookup(nothing) : table.lookup(subject.sasl_username);
    case RuleKind::check_ccert_access:
        for (const std::string& print : certificate_fingerprints(evaluation)) {
            Lookup found = table.lookup(print);
            if (!found || *found) {
                return found;
            }
        }
        return Lookup(nothing);
    case RuleKind::check_sender_access:
        return subject.sender ? find_mail_address(table, evaluation, *subject.sender, parents) : Lookup(nothing);
    default:
        return subject.recipient ? find_mail_address(table, evaluation, *subject.recipient, parents) : Lookup(nothing);
    }
}

/// "5.7.1 text" or "text": the code in front, when there is one.
std::pair<std::string, std::string> split_dsn(const std::string& text, std::string fallback) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string word = text.substr(0, end);
    const bool looks = word.size() >= 5 && (word[0] == '2' || word[0] == '4' || word[0] == '5') && word[1] == '.' &&
                       word.find_first_not_of("0123456789.") == std::string::npos;
    if (!looks) {
        return {std::move(fallback), text};
    }
    return {word, std::string(trim(std::string_view(text).substr(end)))};
}

/// A code about an address (RFC 3463 section 3.2) fits what is refused: a sender's is not a recipient's, and others have none.
std::string fitting_dsn(std::string dsn, std::string_view judged_class) {
    struct Fit {
        std::string_view detail, for_sender, for_recipient;
    };
    constexpr Fit kFits[] = {{".1.0", ".1.0", ".1.0"}, {".1.1", ".1.0", ".1.1"}, {".1.2", ".1.8", ".1.2"},
                             {".1.3", ".1.7", ".1.3"}, {".1.4", ".1.0", ".1.4"}, {".1.5", ".1.0", ".1.5"},
                             {".1.6", ".1.0", ".1.6"}, {".1.7", ".1.7", ".1.3"}, {".1.8", ".1.8", ".1.2"}};
    for (const Fit& fit : kFits) {
        if (std::string_view(dsn).substr(1) == fit.detail) {
            const bool sender = judged_class == "Sender address";
            const bool recipient = judged_class == "Recipient address";
            dsn.replace(1, std::string::npos, sender ? fit.for_sender : recipient ? fit.for_recipient : ".0.0");
            break;
        }
    }
    return dsn;
}

Verdict refusal(const Evaluation& evaluation, const Judged& judged, int code, const std::string& text,
                std::string_view default_text) {
    auto [dsn, rest] = split_dsn(text, "5.7.1");
    Verdict out = reject_with(evaluation, code, fitting_dsn(std::move(dsn), judged.subject),
                              fmt::format("{}: {} rejected: {}", judged.what, judged.subject,
                                          rest.empty() ? default_text : std::string_view(rest)));
    out.disconnect = code == 421 || code == 521;
    return out;
}

bool is_reply_code(const std::string& word) {
    return word.size() == 3 && (word[0] == '4' || word[0] == '5') &&
           word.find_first_not_of("0123456789") == std::string::npos;
}

bool is_number(const std::string& word) {
    return !word.empty() && word.find_first_not_of("0123456789") == std::string::npos;
}

/// "<a@b>: Sender address triggers HOLD action", for the log.
void note(SideEffects& effects, const Action& action, const Judged& judged, std::string_view what) {
    effects.log.emplace_back(to_lower(action.name), fmt::format("{}: {} {}", judged.what, judged.subject, what));
}

/// The actions that let the client go on; false when `action` is none of them.
bool note_side_effect(const Action& action, const Judged& judged, Evaluation& evaluation) {
    SideEffects& effects = evaluation.effects;
    const std::string& text = action.text;
    if (action.name == "WARN" || action.name == "INFO") {
        effects.log.emplace_back(to_lower(action.name), text);
    } else if (action.name == "HOLD" || action.name == "DISCARD") {
        (action.name == "HOLD" ? effects.hold : effects.discard) = true;
        note(effects, action, judged, text.empty() ? fmt::format("triggers {} action", action.name) : text);
    } else if (action.name == "PREPEND" || action.name == "FILTER" || action.name == "REDIRECT" || action.name == "BCC") {
        if (text.empty()) {   // of PREPEND it would be the end of the header
            log_warning("access table: {} needs a value", action.name);
            return true;
        }
        if (action.name == "PREPEND") {
            effects.prepend.push_back(text);
            return true;
        }
        if (action.name == "BCC") {
            effects.bcc.push_back(text);
        } else {
            (action.name == "FILTER" ? effects.filter : effects.redirect) = text;
        }
        note(effects, action, judged, fmt::format("triggers {} {}", action.name, text));
    } else {
        return false;
    }
    return true;
}

constexpr int kMaxActionDepth = 10;

}  // namespace

Task<Verdict> carry_out(const Action& action, const Judged& judged, Evaluation& evaluation) {
    const Config& config = *evaluation.context.config;
    if (action.name == "OK" || is_number(action.name)) {
        if (!is_reply_code(action.name)) {
            evaluation.table_action = action.name;
            co_return permit_verdict();
        }
        co_return refusal(evaluation, judged, static_cast<int>(*parse_number(action.name)), action.text, "Access denied");
    }
    if (action.name == "DUNNO" || action.name.empty()) {
        co_return Verdict{};
    }
    if (action.name == "REJECT") {
        co_return refusal(evaluation, judged, static_cast<int>(config.access_map_reject_code()), action.text,
                          "Access denied");
    }
    if (action.name == "DEFER") {
        co_return refusal(evaluation, judged, static_cast<int>(config.access_map_defer_code()), action.text,
                          "Access denied");
    }
    if (action.name == "DEFER_IF_PERMIT") {
        co_return defer_if_permit(evaluation, refusal(evaluation, judged, 450, action.text, "Service unavailable"));
    }
    if (action.name == "DEFER_IF_REJECT") {
        co_return defer_if_reject(evaluation, refusal(evaluation, judged, 450, action.text, "Service unavailable"));
    }
    if (note_side_effect(action, judged, evaluation)) {
        if (action.name == "DISCARD") {
            evaluation.table_action = action.name;
            co_return permit_verdict();
        }
        co_return Verdict{};
    }
    // Anything else is a list of restrictions (access(5)).
    if (++evaluation.depth > kMaxActionDepth) {
        log_warning("access table: actions nested too deeply at \"{}\"", action.name);
        co_return server_error(evaluation);
    }
    const std::string rules = to_lower(action.name) + " " + action.text;
    Result<RestrictionList> list =
        RestrictionList::compile("access table", rules, evaluation.stage, evaluation.context, evaluation.depth);
    if (!list) {
        log_warning("{}", list.error().what);
        co_return server_error(evaluation);
    }
    Verdict verdict = co_await evaluate_rules(list->rules(), evaluation);
    --evaluation.depth;
    co_return verdict;
}

Task<Verdict> evaluate_access(const Rule& rule, Evaluation& evaluation) {
    Lookup found = find_subject(rule, evaluation);
    const Judged judged = judged_for(rule.kind, evaluation);
    if (!found) {
        log_warning("{}", found.error().what);
        Verdict broken = rejected(rule.kind, evaluation, 451, "4.3.5", "Server configuration error");   // Postfix's words
        broken.trouble = Trouble::data;
        co_return broken;
    }
    if (!*found) {
        co_return Verdict{};
    }
    const Action action = parse_action(**found);
    co_return co_await carry_out(action, judged, evaluation);
}

}  // namespace postern::smtpd
