/// The rules that need no table of their own: networks, destinations, names, addresses.
#include <fmt/format.h>

#include <ctime>

#include "lib/async/loop.h"
#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/stream/stream.h"
#include "lib/stream/tls.h"
#include "lib/table/address_lookup.h"
#include "lib/verify/client.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

Verdict permit_verdict() {
    Verdict out;
    out.outcome = Verdict::Outcome::permit;
    return out;
}

Verdict reject_with(const Evaluation&, int code, std::string dsn, std::string text) {
    Verdict out;
    out.outcome = Verdict::Outcome::reject;
    out.code = code;
    out.dsn = std::move(dsn);
    if (!out.dsn.empty()) {
        out.dsn[0] = static_cast<char>('0' + code / 100);
    }
    out.text = std::move(text);
    return out;
}

Verdict server_error(const Evaluation& evaluation) {
    Verdict out = reject_with(evaluation, 451, "4.3.5", "Server configuration error");
    out.trouble = Trouble::software;
    return out;
}

Verdict rejected(RuleKind kind, const Evaluation& evaluation, int code, std::string dsn, std::string_view why) {
    const Judged judged = judged_for(kind, evaluation);
    return reject_with(evaluation, code, std::move(dsn), fmt::format("{}: {} rejected: {}", judged.what, judged.subject, why));
}

Verdict defer_if_permit(Evaluation& evaluation, Verdict verdict) {
    if (evaluation.only_warn) {
        return verdict;
    }
    if (!evaluation.deferral.if_permit) {
        evaluation.deferral.if_permit = std::move(verdict);
    }
    return Verdict{};
}

Verdict defer_if_reject(Evaluation& evaluation, Verdict verdict) {
    if (evaluation.only_warn) {
        return verdict;
    }
    if (!evaluation.deferral.if_reject) {
        evaluation.deferral.if_reject = std::move(verdict);
    }
    return Verdict{};
}

Verdict soft_failure(Evaluation& evaluation, std::string_view action, Verdict verdict) {
    return equals_ignoring_case(action, "defer") ? verdict : defer_if_permit(evaluation, std::move(verdict));
}

Verdict lookup_failure(Evaluation& evaluation, const Judged& judged, const Error& error) {
    log_warning("{}", error.what);
    Verdict out = reject_with(evaluation, 451, "4.3.0",
                              judged.what.empty() ? "Temporary lookup failure" : judged.what + ": Temporary lookup failure");
    out.trouble = Trouble::data;
    return out;
}

Judged judged_for(RuleKind kind, const Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    const std::string client = subject.client_name + "[" + subject.client_address + "]";
    switch (kind) {
    case RuleKind::check_client_access:
    case RuleKind::check_sasl_access:
    case RuleKind::check_client_server_access:
    case RuleKind::permit_dnswl_client:
    case RuleKind::permit_rhswl_client:
        return {"<" + client + ">", "Client host"};
    case RuleKind::check_ccert_access:
        return {"<" + client + ">", "Client certificate"};
    case RuleKind::check_reverse_client_server_access:
        return {"<" + subject.reverse_name + ">", "Unverified Client host"};
    case RuleKind::check_reverse_client_hostname_access:
        return {"<" + subject.reverse_name + "[" + subject.client_address + "]>", "Unverified Client host"};
    case RuleKind::check_helo_access:
    case RuleKind::check_helo_server_access:
    case RuleKind::reject_invalid_helo_hostname:
    case RuleKind::reject_non_fqdn_helo_hostname:
    case RuleKind::reject_unknown_helo_hostname:
        return {"<" + subject.helo + ">", "Helo command"};
    case RuleKind::check_sender_access:
    case RuleKind::check_sender_server_access:
    case RuleKind::reject_unlisted_sender:
    case RuleKind::reject_non_fqdn_sender:
    case RuleKind::reject_unverified_sender:
    case RuleKind::reject_unknown_sender_domain:
    case RuleKind::reject_sender_login_mismatch:
    case RuleKind::reject_authenticated_sender_login_mismatch:
    case RuleKind::reject_unauthenticated_sender_login_mismatch:
    case RuleKind::reject_known_sender_login_mismatch:
        return {"<" + subject.sender.value_or("") + ">", "Sender address"};
    case RuleKind::check_recipient_access:
    case RuleKind::check_recipient_server_access:
    case RuleKind::permit_mx_backup:
    case RuleKind::reject_unverified_recipient:
    case RuleKind::reject_unlisted_recipient:
    case RuleKind::reject_non_fqdn_recipient:
    case RuleKind::reject_unknown_recipient_domain:
    case RuleKind::reject_unauth_destination:
    case RuleKind::defer_unauth_destination:
        return {"<" + subject.recipient.value_or("") + ">", "Recipient address"};
    default:
        break;
    }
    switch (evaluation.stage) {
    case Stage::client:
        return {"<" + client + ">", "Client host"};
    case Stage::helo:
        return {"<" + subject.helo + ">", "Helo command"};
    case Stage::sender:
        return {"<" + subject.sender.value_or("") + ">", "Sender address"};
    case Stage::recipient:
        return {"<" + subject.recipient.value_or("") + ">", "Recipient address"};
    case Stage::data:
        return {"<DATA>", "Data command"};
    case Stage::end_of_data:
        return {"<END-OF-MESSAGE>", "End-of-data"};
    case Stage::etrn:
        return {"<" + subject.etrn_domain + ">", "Etrn command"};
    }
    return {"", "Command"};
}

