/// AUTH (RFC 4954) and STARTTLS (RFC 3207).
#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "smtpd/session.h"

namespace postern::smtpd {

Task<> Session::starttls(const Command& command) {
    if (!command.argument.empty()) {
        co_return co_await refuse("501 5.5.4 Syntax: STARTTLS");
    }
    if (client_.tls() != nullptr) {
        co_return co_await refuse("554 5.5.1 Error: TLS already active");
    }
    if (server_.tls() == nullptr || keyword_hidden("STARTTLS")) {
        co_return co_await refuse("502 5.5.1 Error: command not implemented");
    }
    const long too_fast = co_await counted_.look(ClientEvent::tls);
    if (too_fast > 0) {
        log_warning("Refusing STARTTLS request from {} for service {}", info_.text(), server_.service_name());
        co_return co_await refuse(fmt::format("454 4.7.0 Error: too many new TLS sessions from {}", info_.text()));
    }
    co_await reply("220 2.0.0 Ready to start TLS");
    Result<void> flushed = co_await client_.flush(config_.smtpd_starttls_timeout());
    if (!flushed) {
        finished_ = true;
        co_return co_await end_of_conversation(flushed.error());
    }
    Result<void> secured = co_await client_.start_tls(*server_.tls(), config_.smtpd_starttls_timeout());
    if (!secured) {
        log_info("SSL_accept error from {}: {}", info_.text(), secured.error().what);
        if (secured.error().code == Errc::io) {
            log_warning("TLS library problem: {}", secured.error().what);
        }
        finished_ = true;
        Error gone(Errc::closed, "lost connection");
        co_return co_await end_of_conversation(gone);
    }
    log_tls_session();
    co_await count_tls_session();
    // RFC 3207 section 4.2: what was said in the clear is forgotten.
    reset_transaction();
    helo_.clear();
    esmtp_ = false;
    sasl_ = SaslState{};
}

/// smtpd_tls_loglevel, smtpd_tls_loglevel_maps.
void Session::log_tls_session() {
    const std::string name = info_.name == "unknown" ? std::string() : info_.name;
    if (server_.tls_log_level().of({name, info_.address}) < 1) {
        return;
    }
    const TlsInfo& tls = *client_.tls();
    log_info("{} TLS connection {} from {}{}: {}{}{}", tls.peer_subject.empty() ? "Anonymous" : (tls.peer_verified ? "Trusted" : "Untrusted"),
             tls.resumed ? "reused" : "established", info_.text(), tls.server_name.empty() ? "" : " to " + printable(tls.server_name, 255),
             tls.cipher_text, tls.exchange_text.empty() ? "" : " ", tls.exchange_text);
}

/// A full handshake has been made: it is what costs, so a resumed session does not count.
Task<> Session::count_tls_session() {
    const TlsInfo* tls = client_.tls();
    if (tls == nullptr || tls->resumed) {
        co_return;
    }
    const long rate = co_await counted_.count(ClientEvent::tls);
    if (rate > 0) {
        log_warning("New TLS session rate limit exceeded: {} from {} for service {}", rate, info_.text(),
                    server_.service_name());
        co_await reply(fmt::format("421 4.7.0 {} Error: too many new TLS sessions from {}", config_.myhostname(), info_.text()));
        finished_ = true;
    }
}

Task<> Session::auth(const Command& command) {
    const bool tls_active = client_.tls() != nullptr;
    const Result<bool> excepted = server_.clients().sasl_exceptions.matches(info_.name, info_.address);
    if (!config_.smtpd_sasl_auth_enable() || keyword_hidden("AUTH") || !excepted || *excepted) {
        co_return co_await refuse("503 5.5.1 Error: authentication not enabled");
    }
    if (helo_.empty()) {
        co_return co_await refuse("503 5.5.1 Error: send HELO/EHLO first");
    }
    if (server_.auth_needs_tls() && !tls_active && !info_.local) {
        co_return co_await refuse("538 5.7.11 Encryption required for requested authentication mechanism", Trouble::policy);
    }
    if (sasl_.authenticated()) {
        co_return co_await refuse("503 5.5.1 Error: already authenticated");
    }
    if (mail_) {
        co_return co_await refuse("503 5.5.1 Error: MAIL transaction in progress");
    }
    const std::vector<std::string> words = split(command.argument, " \t");
    if (words.empty() || words.size() > 2) {
        co_return co_await refuse("501 5.5.4 Syntax: AUTH mechanism");
    }
    const bool too_many = co_await over_limit(ClientEvent::auth);
    if (too_many) {
        co_return;
    }
    const std::string mechanism = to_upper(words[0]);
    const std::vector<std::string> offered = co_await server_.sasl_mechanisms(tls_active);
    if (std::find(offered.begin(), offered.end(), mechanism) == offered.end()) {
        log_warning("{}: SASL {} authentication failed: Invalid authentication mechanism", info_.text(),
                    printable(mechanism, 40));
        co_return co_await refuse("535 5.7.8 Error: authentication failed: Invalid authentication mechanism", std::nullopt);
    }
    std::optional<std::string> initial;
    if (words.size() == 2) {
        initial = words[1] == "=" ? std::string() : base64_decode(words[1]);
        if (!initial) {
            co_return co_await refuse("501 5.5.2 Error: cannot decode response: bad Base64");
        }
    }
    const std::optional<std::string> problem = co_await sasl_exchange(command, mechanism, std::move(initial));
    if (!problem) {
        secrets_follow_ = false;
        co_await reply("235 2.7.0 Authentication successful");
    } else if (!problem->empty()) {
        co_await refuse(*problem, std::nullopt);
    }
}

/// The dialogue itself.  Nothing: the client is in.  Text: what to answer; empty when the client is gone.
Task<std::optional<std::string>> Session::sasl_exchange(const Command&, std::string_view mechanism,
                                                        std::optional<std::string> initial) {
    AuthPeer peer;
    peer.service = config_.smtpd_sasl_service();
    peer.remote_ip = info_.address;
    peer.local_ip = info_.server_address;
    peer.secured = client_.tls() != nullptr;
    SaslServerSession sasl(server_.auth());
    SaslStep step = co_await sasl.start(std::string(mechanism), std::move(initial), std::move(peer));
    while (step.kind == SaslStep::Kind::challenge) {
        co_await reply("334 " + base64_encode(step.data));
        const auto limit = static_cast<std::size_t>(config_.smtpd_sasl_response_limit());
        Result<std::string> line = co_await next_line(limit);
        if (!line && line.error().code == Errc::too_big) {
            co_return std::string("500 5.5.6 Error: authentication exchange line too long");   // RFC 4954 section 4
        }
        if (!line) {
            const Error error = line.error();
            co_await end_of_conversation(error);
            finished_ = true;
            co_return std::string();
        }
        note_response(*line);
        if (*line == "*") {
            co_return std::string("501 5.7.0 Authentication aborted");
        }
        std::optional<std::string> response = base64_decode(*line);
        if (!response) {
            co_return std::string("501 5.5.2 Error: cannot decode response: bad Base64");
        }
        step = co_await sasl.next(std::move(*response));
    }
    if (step.kind == SaslStep::Kind::success) {
        sasl_.username = step.user;
        sasl_.method = mechanism;
        co_return std::nullopt;
    }
    const bool temporary = step.reason == AuthFailureReason::temporary;
    log_warning("{}: SASL {} authentication failed: {}{}", info_.text(), mechanism,
                temporary ? "Connection lost to authentication server" : "authentication failure",
                step.user.empty() ? "" : ", sasl_username=" + printable(step.user, 255));
    if (temporary) {
        co_return std::string("454 4.7.0 Temporary authentication failure: Connection lost to authentication server");
    }
    co_return std::string("535 5.7.8 Error: authentication failed: authentication failure");
}

}  // namespace postern::smtpd
