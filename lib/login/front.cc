#include "lib/login/front.h"

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "lib/login/launchers.h"
#include "lib/login/log_format.h"
#include "lib/login/networks.h"
#include "lib/tls/server_keys.h"

namespace postern {

namespace {

constexpr Millis kTlsPatience = std::chrono::seconds(60);
constexpr std::size_t kMaxResponseLine = kMaxSaslMessage / 3 * 4 + 4;
/// After so many refused attempts the connection ends: guessing must cost connections too.
constexpr unsigned kMaxAttempts = 10;
constexpr std::size_t kSessionIdBytes = 12;

constexpr const char* kFailed = "Authentication failed.";
constexpr const char* kTemporary = "Temporary authentication failure.";
constexpr const char* kNotSecured = "Cleartext authentication disallowed on non-secure (SSL/TLS) connections.";

}  // namespace

LoginFront::LoginFront(const Config& config, std::string service, std::string session_socket)
    : config_(config),
      service_(std::move(service)),
      trusted_(split_list(config.login_trusted_networks())),
      auth_("private/" + config.auth_service_name(), config.auth_request_timeout()),
      launchers_(std::make_unique<Launchers>(std::move(session_socket))) {}

LoginFront::~LoginFront() = default;

Result<std::unique_ptr<LoginFront>> LoginFront::create(const Config& config, std::string service,
                                                       std::string session_socket) {
    log_set_tag(config.login_syslog_name());
    std::unique_ptr<LoginFront> front(new LoginFront(config, std::move(service), std::move(session_socket)));
    if (Result<void> opened = front->open_tls(); !opened) {
        return opened.error();
    }
    return front;
}

Result<void> LoginFront::open_tls() {
    const std::string& ssl = config_.ssl();
    if (ssl != "yes" && ssl != "no" && ssl != "required") {
        return {Errc::config, fmt::format("parameter ssl: \"{}\" is not one of yes, no, required", printable(ssl, 80))};
    }
    TlsSettings settings;
    settings.cert_file = config_.ssl_cert_file();
    settings.key_file = config_.ssl_key_file();
    settings.chain_files = split_list(config_.ssl_chain_files());
    settings.protocols = ">=" + config_.ssl_min_protocol();
    settings.ciphers = config_.ssl_cipher_list();
    Result<ServerKeys> keys = open_server_keys(config_);
    if (!keys) {
        return keys.error();
    }
    settings.keys_for = std::move(*keys);
    tls_required_ = ssl == "required";
    const bool have_key = !settings.cert_file.empty() || !settings.chain_files.empty();
    if (ssl == "no" || (!have_key && !tls_required_)) {
        return {};
    }
    if (!have_key) {
        return {Errc::config, "parameter ssl: required, but ssl_cert_file and ssl_chain_files name no certificate"};
    }
    Result<std::unique_ptr<TlsContext>> context = TlsContext::server(settings);
    if (!context) {
        return context.error();
    }
    tls_ = std::move(*context);
    return {};
}

bool LoginFront::trusts(std::string_view remote_ip) const {
    return in_networks(remote_ip, trusted_);
}

void LoginFront::stop() {
    stopping_ = true;
    for (LoginConnection* const connection : std::set(connections_)) {
        if (connections_.count(connection) != 0 && connection->stream_) {
            connection->stream_->interrupt();
        }
    }
}

LoginConnection::LoginConnection(LoginFront& front, std::unique_ptr<Stream> stream, LoginAddresses addresses)
    : front_(front),
      stream_(std::move(stream)),
      addresses_(std::move(addresses)),
      session_id_(base64_encode(random_bytes(kSessionIdBytes))),
      started_(std::chrono::steady_clock::now()) {
    front_.connections_.insert(this);
}

LoginConnection::~LoginConnection() { front_.connections_.erase(this); }

bool LoginConnection::secured() const {
    return stream_->tls() != nullptr || addresses_.remote_ip == addresses_.local_ip ||
           front_.trusts(addresses_.remote_ip);
}

bool LoginConnection::plaintext_allowed() const {
    if (front_.tls_required() && stream_->tls() == nullptr) {
        return false;
    }
    return secured() || !front_.config().disable_plaintext_auth();
}

AuthPeer LoginConnection::peer() const {
    AuthPeer peer;
    peer.service = front_.service();
    peer.session_id = session_id_;
    peer.remote_ip = addresses_.remote_ip;
    peer.local_ip = addresses_.local_ip;
    peer.remote_port = addresses_.remote_port;
    peer.local_port = addresses_.local_port;
    peer.secured = secured();
    return peer;
}

Task<Result<void>> LoginConnection::start_tls() {
    Result<void> sent = co_await stream_->flush(kTlsPatience);
    if (!sent) {
        co_return sent;
    }
    Result<void> started = co_await stream_->start_tls(*front_.tls(), kTlsPatience);
    if (!started) {
        log_disconnect(fmt::format("Disconnected: TLS handshaking: {}", started.error().what));
    }
    co_return started;
}

Task<std::vector<std::string>> LoginConnection::mechanisms() {
    std::vector<std::string> offered;
    if (front_.tls_required() && stream_->tls() == nullptr) {
        co_return offered;
    }
    const Result<std::vector<std::string>> all = co_await front_.auth().mechanisms();
    if (!all) {
        log_warning("{}-login: {}", front_.service(), all.error().what);
        co_return offered;
    }
    for (const std::string& name : *all) {
        if (plaintext_allowed() || (name != "PLAIN" && name != "LOGIN")) {
            offered.push_back(name);
        }
    }
    co_return offered;
}

Task<Wake> LoginConnection::wait_command(Millis patience) {
    Wake wake = Wake::interrupted;
    while (wake == Wake::interrupted && !front_.stopping()) {
        wake = co_await stream_->wait_input(patience);
    }
    co_return wake;
}

Task<LoginResult> LoginConnection::login(std::string user, std::string password) {
    user_ = user;
    if (!plaintext_allowed()) {
        tried_cleartext_ = true;
        co_return LoginResult{LoginResult::Kind::not_secured, kNotSecured};
    }
    if (user.find('\0') != std::string::npos || password.find('\0') != std::string::npos) {
        co_return failed(LoginResult::Kind::refused, kFailed);
    }
    std::optional<std::string> response = plain_response(user, password);
    co_return co_await run_exchange("PLAIN", std::move(response), false);
}

Task<LoginResult> LoginConnection::authenticate(std::string mechanism, std::optional<std::string> initial_response) {
    std::string name = to_upper(mechanism);
    const bool plaintext = name == "PLAIN" || name == "LOGIN";
    if ((plaintext && !plaintext_allowed()) || (front_.tls_required() && stream_->tls() == nullptr)) {
        tried_cleartext_ = true;
        co_return LoginResult{LoginResult::Kind::not_secured, kNotSecured};
    }
    std::optional<std::string> bytes;
    if (initial_response) {
        bytes = *initial_response == "=" ? std::string() : base64_decode(*initial_response);
        if (!bytes) {
            co_return LoginResult{LoginResult::Kind::malformed, "Invalid base64 data in initial response"};
        }
    }
    co_return co_await run_exchange(std::move(name), std::move(bytes), true);
}

Task<LoginResult> LoginConnection::run_exchange(std::string mechanism, std::optional<std::string> initial_response,
                                                bool may_ask) {
    method_ = mechanism;
    authenticating_ = true;
    AuthPeer who = peer();
    SaslServerSession sasl(front_.auth());
    SaslStep step = co_await sasl.start(std::move(mechanism), std::move(initial_response), std::move(who));
    while (step.kind == SaslStep::Kind::challenge) {
        if (!may_ask) {
            co_return failed(LoginResult::Kind::refused, kFailed);
        }
        std::string answer;
        std::optional<LoginResult> ended = co_await ask_client(step.data, answer);
        if (ended) {
            authenticating_ = ended->kind == LoginResult::Kind::lost;
            co_return std::move(*ended);
        }
        step = co_await sasl.next(std::move(answer));
    }
    co_return conclude(std::move(step));
}

/// One challenge and its response.  A result when the exchange ends here; else `answer` is the response, decoded.
Task<std::optional<LoginResult>> LoginConnection::ask_client(const std::string& challenge, std::string& answer) {
    stream_->write("+ " + base64_encode(challenge) + "\r\n");
    const Result<std::string> line = co_await stream_->read_line(kMaxResponseLine, front_.config().login_timeout());
    if (!line && line.error().code != Errc::too_big) {
        co_return LoginResult{LoginResult::Kind::lost, ""};
    }
    if (line && *line == "*") {
        co_return LoginResult{LoginResult::Kind::cancelled, "Authentication aborted by client."};
    }
    std::optional<std::string> bytes = line ? base64_decode(*line) : std::nullopt;
    if (!bytes) {
        co_return LoginResult{LoginResult::Kind::malformed, "Invalid base64 data in continued response"};
    }
    answer = std::move(*bytes);
    co_return std::nullopt;
}

LoginResult LoginConnection::failed(LoginResult::Kind kind, std::string text) {
    ++attempts_;
    authenticating_ = false;
    return {attempts_ >= kMaxAttempts ? LoginResult::Kind::too_many_tries : kind, std::move(text)};
}

LoginResult LoginConnection::conclude(SaslStep step) {
    authenticating_ = false;
    if (!step.user.empty()) {
        user_ = step.user;
    }
    if (step.kind == SaslStep::Kind::success) {
        ++successes_;
        token_ = std::move(step.token);
        master_ = std::move(step.master);
        return {LoginResult::Kind::accepted, ""};
    }
    switch (step.reason) {
    case AuthFailureReason::bad_credentials:
        return failed(LoginResult::Kind::refused, kFailed);
    case AuthFailureReason::disabled:
        return failed(LoginResult::Kind::disabled, step.text.empty() ? kFailed : step.text);
    case AuthFailureReason::bad_mechanism:
        return {LoginResult::Kind::bad_mechanism, "Unsupported authentication mechanism."};
    case AuthFailureReason::malformed:
        return failed(LoginResult::Kind::malformed, "Invalid authentication data.");
    default:
        if (!step.text.empty()) {
            log_warning("{}-login: {}", front_.service(), step.text);
        }
        return failed(LoginResult::Kind::temporary, kTemporary);
    }
}

std::string LoginConnection::elements(std::uint32_t pid) const {
    LoginFacts facts;
    facts.user = user_;
    facts.auth_user = master_.empty() ? user_ : master_;
    facts.method = method_;
    facts.remote_ip = addresses_.remote_ip;
    facts.local_ip = addresses_.local_ip;
    facts.remote_port = addresses_.remote_port;
    facts.local_port = addresses_.local_port;
    facts.session_id = session_id_;
    facts.service = front_.service();
    facts.pid = pid;
    if (const TlsInfo* tls = stream_ ? stream_->tls() : nullptr) {
        facts.security = "TLS";
        facts.tls_protocol = tls->protocol;
        facts.tls_cipher = tls->cipher;
    } else if (addresses_.remote_ip == addresses_.local_ip || front_.trusts(addresses_.remote_ip)) {
        facts.security = "secured";
    }
    return login_elements(front_.config().login_log_format_elements(), facts);
}

void LoginConnection::log_line(std::string_view what, std::uint32_t pid) const {
    log_info("{}-login: {}", front_.service(), login_line(front_.config().login_log_format(), what, elements(pid)));
}

void LoginConnection::log_login(std::uint32_t pid) const {
    log_line("Login", pid);
}

void LoginConnection::log_disconnect(std::string_view what) {
    const auto seconds =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - started_).count();
    std::string why;
    if (successes_ > 0) {
        why = fmt::format("internal failure, {} successful auths", successes_);
    } else if (authenticating_) {
        why = fmt::format("disconnected while authenticating, waited {} secs", seconds);
    } else if (attempts_ > 0) {
        why = fmt::format("auth failed, {} attempts in {} secs", attempts_, seconds);
    } else if (tried_cleartext_) {
        why = "tried to use disallowed cleartext auth";
    } else {
        why = fmt::format("no auth attempts in {} secs", seconds);
    }
    log_line(fmt::format("{} ({})", what, why), 0);
}

}  // namespace postern
