#include "smtpd/restrictions.h"

#include <fmt/format.h>

#include <utility>

#include <array>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/log/log.h"
#include "smtpd/policy_servers.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

enum class Argument : unsigned char { none, table, word };

struct Known {
    const char* name;
    RuleKind kind;
    Argument argument;
    DnsType record = DnsType::a;
};

constexpr std::array kKnown{
    Known{"permit", RuleKind::permit, Argument::none},
    Known{"reject", RuleKind::reject, Argument::none},
    Known{"defer", RuleKind::defer, Argument::none},
    Known{"defer_if_permit", RuleKind::defer_if_permit, Argument::none},
    Known{"defer_if_reject", RuleKind::defer_if_reject, Argument::none},
    Known{"warn_if_reject", RuleKind::warn_if_reject, Argument::none},
    Known{"permit_mynetworks", RuleKind::permit_mynetworks, Argument::none},
    Known{"permit_inet_interfaces", RuleKind::permit_inet_interfaces, Argument::none},
    Known{"permit_sasl_authenticated", RuleKind::permit_sasl_authenticated, Argument::none},
    Known{"permit_tls_all_clientcerts", RuleKind::permit_tls_all_clientcerts, Argument::none},
    Known{"permit_tls_clientcerts", RuleKind::permit_tls_clientcerts, Argument::none},
    Known{"permit_mx_backup", RuleKind::permit_mx_backup, Argument::none},
    Known{"permit_dnswl_client", RuleKind::permit_dnswl_client, Argument::word},
    Known{"permit_rhswl_client", RuleKind::permit_rhswl_client, Argument::word},
    Known{"permit_auth_destination", RuleKind::permit_auth_destination, Argument::none},
    Known{"reject_unauth_destination", RuleKind::reject_unauth_destination, Argument::none},
    Known{"defer_unauth_destination", RuleKind::defer_unauth_destination, Argument::none},
    Known{"reject_unlisted_recipient", RuleKind::reject_unlisted_recipient, Argument::none},
    Known{"check_recipient_maps", RuleKind::reject_unlisted_recipient, Argument::none},
    Known{"reject_unlisted_sender", RuleKind::reject_unlisted_sender, Argument::none},
    Known{"reject_invalid_helo_hostname", RuleKind::reject_invalid_helo_hostname, Argument::none},
    Known{"reject_invalid_hostname", RuleKind::reject_invalid_helo_hostname, Argument::none},
    Known{"reject_non_fqdn_helo_hostname", RuleKind::reject_non_fqdn_helo_hostname, Argument::none},
    Known{"reject_non_fqdn_hostname", RuleKind::reject_non_fqdn_helo_hostname, Argument::none},
    Known{"reject_unknown_helo_hostname", RuleKind::reject_unknown_helo_hostname, Argument::none},
    Known{"reject_unknown_hostname", RuleKind::reject_unknown_helo_hostname, Argument::none},
    Known{"reject_non_fqdn_sender", RuleKind::reject_non_fqdn_sender, Argument::none},
    Known{"reject_non_fqdn_recipient", RuleKind::reject_non_fqdn_recipient, Argument::none},
    Known{"reject_unknown_sender_domain", RuleKind::reject_unknown_sender_domain, Argument::none},
    Known{"reject_unknown_address", RuleKind::reject_unknown_sender_domain, Argument::none},
    Known{"reject_unknown_recipient_domain", RuleKind::reject_unknown_recipient_domain, Argument::none},
    Known{"reject_unknown_client_hostname", RuleKind::reject_unknown_client_hostname, Argument::none},
    Known{"reject_unknown_client", RuleKind::reject_unknown_client_hostname, Argument::none},
    Known{"reject_unknown_reverse_client_hostname", RuleKind::reject_unknown_reverse_client_hostname, Argument::none},
    Known{"reject_unauth_pipelining", RuleKind::reject_unauth_pipelining, Argument::none},
    Known{"reject_multi_recipient_bounce", RuleKind::reject_multi_recipient_bounce, Argument::none},
    Known{"reject_plaintext_session", RuleKind::reject_plaintext_session, Argument::none},
    Known{"reject_sender_login_mismatch", RuleKind::reject_sender_login_mismatch, Argument::none},
    Known{"reject_authenticated_sender_login_mismatch", RuleKind::reject_authenticated_sender_login_mismatch,
          Argument::none},
    Known{"reject_unauthenticated_sender_login_mismatch", RuleKind::reject_unauthenticated_sender_login_mismatch,
          Argument::none},
    Known{"reject_known_sender_login_mismatch", RuleKind::reject_known_sender_login_mismatch, Argument::none},
    Known{"reject_rbl_client", RuleKind::reject_rbl_client, Argument::word},
    Known{"reject_rbl", RuleKind::reject_rbl_client, Argument::word},
    Known{"reject_rhsbl_client", RuleKind::reject_rhsbl_client, Argument::word},
    Known{"reject_rhsbl_reverse_client", RuleKind::reject_rhsbl_reverse_client, Argument::word},
    Known{"reject_rhsbl_helo", RuleKind::reject_rhsbl_helo, Argument::word},
    Known{"reject_rhsbl_sender", RuleKind::reject_rhsbl_sender, Argument::word},
    Known{"reject_rhsbl_recipient", RuleKind::reject_rhsbl_recipient, Argument::word},
    Known{"check_client_access", RuleKind::check_client_access, Argument::table},
    Known{"check_reverse_client_hostname_access", RuleKind::check_reverse_client_hostname_access, Argument::table},
    Known{"check_helo_access", RuleKind::check_helo_access, Argument::table},
    Known{"check_sender_access", RuleKind::check_sender_access, Argument::table},
    Known{"check_recipient_access", RuleKind::check_recipient_access, Argument::table},
    Known{"check_sasl_access", RuleKind::check_sasl_access, Argument::table},
    Known{"check_ccert_access", RuleKind::check_ccert_access, Argument::table},
    Known{"check_client_a_access", RuleKind::check_client_server_access, Argument::table, DnsType::a},
    Known{"check_client_mx_access", RuleKind::check_client_server_access, Argument::table, DnsType::mx},
    Known{"check_client_ns_access", RuleKind::check_client_server_access, Argument::table, DnsType::ns},
    Known{"check_reverse_client_hostname_a_access", RuleKind::check_reverse_client_server_access, Argument::table, DnsType::a},
    Known{"check_reverse_client_hostname_mx_access", RuleKind::check_reverse_client_server_access, Argument::table, DnsType::mx},
    Known{"check_reverse_client_hostname_ns_access", RuleKind::check_reverse_client_server_access, Argument::table, DnsType::ns},
    Known{"check_helo_a_access", RuleKind::check_helo_server_access, Argument::table, DnsType::a},
    Known{"check_helo_mx_access", RuleKind::check_helo_server_access, Argument::table, DnsType::mx},
    Known{"check_helo_ns_access", RuleKind::check_helo_server_access, Argument::table, DnsType::ns},
    Known{"check_sender_a_access", RuleKind::check_sender_server_access, Argument::table, DnsType::a},
    Known{"check_sender_mx_access", RuleKind::check_sender_server_access, Argument::table, DnsType::mx},
    Known{"check_sender_ns_access", RuleKind::check_sender_server_access, Argument::table, DnsType::ns},
    Known{"check_recipient_a_access", RuleKind::check_recipient_server_access, Argument::table, DnsType::a},
    Known{"check_recipient_mx_access", RuleKind::check_recipient_server_access, Argument::table, DnsType::mx},
    Known{"check_recipient_ns_access", RuleKind::check_recipient_server_access, Argument::table, DnsType::ns},
    Known{"check_etrn_access", RuleKind::check_etrn_access, Argument::table},
    Known{"reject_unverified_sender", RuleKind::reject_unverified_sender, Argument::none},
    Known{"reject_unverified_recipient", RuleKind::reject_unverified_recipient, Argument::none},
    Known{"check_policy_service", RuleKind::check_policy_service, Argument::word},
    Known{"sleep", RuleKind::sleep, Argument::word},
};

