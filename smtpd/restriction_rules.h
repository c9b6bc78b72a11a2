/// How a compiled list is made of rules: private to restrictions.cc, rules.cc and access.cc.
#pragma once

#include "smtpd/restrictions.h"

namespace postern::smtpd {

/// A decision in the making.
struct Evaluation {
    Evaluation(const RuleContext& rule_context, const Subject& judged, SideEffects& collected)
        : context(rule_context), subject(judged), effects(collected) {}
    const RuleContext& context;
    const Subject& subject;
    SideEffects& effects;
    Stage stage = Stage::client;
    std::optional<Verdict> defer_if_permit;  ///< what to answer when everything else would let the client in
    bool defer_if_reject = false;
    bool warn_next = false;                  ///< warn_if_reject stands before the next rule
    int depth = 0;
};

/// Words for a reject text and the log: what is being judged at this stage, and its class name.
struct Judged {
    std::string what;          ///< "<a@b>", "name[ip]", empty
    const char* subject;       ///< "Recipient address", "Client host", ...
};
Judged judged_for(RuleKind kind, const Evaluation& evaluation);

Verdict reject_with(const Evaluation& evaluation, int code, std::string dsn, std::string text);
Verdict permit_verdict();
/// 451 4.3.0 <what>: Temporary lookup failure; the error goes to the log.
Verdict lookup_failure(Evaluation& evaluation, const Judged& judged, const Error& error);

/// restrictions.cc: the rules of one list in order.
Task<Verdict> evaluate_rules(const std::vector<Rule>& rules, Evaluation& evaluation);
/// rules.cc: everything but tables, classes and policy servers.
Task<Verdict> evaluate_rule(const Rule& rule, Evaluation& evaluation);
/// access.cc: looks the rule's subject up and carries out what the table says.
Task<Verdict> evaluate_access(const Rule& rule, Evaluation& evaluation);
/// Carries out one access(5) action.
Task<Verdict> carry_out(const Action& action, const Judged& judged, Evaluation& evaluation);
/// dns_rules.cc: rules that ask the DNS.
Task<Verdict> evaluate_dns_rule(const Rule& rule, Evaluation& evaluation);
/// policy.cc: check_policy_service.
Task<Verdict> evaluate_policy(const Rule& rule, Evaluation& evaluation);

}  // namespace postern::smtpd