namespace {

Result<bool> in_list(MatchList* list, const Subject& subject) {
    if (list == nullptr || subject.client_address.empty()) {
        return false;
    }
    return list->matches(subject.client_name, subject.client_address);
}

std::string_view domain_of(std::string_view address) {
    return split_address(address).domain;
}

}  // namespace

/// The domain is ours, and nobody hides another destination in the local part.
Result<bool> authorized_destination(const Evaluation& evaluation, const std::string& recipient) {
    if (recipient.empty() || domain_of(recipient).empty()) {
        return true;   // local: postmaster and friends
    }
    Result<Route> route = evaluation.context.router->resolve(evaluation.subject.sender.value_or(""), recipient);
    if (!route) {
        return route.error();
    }
    if (route->source_routed && !evaluation.context.config->allow_untrusted_routing()) {
        return false;
    }
    return route->address_class != AddressClass::other;
}

std::vector<std::string> certificate_fingerprints(const Evaluation& evaluation) {
    const TlsInfo* tls = evaluation.subject.tls;
    std::vector<std::string> out;
    if (tls == nullptr || tls->peer_certificate.empty()) {
        return out;
    }
    for (const std::string& bytes : {tls->peer_certificate, tls->peer_public_key}) {
        Result<std::string> print = fingerprint(bytes, evaluation.context.config->smtpd_tls_fingerprint_digest());
        if (!print) {
            log_warning("smtpd_tls_fingerprint_digest: {}", print.error().what);
            return {};
        }
        out.push_back(std::move(*print));
    }
    return out;
}

namespace {

/// qmgr takes these in and throws them away, so that whoever probes the sender of our notices and probes finds it good.
bool absorbed(const Config& config, const std::string& address) {
    const AddressParts parts = split_address(address);
    const bool ours = parts.domain.empty() || equals_ignoring_case(parts.domain, config.myorigin()) ||
                      equals_ignoring_case(parts.domain, config.myhostname());
    return (ours && equals_ignoring_case(parts.local, config.double_bounce_sender())) ||
           verify::is_probe_sender(config, address, std::time(nullptr));
}

/// What would otherwise have bounced.
Verdict unlisted(Verdict verdict) {
    verdict.trouble = Trouble::bounce;
    return verdict;
}

}  // namespace