/// Restrictions of old that Postfix gave up, and what it says to use instead.
constexpr std::pair<const char*, const char*> kRemoved[] = {
    {"check_relay_domains", "permit_mynetworks, reject_unauth_destination"},
    {"permit_naked_ip_address", "permit_mynetworks or permit_sasl_authenticated"},
    {"check_address_map", "check_sender_access or check_recipient_access"},
};

const Known* known_rule(std::string_view name) {
    for (const Known& known : kKnown) {
        if (equals_ignoring_case(name, known.name)) {
            return &known;
        }
    }
    return nullptr;
}

RuleKind table_kind(Stage stage) {
    switch (stage) {
    case Stage::client:
        return RuleKind::check_client_access;
    case Stage::helo:
        return RuleKind::check_helo_access;
    case Stage::sender:
        return RuleKind::check_sender_access;
    case Stage::etrn:
        return RuleKind::check_etrn_access;
    case Stage::recipient:
    case Stage::data:
    case Stage::end_of_data:
        break;
    }
    return RuleKind::check_recipient_access;
}

constexpr int kMaxClassDepth = 10;

/// Turns the words of one list into rules.
class Compiler {
public:
    Compiler(const std::string& parameter, Stage stage, const RuleContext& context, int depth)
        : parameter_(parameter), stage_(stage), context_(context), depth_(depth) {}

