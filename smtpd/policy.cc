/// check_policy_service: Postfix's policy delegation protocol (SMTPD_POLICY_README).
///
/// One request is attribute lines and an empty line; the answer is "action=..." and an empty line.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/mail/xtext.h"
#include "lib/stream/stream.h"
#include "smtpd/policy_servers.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

/// Values go on a line of their own: what would break the protocol is replaced.
void attribute(std::string& out, std::string_view name, std::string_view value) {
    out += name;
    out += '=';
    for (const char c : value) {
        out += c == '\n' || c == '\0' ? '?' : c;
    }
    out += '\n';
}

void tls_attributes(std::string& out, const Evaluation& evaluation) {
    const TlsInfo* tls = evaluation.subject.tls;
    const std::vector<std::string> prints = certificate_fingerprints(evaluation);
    attribute(out, "ccert_subject", tls != nullptr ? xtext_encode(tls->peer_subject) : "");
    attribute(out, "ccert_issuer", tls != nullptr ? xtext_encode(tls->peer_issuer) : "");
    attribute(out, "ccert_fingerprint", prints.empty() ? "" : prints[0]);
    attribute(out, "ccert_pubkey_fingerprint", prints.empty() ? "" : prints[1]);
    attribute(out, "encryption_protocol", tls != nullptr ? tls->protocol : "");
    attribute(out, "encryption_cipher", tls != nullptr ? tls->cipher : "");
    attribute(out, "encryption_keysize", std::to_string(tls != nullptr ? tls->used_bits : 0));
}

std::string request_for(const Evaluation& evaluation, const PolicyServer& server) {
    const Subject& subject = evaluation.subject;
    const Config& config = *evaluation.context.config;
    const bool counted = subject.command == "DATA" || subject.command == "BDAT" || subject.command == "END-OF-MESSAGE";
    std::string out;
    attribute(out, "request", "smtpd_access_policy");
    attribute(out, "protocol_state", subject.command);
    attribute(out, "protocol_name", subject.protocol);
    attribute(out, "client_address", subject.client_address);
    attribute(out, "client_name", subject.client_name);
    attribute(out, "client_port", subject.client_port);
    attribute(out, "reverse_client_name", subject.reverse_name);
    attribute(out, "server_address", subject.server_address);
    attribute(out, "server_port", subject.server_port);
    attribute(out, "helo_name", subject.helo);
    attribute(out, "sender", subject.sender.value_or(""));
    attribute(out, "recipient", subject.recipient.value_or(""));
    attribute(out, "recipient_count", std::to_string(counted ? subject.recipient_count : 0));
    attribute(out, "queue_id", "");
    attribute(out, "instance", subject.instance);
    attribute(out, "size", std::to_string(subject.size));
    attribute(out, "etrn_domain", subject.etrn_domain);
    attribute(out, "stress", config.stress());
    attribute(out, "sasl_method", subject.sasl_method);
    attribute(out, "sasl_username", subject.sasl_username);
    attribute(out, "sasl_sender", subject.sasl_sender);
    tls_attributes(out, evaluation);
    attribute(out, "policy_context", server.policy_context);
    attribute(out, "compatibility_level", config.compatibility_level());
    attribute(out, "mail_version", config.mail_version());
    return out + "\n";
}

}  // namespace

Task<Verdict> evaluate_policy(const Rule& rule, Evaluation& evaluation) {
    const std::shared_ptr<const PolicyServer> server = rule.policy;
    std::string request = request_for(evaluation, *server);
    Result<std::string> answer = co_await evaluation.context.policy_servers->ask(server, std::move(request));
    const Action action = parse_action(answer ? *answer : server->default_action);
    const Judged judged = judged_for(RuleKind::check_policy_service, evaluation);
    co_return co_await carry_out(action, judged, evaluation);
}

}  // namespace postern::smtpd