Verdict judge_listed(RuleKind kind, Evaluation& evaluation) {
    const Config& config = *evaluation.context.config;
    const bool is_sender = kind == RuleKind::reject_unlisted_sender;
    const auto& address = is_sender ? evaluation.subject.sender : evaluation.subject.recipient;
    if (!address || address->empty() || (!is_sender && absorbed(config, *address))) {
        return Verdict{};
    }
    Router& router = *evaluation.context.router;
    Result<Listing> listing = is_sender ? router.sender_known(*address) : router.recipient_known(*address);
    if (!listing) {
        return lookup_failure(evaluation, judged_for(kind, evaluation), listing.error());
    }
    if (listing->known) {
        return Verdict{};
    }
    std::string dsn = is_sender ? "5.1.0" : "5.1.1";
    if (!listing->error_text.empty()) {   // the error transport's reason, perhaps with a code in front
        dsn.front() = listing->reply_code < 500 ? '4' : '5';
        std::string_view text = listing->error_text;
        if (text.size() > 6 && text[1] == '.' && text[3] == '.' && text.find(' ') < 10) {
            dsn = text.substr(0, text.find(' '));
            text = trim(text.substr(text.find(' ')));
        }
        return unlisted(rejected(kind, evaluation, listing->reply_code, dsn, text));
    }
    const std::string why = config.show_user_unknown_table_name() ? "User unknown in " + listing->table_text : std::string("User unknown");
    return unlisted(rejected(kind, evaluation, listing->reply_code, dsn, why));
}