    Result<std::vector<Rule>> run(std::string_view text) {
        std::vector<Rule> out;
        const std::vector<std::string> words = without_maps_rbl(split_list(text));
        for (std::size_t i = 0; i < words.size(); ++i) {
            Rule rule;
            rule.name = words[i];
            rule.stage = stage_;
            Result<void> made = make(rule, words, i);
            if (!made) {
                return made.error();
            }
            out.push_back(std::move(rule));
        }
        return out;
    }

private:
    /// reject_maps_rbl, a restriction of old, is reject_rbl_client for each of maps_rbl_domains.
    std::vector<std::string> without_maps_rbl(const std::vector<std::string>& words) const {
        std::vector<std::string> out;
        for (std::size_t i = 0; i < words.size(); ++i) {
            if (!equals_ignoring_case(words[i], "reject_maps_rbl")) {
                out.push_back(words[i]);
                continue;
            }
            log_warning("support for restriction \"reject_maps_rbl\" will be removed from {}; use \"reject_rbl_client domain-name\" "
                        "instead", context_.config->mail_name());
            const bool warns = i > 0 && equals_ignoring_case(words[i - 1], "warn_if_reject");
            bool first = true;
            for (const std::string& domain : split_list(context_.config->maps_rbl_domains())) {
                if (warns && !first) {
                    out.push_back(words[i - 1]);
                }
                out.insert(out.end(), {"reject_rbl_client", domain});
                first = false;
            }
        }
        return out;
    }

    Result<void> make(Rule& rule, const std::vector<std::string>& words, std::size_t& i) {
        if (const Known* known = known_rule(rule.name)) {
            rule.kind = known->kind;
            rule.record = static_cast<std::uint16_t>(known->record);
            if (known->argument == Argument::none) {
                return {};
            }
            if (i + 1 == words.size()) {
                return Error(Errc::config, fmt::format("parameter {}: {} needs an argument", parameter_, rule.name));
            }
            rule.argument = words[++i];
            return known->argument == Argument::table ? open(rule) : check_word(rule);
        }
        if (rule.name.find(':') != std::string::npos) {
            rule.kind = table_kind(stage_);
            rule.argument = rule.name;
            return open(rule);
        }
        return compile_class(rule);
    }

    Result<void> check_word(Rule& rule) const {
        if (rule.kind == RuleKind::check_policy_service) {
            Result<std::shared_ptr<const PolicyServer>> server = parse_policy_server(rule.argument, *context_.config);
            if (!server) {
                return Error(Errc::config, fmt::format("parameter {}: {}", parameter_, server.error().what));
            }
            rule.policy = std::move(*server);
            return {};
        }
        if (rule.kind == RuleKind::sleep) {
            return parse_number(rule.argument) ? Result<void>() : bad_word(rule, "a number of seconds");
        }
        return valid_dns_list(rule.argument) ? Result<void>() : bad_word(rule, "a domain, or domain=d.d.d.d");
    }

    Error bad_word(const Rule& rule, std::string_view wanted) const {
        return Error(Errc::config,
                     fmt::format("parameter {}: {} needs {}, not \"{}\"", parameter_, rule.name, wanted, rule.argument));
    }

    Result<void> open(Rule& rule) const {
        Result<TableList> table = TableList::open(parameter_, rule.argument, context_.tables);
        if (!table) {
            return table.error();
        }
        rule.table = std::make_unique<TableList>(std::move(*table));
        return {};
    }

    Result<void> compile_class(Rule& rule) const {
        for (const std::string& name : split_list(context_.config->smtpd_restriction_classes())) {
            if (name != rule.name) {
                continue;
            }
            if (depth_ >= kMaxClassDepth) {
                return Error(Errc::config, fmt::format("parameter {}: restriction classes nested too deeply", name));
            }
            const std::string rules = context_.config->lookup(name).value_or("");
            Result<RestrictionList> list = RestrictionList::compile(name, rules, stage_, context_, depth_ + 1);
            if (!list) {
                return list.error();
            }
            rule.kind = RuleKind::restriction_class;
            rule.list = std::make_unique<RestrictionList>(std::move(*list));
            return {};
        }
        for (const auto& [removed, instead] : kRemoved) {
            if (equals_ignoring_case(rule.name, removed)) {
                return Error(Errc::config, fmt::format("parameter {}: restriction {} was removed from Postfix; use {} instead",
                                                       parameter_, removed, instead));
            }
        }
        return Error(Errc::config, fmt::format("parameter {}: unknown restriction \"{}\": want a restriction of "
                                               "smtpd(8), type:table, or a name listed in smtpd_restriction_classes",
                                               parameter_, rule.name));
    }

