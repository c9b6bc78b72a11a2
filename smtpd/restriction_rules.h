/// How a compiled list is made of rules: private to the files of restrictions.
#pragma once

#include "lib/async/loop.h"
#include "smtpd/restrictions.h"

namespace postern::smtpd {

/// A decision in the making.
struct Evaluation {
    Evaluation(const RuleContext& rule_context, const Subject& judged, SideEffects& collected, Deferral& waiting)
        : context(rule_context), subject(judged), effects(collected), deferral(waiting) {}
    const RuleContext& context;
    const Subject& subject;
    SideEffects& effects;
    Deferral& deferral;
    Stage stage = Stage::client;
    bool only_warn = false;                  ///< warn_if_reject stood before this rule
    int depth = 0;
    std::string table_action{};              ///< the word with which a table has just let the client go on
};

/// How long a rule waits for a DNS answer.
inline constexpr Millis kDnsPatience = std::chrono::seconds(20);

/// Words for a reject text and the log: what is being judged at this stage, and its class name.
struct Judged {
    std::string what;          ///< "<a@b>", "name[ip]", empty
    const char* subject;       ///< "Recipient address", "Client host", ...
};
Judged judged_for(RuleKind kind, const Evaluation& evaluation);

Verdict reject_with(const Evaluation& evaluation, int code, std::string dsn, std::string text);
/// 451 4.3.5: the configuration makes no sense; the log says how.
Verdict server_error(const Evaluation& evaluation);
Verdict permit_verdict();
/// "<what>: CLASS rejected: why".
Verdict rejected(RuleKind kind, const Evaluation& evaluation, int code, std::string dsn, std::string_view why);
/// The refusal waits for what other rules say.  Under warn_if_reject it is the answer, for the log.
Verdict defer_if_permit(Evaluation& evaluation, Verdict verdict);
Verdict defer_if_reject(Evaluation& evaluation, Verdict verdict);
/// The same with a *_tempfail_action: "defer" or "defer_if_permit".
Verdict soft_failure(Evaluation& evaluation, std::string_view action, Verdict verdict);
/// 451 4.3.0 <what>: Temporary lookup failure; the error goes to the log.
Verdict lookup_failure(Evaluation& evaluation, const Judged& judged, const Error& error);

/// restrictions.cc: the rules of one list in order.
Task<Verdict> evaluate_rules(const std::vector<Rule>& rules, Evaluation& evaluation);
/// rules.cc: everything but tables, classes and policy servers.
Task<Verdict> evaluate_rule(const Rule& rule, Evaluation& evaluation);
/// reject_unlisted_recipient and reject_unlisted_sender: nothing, or the refusal of an address that no table lists.
Verdict judge_listed(RuleKind kind, Evaluation& evaluation);
/// access.cc: looks the rule's subject up and carries out what the table says.
Task<Verdict> evaluate_access(const Rule& rule, Evaluation& evaluation);
/// A domain, then its parents; an address, then the networks around it (access(5)).
Lookup find_domain(TableList& table, std::string_view domain, bool parents_plain);
Lookup find_address(TableList& table, std::string_view address);
/// smtpd_sender_login_maps: the log-ins that a sender address belongs to; nothing when no table knows it.
Lookup find_sender_owners(const Evaluation& evaluation, const std::string& sender);
/// Mail for this address ends here or is relayed for it (permit_auth_destination).
Result<bool> authorized_destination(const Evaluation& evaluation, const std::string& recipient);
/// The client's certificate and its public key as smtpd_tls_fingerprint_digest writes them; none without a certificate.
std::vector<std::string> certificate_fingerprints(const Evaluation& evaluation);
/// Carries out one access(5) action.
Task<Verdict> carry_out(const Action& action, const Judged& judged, Evaluation& evaluation);
/// dns_rules.cc: names that must exist.
Task<Verdict> evaluate_unknown(const Rule& rule, Evaluation& evaluation);
/// dns_lists.cc: reject_rbl_client and its kin, permit_dnswl_client, permit_rhswl_client.
Task<Verdict> evaluate_dns_list(const Rule& rule, Evaluation& evaluation);
/// "list.example=127.0.0.[2;4..8]" is well-formed.
bool valid_dns_list(std::string_view argument);
/// server_access.cc: check_*_a_access, check_*_mx_access, check_*_ns_access.
Task<Verdict> evaluate_server_access(const Rule& rule, Evaluation& evaluation);
/// mx_backup.cc: permit_mx_backup.
Task<Verdict> evaluate_mx_backup(const Rule& rule, Evaluation& evaluation);
/// verify_rules.cc: reject_unverified_sender, reject_unverified_recipient.
Task<Verdict> evaluate_unverified(const Rule& rule, Evaluation& evaluation);
/// policy.cc: check_policy_service.
Task<Verdict> evaluate_policy(const Rule& rule, Evaluation& evaluation);

}  // namespace postern::smtpd