namespace {

Verdict unauth_destination(const Rule& rule, Evaluation& evaluation) {
    const std::string& recipient = evaluation.subject.recipient.value_or("");
    Result<bool> ours = authorized_destination(evaluation, recipient);
    if (!ours) {
        return lookup_failure(evaluation, judged_for(rule.kind, evaluation), ours.error());
    }
    if (*ours) {
        return Verdict{};
    }
    const bool defer = rule.kind == RuleKind::defer_unauth_destination;
    const int code = static_cast<int>(evaluation.context.config->relay_domains_reject_code()) - (defer ? 100 : 0);
    return reject_with(evaluation, code, "5.7.1", "<" + recipient + ">: Relay access denied");
}

/// Letters, digits, hyphens and dots; or an address literal.  Length and label rules as valid_hostname().
bool plausible_helo(std::string_view helo) {
    return valid_hostname(helo) || valid_address_literal(helo) || valid_ip_address(helo);
}

Verdict judge_helo(const Rule& rule, const Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    const Config& config = *evaluation.context.config;
    if (subject.helo.empty()) {
        return Verdict{};
    }
    if (rule.kind == RuleKind::reject_invalid_helo_hostname) {
        return plausible_helo(subject.helo) ? Verdict{}
                                            : rejected(rule.kind, evaluation,
                                                       static_cast<int>(config.invalid_hostname_reject_code()), "5.5.2",
                                                       "Invalid name");
    }
    const bool literal = valid_address_literal(subject.helo);
    const bool qualified = valid_hostname(subject.helo) && subject.helo.find('.') != std::string::npos;
    return literal || qualified ? Verdict{}
                                : rejected(rule.kind, evaluation, static_cast<int>(config.non_fqdn_reject_code()),
                                           "5.5.2", "need fully-qualified hostname");
}

Verdict judge_fqdn(const Rule& rule, const Evaluation& evaluation) {
    const auto& address = rule.kind == RuleKind::reject_non_fqdn_sender ? evaluation.subject.sender
                                                                        : evaluation.subject.recipient;
    if (!address || address->empty()) {
        return Verdict{};
    }
    const std::string_view domain = domain_of(*address);
    const bool postmaster = domain.empty() && equals_ignoring_case(*address, "postmaster");
    const bool qualified = valid_address_literal(domain) ||
                           (valid_hostname(domain, true) && domain.find('.') != std::string_view::npos);
    return postmaster || qualified
               ? Verdict{}
               : rejected(rule.kind, evaluation, static_cast<int>(evaluation.context.config->non_fqdn_reject_code()),
                          "5.5.2", "need fully-qualified address");
}

Verdict unknown_client(const Rule& rule, const Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    const bool reverse_only = rule.kind == RuleKind::reject_unknown_reverse_client_hostname;
    const std::string& name = reverse_only ? subject.reverse_name : subject.client_name;
    if (name != "unknown" || subject.client_address.empty()) {
        return Verdict{};
    }
    const int code = subject.name_lookup_failed_softly
                         ? 450
                         : static_cast<int>(evaluation.context.config->unknown_client_reject_code());
    return reject_with(evaluation, code, reverse_only ? "4.7.1" : "4.7.25",
                       fmt::format("Client host rejected: cannot find your {}hostname, [{}]",
                                   reverse_only ? "reverse " : "", subject.client_address));
}

/// reject_*_sender_login_mismatch with smtpd_sender_login_maps.
Verdict login_mismatch(const Rule& rule, Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    if (!subject.sender || subject.sender->empty()) {
        return Verdict{};
    }
    const bool logged_in = !subject.sasl_username.empty();
    const Lookup found = find_sender_owners(evaluation, *subject.sender);
    if (!found) {
        return lookup_failure(evaluation, judged_for(rule.kind, evaluation), found.error());
    }
    const std::optional<std::string>& owners = *found;
    const bool check_authenticated = rule.kind != RuleKind::reject_unauthenticated_sender_login_mismatch;
    const bool check_unauthenticated = rule.kind == RuleKind::reject_sender_login_mismatch ||
                                       rule.kind == RuleKind::reject_unauthenticated_sender_login_mismatch ||
                                       rule.kind == RuleKind::reject_known_sender_login_mismatch;
    if (logged_in && check_authenticated) {
        if (!owners && rule.kind == RuleKind::reject_known_sender_login_mismatch) {
            return Verdict{};
        }
        for (const std::string& owner : split_list(owners.value_or(""))) {
            if (equals_ignoring_case(owner, subject.sasl_username)) {
                return Verdict{};
            }
        }
        return rejected(rule.kind, evaluation, 553, "5.7.1", "not owned by user " + subject.sasl_username);
    }
    if (!logged_in && check_unauthenticated && owners) {
        return rejected(rule.kind, evaluation, 553, "5.7.1", "not logged in");
    }
    return Verdict{};
}

Verdict permit_if(bool yes) {
    return yes ? permit_verdict() : Verdict{};
}

Verdict permit_network(MatchList* list, const Rule& rule, Evaluation& evaluation) {
    Result<bool> inside = in_list(list, evaluation.subject);
    if (!inside) {
        return lookup_failure(evaluation, judged_for(rule.kind, evaluation), inside.error());
    }
    return permit_if(*inside);
}

/// relay_clientcerts lists the certificate or its key; who signed it does not matter.
Verdict permit_certificate(const Rule& rule, Evaluation& evaluation) {
    for (const std::string& print : certificate_fingerprints(evaluation)) {
        Lookup found = evaluation.context.client_certificates->lookup(print);
        if (!found) {
            return lookup_failure(evaluation, judged_for(rule.kind, evaluation), found.error());
        }
        if (*found) {
            log_info("Relaying allowed for certified client: {}", printable(evaluation.subject.tls->peer_subject, 200));
            return permit_verdict();
        }
    }
    return Verdict{};
}

Verdict permit_destination(const Rule& rule, Evaluation& evaluation) {
    if (!evaluation.subject.recipient) {
        return Verdict{};
    }
    Result<bool> ours = authorized_destination(evaluation, *evaluation.subject.recipient);
    if (!ours) {
        return lookup_failure(evaluation, judged_for(rule.kind, evaluation), ours.error());
    }
    return permit_if(*ours);
}

Verdict flat_reject(const Evaluation& evaluation, long code, const char* dsn, std::string_view why) {
    const Judged judged = judged_for(RuleKind::reject, evaluation);
    return reject_with(evaluation, static_cast<int>(code), dsn,
                       fmt::format("{}: {} rejected: {}", judged.what, judged.subject, why));
}

/// Rules that decide at once, without waiting for anything.
Verdict evaluate_now(const Rule& rule, Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    const Config& config = *evaluation.context.config;
    switch (rule.kind) {
    case RuleKind::permit:
        return permit_verdict();
    case RuleKind::reject:
        return flat_reject(evaluation, config.reject_code(), "5.7.1", "Access denied");
    case RuleKind::defer:
        return flat_reject(evaluation, config.defer_code(), "4.7.1", "Try again later");
    case RuleKind::defer_if_permit:
        return defer_if_permit(evaluation, flat_reject(evaluation, 450, "4.7.0", "defer_if_permit requested"));
    case RuleKind::defer_if_reject:
        return defer_if_reject(evaluation, flat_reject(evaluation, 450, "4.7.0", "defer_if_reject requested"));
    case RuleKind::permit_mynetworks:
        return permit_network(evaluation.context.mynetworks, rule, evaluation);
    case RuleKind::permit_inet_interfaces:
        return permit_if(evaluation.context.router->is_own_address(subject.client_address));
    case RuleKind::permit_sasl_authenticated:
        return permit_if(!subject.sasl_username.empty());
    case RuleKind::permit_tls_all_clientcerts:
        return permit_if(subject.certificate_verified);
    case RuleKind::permit_tls_clientcerts:
        return permit_certificate(rule, evaluation);
    case RuleKind::permit_auth_destination:
        return permit_destination(rule, evaluation);
    case RuleKind::reject_unauth_destination:
    case RuleKind::defer_unauth_destination:
        return subject.recipient ? unauth_destination(rule, evaluation) : Verdict{};
    case RuleKind::reject_unlisted_recipient:
    case RuleKind::reject_unlisted_sender:
        return judge_listed(rule.kind, evaluation);
    case RuleKind::reject_invalid_helo_hostname:
    case RuleKind::reject_non_fqdn_helo_hostname:
        return judge_helo(rule, evaluation);
    case RuleKind::reject_non_fqdn_sender:
    case RuleKind::reject_non_fqdn_recipient:
        return judge_fqdn(rule, evaluation);
    case RuleKind::reject_unknown_client_hostname:
    case RuleKind::reject_unknown_reverse_client_hostname:
        return unknown_client(rule, evaluation);
    case RuleKind::reject_unauth_pipelining:
        return subject.pipelined_unexpectedly
                   ? flat_reject(evaluation, 503, "5.5.0", "Improper use of SMTP command pipelining")
                   : Verdict{};
    case RuleKind::reject_multi_recipient_bounce:
        return subject.sender && subject.sender->empty() && subject.recipient_count > 1
                   ? flat_reject(evaluation, config.multi_recipient_bounce_reject_code(), "5.5.3", "Multi-recipient bounce")
                   : Verdict{};
    case RuleKind::reject_plaintext_session:
        return subject.tls ? Verdict{}
                           : reject_with(evaluation, static_cast<int>(config.plaintext_reject_code()), "4.7.1",
                                         "Session encryption is required");
    default:
        return login_mismatch(rule, evaluation);
    }
}

}  // namespace

