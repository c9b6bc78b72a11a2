/// smtpd_*_restrictions: lists of rules that decide whether a client may go on (Postfix SMTPD_ACCESS_README).
///
/// A list is compiled when the process starts, so that a wrong name is reported then, with the parameter it
/// stands in.  A rule that this program does not know is an error, never an empty rule.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/task.h"
#include "lib/base/result.h"
#include "lib/notice/postmaster.h"
#include "lib/route/router.h"
#include "lib/table/match_list.h"
#include "lib/table/table.h"

namespace postern {
class Config;
class Dns;
struct TlsInfo;
}

namespace postern::smtpd {

/// Where in the conversation a list belongs; also which table search a bare "type:table" stands for.
enum class Stage : unsigned char { client, helo, sender, recipient, data, end_of_data, etrn };

/// What is known about the client and its message when a list is evaluated.  Addresses are internal form.
struct Subject {
    std::string client_name = "unknown";       ///< verified, or "unknown"
    std::string reverse_name = "unknown";      ///< PTR, not verified
    bool name_lookup_failed_softly = false;    ///< DNS gave no answer (450), rather than none such
    std::string client_address, client_port;
    std::string server_address, server_port;
    std::string helo;
    std::optional<std::string> sender;         ///< nothing before MAIL; empty for <>
    std::optional<std::string> recipient;
    std::size_t recipient_count = 0;
    std::string sasl_username;
    std::string sasl_method;
    std::string sasl_sender;
    const TlsInfo* tls = nullptr;              ///< null in the clear
    bool certificate_verified = false;
    bool pipelined_unexpectedly = false;
    std::uint64_t size = 0;
    std::string service;                       ///< for policy servers
    std::string instance;                      ///< one per message attempt
    std::string protocol;                      ///< SMTP or ESMTP
    std::string command;                       ///< protocol_state: CONNECT, EHLO, RCPT, END-OF-MESSAGE, ...
    std::string etrn_domain;
};

/// What a list decided.
struct Verdict {
    enum class Outcome : unsigned char { none, permit, reject };
    Outcome outcome = Outcome::none;
    int code = 0;                ///< SMTP reply when rejected
    std::string dsn;
    std::string text;            ///< "<a@b>: Relay access denied"
    bool disconnect = false;     ///< 421, 521
    Trouble trouble = Trouble::policy;   ///< what notify_classes calls it
};

/// What rules asked for beside a decision; collected over all lists of a message.
struct SideEffects {
    bool discard = false;
    bool hold = false;
    std::string filter;
    std::string redirect;
    std::vector<std::string> bcc;
    std::vector<std::string> prepend;      ///< header fields
    /// Lines for the log: action ("warn", "hold", "reject_warning"), text.
    std::vector<std::pair<std::string, std::string>> log;
};

/// Decisions that wait for another: the first of each kind counts.  They are kept over all lists of one recipient.
struct Deferral {
    std::optional<Verdict> if_permit;      ///< what to answer when everything else would let the client in
    std::optional<Verdict> if_reject;      ///< what to answer instead of a permanent refusal
};

class PolicyServers;
struct PolicyServer;

/// What rules look at; lives as long as the process.
struct RuleContext {
    const Config* config = nullptr;
    Router* router = nullptr;
    MatchList* mynetworks = nullptr;
    MatchList* mx_backup_networks = nullptr;
    TableList* sender_login_maps = nullptr;
    TableList* client_certificates = nullptr;  ///< relay_clientcerts
    TableList* rbl_replies = nullptr;
    MatchList* logged_permits = nullptr;       ///< smtpd_log_access_permit_actions
    PolicyServers* policy_servers = nullptr;
    TableContext tables;
    Dns* dns = nullptr;                    ///< null: rules that need DNS answer "temporary"
};

enum class RuleKind : unsigned char {
    permit,
    reject,
    defer,
    defer_if_permit,
    defer_if_reject,
    warn_if_reject,
    permit_mynetworks,
    permit_inet_interfaces,
    permit_sasl_authenticated,
    permit_tls_all_clientcerts,
    permit_tls_clientcerts,
    permit_auth_destination,
    permit_mx_backup,
    permit_dnswl_client,
    permit_rhswl_client,
    reject_unauth_destination,
    defer_unauth_destination,
    reject_unlisted_recipient,
    reject_unlisted_sender,
    reject_invalid_helo_hostname,
    reject_non_fqdn_helo_hostname,
    reject_unknown_helo_hostname,
    reject_non_fqdn_sender,
    reject_non_fqdn_recipient,
    reject_unknown_sender_domain,
    reject_unknown_recipient_domain,
    reject_unknown_client_hostname,
    reject_unknown_reverse_client_hostname,
    reject_unauth_pipelining,
    reject_multi_recipient_bounce,
    reject_plaintext_session,
    reject_sender_login_mismatch,
    reject_authenticated_sender_login_mismatch,
    reject_unauthenticated_sender_login_mismatch,
    reject_known_sender_login_mismatch,
    reject_rbl_client,
    reject_rhsbl_client,
    reject_rhsbl_reverse_client,
    reject_rhsbl_helo,
    reject_rhsbl_sender,
    reject_rhsbl_recipient,
    check_client_access,
    check_reverse_client_hostname_access,
    check_helo_access,
    check_sender_access,
    check_recipient_access,
    check_sasl_access,
    check_ccert_access,
    check_etrn_access,
    check_client_server_access,            ///< check_client_{a,mx,ns}_access, and so on: see Rule::record
    check_reverse_client_server_access,
    check_helo_server_access,
    check_sender_server_access,
    check_recipient_server_access,
    reject_unverified_sender,
    reject_unverified_recipient,
    check_policy_service,
    sleep,
    restriction_class,
};

struct Rule;

/// One compiled list.
class RestrictionList {
public:
    /// `parameter` is for messages; `context` outlives the list.  Errors: config, and those of open_table().
    static Result<RestrictionList> compile(const std::string& parameter, std::string_view rules, Stage stage,
                                           const RuleContext& context, int depth = 0);