    const std::string& parameter_;
    Stage stage_;
    const RuleContext& context_;
    int depth_;
};

}  // namespace

Result<RestrictionList> RestrictionList::compile(const std::string& parameter, std::string_view rules, Stage stage,
                                                 const RuleContext& context, int depth) {
    Compiler compiler(parameter, stage, context, depth);
    Result<std::vector<Rule>> made = compiler.run(rules);
    if (!made) {
        return made.error();
    }
    RestrictionList list;
    list.rules_ = std::move(*made);
    list.context_ = &context;
    return list;
}

Action parse_action(std::string_view value) {
    value = trim(value);
    const std::size_t end = std::min(value.find_first_of(" \t"), value.size());
    return {to_upper(value.substr(0, end)), std::string(trim(value.substr(end)))};
}

namespace {

/// For a rule that let the client go on; `what` is without < >.
Judged permitted_by(const Rule& rule, const Evaluation& evaluation) {
    RuleKind kind = rule.kind;
    switch (kind) {
    case RuleKind::permit_mynetworks:
    case RuleKind::permit_inet_interfaces:
    case RuleKind::permit_sasl_authenticated:
    case RuleKind::permit_tls_all_clientcerts:
    case RuleKind::permit_tls_clientcerts: kind = RuleKind::check_client_access; break;
    case RuleKind::permit_auth_destination: kind = RuleKind::check_recipient_access; break;
    default: break;
    }
    Judged judged = judged_for(kind, evaluation);
    if (judged.what.size() > 2 && judged.what.front() == '<') {
        judged.what = judged.what.substr(1, judged.what.size() - 2);
    }
    return judged;
}

/// smtpd_log_access_permit_actions: what let the client go on.  A class or a table's list of restrictions has told already.
void note_permit(const Rule& rule, Evaluation& evaluation) {
    MatchList* const wanted = evaluation.context.logged_permits;
    if (wanted == nullptr || wanted->empty() || rule.kind == RuleKind::restriction_class) {
        return;
    }
    const bool by_table = rule.table != nullptr;
    if (by_table && evaluation.table_action.empty()) {
        return;
    }
    const std::string action = by_table ? std::exchange(evaluation.table_action, {}) : rule.name;
    const Result<bool> listed = wanted->matches(action);
    if (!listed) {
        log_warning("{}", listed.error().what);
    }
    if (!listed || !*listed) {
        return;
    }
    const Judged judged = permitted_by(rule, evaluation);
    const std::string from = by_table ? "from " + rule.argument : std::string();
    evaluation.effects.log.emplace_back("permit", fmt::format("action={} for {}={} {}", action, judged.subject, judged.what, from));
}

}  // namespace

Task<Verdict> evaluate_rules(const std::vector<Rule>& rules, Evaluation& evaluation) {
    bool warn_next = false;
    for (const Rule& rule : rules) {
        if (rule.kind == RuleKind::warn_if_reject) {
            warn_next = true;
            continue;
        }
        const bool warn_only = std::exchange(warn_next, false);
        evaluation.only_warn = warn_only;
        evaluation.stage = rule.stage;
        Verdict verdict = co_await evaluate_rule(rule, evaluation);
        if (warn_only && verdict.outcome == Verdict::Outcome::reject) {
            evaluation.effects.log.emplace_back("reject_warning",
                                                fmt::format("{} {} {}", verdict.code, verdict.dsn, verdict.text));
            continue;
        }
        if (verdict.outcome == Verdict::Outcome::permit) {
            note_permit(rule, evaluation);
        }
        if (verdict.outcome != Verdict::Outcome::none) {
            co_return verdict;
        }
    }
    co_return Verdict{};
}

Task<Verdict> RestrictionList::evaluate(const Subject& subject, SideEffects& effects, Deferral& deferral) const {
    Evaluation evaluation(*context_, subject, effects, deferral);
    Verdict verdict = co_await evaluate_rules(rules_, evaluation);
    if (verdict.outcome == Verdict::Outcome::reject && deferral.if_reject && verdict.code >= 500) {
        verdict = *deferral.if_reject;   // an earlier failure may have kept us from letting the client in
    }
    co_return verdict;
}

Verdict RestrictionList::judge_unlisted(RuleKind kind, const Subject& subject) const {
    SideEffects effects;
    Deferral deferral;
    Evaluation evaluation(*context_, subject, effects, deferral);
    return judge_listed(kind, evaluation);
}

Verdict RestrictionList::settle(Verdict verdict, const Deferral& deferral) {
    return verdict.outcome != Verdict::Outcome::reject && deferral.if_permit ? *deferral.if_permit : verdict;
}

}  // namespace postern::smtpd