Task<Verdict> evaluate_rule(const Rule& rule, Evaluation& evaluation) {
    switch (rule.kind) {
    case RuleKind::check_client_access:
    case RuleKind::check_reverse_client_hostname_access:
    case RuleKind::check_helo_access:
    case RuleKind::check_sender_access:
    case RuleKind::check_recipient_access:
    case RuleKind::check_sasl_access:
    case RuleKind::check_ccert_access:
    case RuleKind::check_etrn_access:
        co_return co_await evaluate_access(rule, evaluation);
    case RuleKind::check_client_server_access:
    case RuleKind::check_reverse_client_server_access:
    case RuleKind::check_helo_server_access:
    case RuleKind::check_sender_server_access:
    case RuleKind::check_recipient_server_access:
        co_return co_await evaluate_server_access(rule, evaluation);
    case RuleKind::permit_mx_backup:
        co_return co_await evaluate_mx_backup(rule, evaluation);
    case RuleKind::reject_unverified_sender:
    case RuleKind::reject_unverified_recipient:
        co_return co_await evaluate_unverified(rule, evaluation);
    case RuleKind::check_policy_service:
        co_return co_await evaluate_policy(rule, evaluation);
    case RuleKind::reject_unknown_helo_hostname:
    case RuleKind::reject_unknown_sender_domain:
    case RuleKind::reject_unknown_recipient_domain:
        co_return co_await evaluate_unknown(rule, evaluation);
    case RuleKind::reject_rbl_client:
    case RuleKind::reject_rhsbl_client:
    case RuleKind::reject_rhsbl_reverse_client:
    case RuleKind::reject_rhsbl_helo:
    case RuleKind::reject_rhsbl_sender:
    case RuleKind::reject_rhsbl_recipient:
    case RuleKind::permit_dnswl_client:
    case RuleKind::permit_rhswl_client:
        co_return co_await evaluate_dns_list(rule, evaluation);
    case RuleKind::sleep:
        co_await sleep_for(Seconds(static_cast<long>(parse_number(rule.argument).value_or(0))));
        co_return Verdict{};
    case RuleKind::restriction_class:
        co_return co_await evaluate_rules(rule.list->rules(), evaluation);
    default:
        co_return evaluate_now(rule, evaluation);
    }
}

}  // namespace postern::smtpd
