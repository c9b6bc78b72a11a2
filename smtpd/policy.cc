/// check_policy_service: Postfix's policy delegation protocol (SMTPD_POLICY_README).
///
/// One request is attribute lines and an empty line; the answer is "action=..." and an empty line.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "lib/stream/stream.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {

namespace {

const char* stage_name(Stage stage) {
    switch (stage) {
    case Stage::client:
        return "CONNECT";
    case Stage::helo:
        return "HELO";
    case Stage::sender:
        return "MAIL";
    case Stage::recipient:
        return "RCPT";
    case Stage::data:
        return "DATA";
    case Stage::end_of_data:
        return "END-OF-MESSAGE";
    case Stage::etrn:
        return "ETRN";
    }
    return "";
}

/// Values go on a line of their own: what would break the protocol is replaced.
void attribute(std::string& out, std::string_view name, std::string_view value) {
    out += name;
    out += '=';
    for (const char c : value) {
        out += c == '\n' || c == '\0' ? '?' : c;
    }
    out += '\n';
}

std::string request_for(const Evaluation& evaluation) {
    const Subject& subject = evaluation.subject;
    std::string out;
    attribute(out, "request", "smtpd_access_policy");
    // With smtpd_delay_reject all lists are evaluated at RCPT; the policy server is told where the client is.
    attribute(out, "protocol_state", subject.recipient ? "RCPT" : stage_name(evaluation.stage));
    attribute(out, "protocol_name", subject.protocol);
    attribute(out, "client_address", subject.client_address);
    attribute(out, "client_name", subject.client_name);
    attribute(out, "reverse_client_name", subject.reverse_name);
    attribute(out, "helo_name", subject.helo);
    attribute(out, "sender", subject.sender.value_or(""));
    attribute(out, "recipient", subject.recipient.value_or(""));
    attribute(out, "recipient_count", std::to_string(subject.recipient_count));
    attribute(out, "queue_id", "");
    attribute(out, "instance", subject.instance);
    attribute(out, "size", std::to_string(subject.size));
    attribute(out, "etrn_domain", "");
    attribute(out, "stress", evaluation.context.config->stress());
    attribute(out, "sasl_method", subject.sasl_method);
    attribute(out, "sasl_username", subject.sasl_username);
    attribute(out, "sasl_sender", "");
    attribute(out, "encryption_protocol", subject.tls ? "TLS" : "");
    attribute(out, "policy_context", evaluation.context.config->smtpd_policy_service_policy_context());
    return out + "\n";
}

/// "inet:host:port" with a numeric host or localhost.
Result<UniqueFd> start_inet(const std::string& where) {
    const std::size_t colon = where.rfind(':');
    std::string host = colon == std::string::npos ? "127.0.0.1" : where.substr(0, colon);
    const auto port = parse_number(where.substr(colon == std::string::npos ? 0 : colon + 1));
    if (host == "localhost") {
        host = "127.0.0.1";
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (!port || *port == 0 || *port > 65535 || ::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
        return Error(Errc::config, "policy server \"inet:" + where + "\": want inet:IPv4-address:port");
    }
    address.sin_port = htons(static_cast<std::uint16_t>(*port));
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return errno_error("socket");
    }
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
        return errno_error("connect " + where);
    }
    return fd;
}

Task<Result<UniqueFd>> connect_policy(std::string server, Millis timeout) {
    if (starts_with_ignoring_case(server, "unix:")) {
        co_return co_await connect_unix(server.substr(5), timeout);
    }
    if (starts_with_ignoring_case(server, "inet:")) {
        co_return start_inet(server.substr(5));
    }
    co_return Error(Errc::config, "policy server \"" + server + "\": want unix:path or inet:address:port");
}

Task<Result<std::string>> ask(std::string server, std::string request, Millis timeout) {
    Result<UniqueFd> fd = co_await connect_policy(server, timeout);
    if (!fd) {
        co_return fd.error();
    }
    const std::unique_ptr<Stream> stream = make_socket_stream(std::move(*fd));
    stream->write(request);
    std::string action;
    for (;;) {
        Result<std::string> line = co_await stream->read_line(4096, timeout);
        if (!line) {
            co_return Error(Errc::temporary, "policy server " + server + ": " + line.error().what);
        }
        if (line->empty()) {
            break;
        }
        if (line->compare(0, 7, "action=") == 0) {
            action = line->substr(7);
        }
    }
    if (action.empty()) {
        co_return Error(Errc::temporary, "policy server " + server + ": no action in its answer");
    }
    co_return action;
}

}  // namespace

Task<Verdict> evaluate_policy(const Rule& rule, Evaluation& evaluation) {
    const Config& config = *evaluation.context.config;
    // "{ inet:host:port, timeout=10s, default_action=DUNNO }" or the server alone.
    std::string text = rule.argument;
    if (!text.empty() && text.front() == '{') {
        text = text.substr(1, text.rfind('}') - 1);
    }
    const std::vector<std::string> words = split_list(text);
    std::string fallback = config.smtpd_policy_service_default_action();
    for (const std::string& word : words) {
        if (word.compare(0, 15, "default_action=") == 0) {
            fallback = word.substr(15);
            if (fallback.size() > 2 && fallback.front() == '{') {
                fallback = fallback.substr(1, fallback.size() - 2);
            }
        }
    }
    const std::string request = request_for(evaluation);
    const std::string server = words.empty() ? std::string() : words[0];
    const long tries = config.smtpd_policy_service_try_limit();
    std::string answer = fallback;
    for (long attempt = 1; attempt <= tries; ++attempt) {
        Result<std::string> got = co_await ask(server, request, config.smtpd_policy_service_timeout());
        if (got) {
            answer = *got;
            break;
        }
        log_warning("{}", got.error().what);
        if (attempt < tries) {
            co_await sleep_for(config.smtpd_policy_service_retry_delay());
        }
    }
    const Action action = parse_action(answer);
    const Judged judged = judged_for(RuleKind::check_policy_service, evaluation);
    co_return co_await carry_out(action, judged, evaluation);
}

}  // namespace postern::smtpd