    /// First rule that decides.  `effects` collects actions, `deferral` what settle() looks at when the last list has been
    /// evaluated; a permanent refusal is turned into deferral.if_reject here.
    Task<Verdict> evaluate(const Subject& subject, SideEffects& effects, Deferral& deferral) const;
    /// smtpd_reject_unlisted_recipient: what reject_unlisted_recipient would say at the end of all lists.
    Verdict judge_unlisted_recipient(const Subject& subject) const { return judge_unlisted(RuleKind::reject_unlisted_recipient, subject); }
    /// smtpd_reject_unlisted_sender, likewise.
    Verdict judge_unlisted_sender(const Subject& subject) const { return judge_unlisted(RuleKind::reject_unlisted_sender, subject); }
    /// What a client is told that the lists would let in.
    static Verdict settle(Verdict verdict, const Deferral& deferral);

    const std::vector<Rule>& rules() const { return rules_; }
    bool empty() const { return rules_.empty(); }

private:
    Verdict judge_unlisted(RuleKind kind, const Subject& subject) const;

    std::vector<Rule> rules_;
    const RuleContext* context_ = nullptr;
};

struct Rule {
    RuleKind kind = RuleKind::permit;
    Stage stage = Stage::client;
    std::string name;                        ///< as written
    std::string argument;                    ///< table, domain, server, seconds
    std::uint16_t record = 0;                ///< check_*_server_access: which DNS records (a DnsType)
    std::unique_ptr<TableList> table;        ///< check_*_access
    std::unique_ptr<RestrictionList> list;   ///< restriction_class
    std::shared_ptr<const PolicyServer> policy;   ///< check_policy_service; kept too by what waits for its answer
};

/// The parts of an access(5) action: used for tables and policy servers.
struct Action {
    std::string name;   ///< upper case
    std::string text;   ///< the rest, trimmed
};
Action parse_action(std::string_view value);

}  // namespace postern::smtpd
