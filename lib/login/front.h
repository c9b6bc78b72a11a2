/// What the fronts of mailbox protocols (imapd, pop3d) share: TLS, logging in, log lines, handing over.
///
/// A front has one LoginFront.  Each client is one LoginConnection, driven by the protocol's own coroutine:
///
///     Task<> serve(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front) {
///         LoginConnection client(front, std::move(stream), std::move(addresses));
///         ...greeting, commands...
///         const LoginResult result = co_await client.login(user, password);      // or authenticate(...)
///         if (result.ok()) {
///             const bool gone = co_await client.hand_over(tag);   // relays to the end for TLS
///             if (gone) { co_return; }
///             ...NO [UNAVAILABLE]...
///         }
///         ...at the end: client.log_disconnect("Disconnected");
///     }
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/login/session_messages.h"
#include "lib/sasl/auth_client.h"
#include "lib/stream/stream.h"
#include "lib/stream/tls.h"

namespace postern {

class Config;

struct LoginAddresses {
    std::string remote_ip, local_ip;   ///< without brackets; empty for a Unix socket
    std::uint32_t remote_port = 0, local_port = 0;
};

/// Shared by all connections of a front process.
class LoginFront {
public:
    /// `service` is "imap" or "pop3"; `session_socket` the launcher's, such as "private/imap-session".
    /// Reads keys and certificates (ssl_cert_file ...), so call it before rights are given up.
    /// Errors: config.
    static Result<std::unique_ptr<LoginFront>> create(const Config& config, std::string service,
                                                      std::string session_socket);
    ~LoginFront();

    const Config& config() const { return config_; }
    const std::string& service() const { return service_; }
    /// Null when no certificate is configured or ssl = no: do not offer STARTTLS then.
    TlsContext* tls() { return tls_.get(); }
    /// ssl = required: no login without TLS, whatever the mechanism.
    bool tls_required() const { return tls_required_; }
    AuthClient& auth() { return auth_; }
    /// login_trusted_networks: connections from there count as secured.
    bool trusts(std::string_view remote_ip) const;
    /// The process ends soon: wakes connections that wait for a client before login, so that they say goodbye (see
    /// LoginConnection::wait_command).  Those that are relayed end when their session process does.
    void stop();
    bool stopping() const { return stopping_; }

private:
    friend class LoginConnection;
    class Launchers;                   // connections to the session launcher
    LoginFront(const Config& config, std::string service, std::string session_socket);
    Result<void> open_tls();
    const Config& config_;
    std::string service_;
    std::unique_ptr<TlsContext> tls_;
    bool tls_required_ = false;
    std::vector<std::string> trusted_;
    AuthClient auth_;
    std::unique_ptr<Launchers> launchers_;
    std::set<class LoginConnection*> connections_;   ///< each enters and leaves by itself
    bool stopping_ = false;
};

struct LoginResult {
    enum class Kind : unsigned char {
        accepted,        ///< hand_over() now
        refused,         ///< [AUTHENTICATIONFAILED] Authentication failed.   POP3: [AUTH]
        temporary,       ///< [UNAVAILABLE] Temporary authentication failure.  POP3: [SYS/TEMP]
        disabled,        ///< `text` from the user database; POP3: [AUTH]
        not_secured,     ///< [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.
        bad_mechanism,   ///< Unsupported authentication mechanism.
        cancelled,       ///< the client sent "*": BAD (IMAP), -ERR (POP3)
        malformed,       ///< not base64, or not a message of the mechanism
        lost,            ///< the client is gone or was silent too long: end
        too_many_tries,  ///< say goodbye and end: the attempt failed and was one too many
    };
    Kind kind = Kind::temporary;
    std::string text;    ///< what to tell the client, in Dovecot's words, without response code
    bool ok() const { return kind == Kind::accepted; }
};

/// One client before its session.
class LoginConnection {
public:
    LoginConnection(LoginFront& front, std::unique_ptr<Stream> stream, LoginAddresses addresses);
    ~LoginConnection();
    LoginConnection(const LoginConnection&) = delete;
    LoginConnection& operator=(const LoginConnection&) = delete;

    Stream& stream() { return *stream_; }
    const LoginAddresses& addresses() const { return addresses_; }
    const std::string& session_id() const { return session_id_; }
    /// TLS, the same machine (remote and local address are equal), or login_trusted_networks.
    bool secured() const;
    bool can_start_tls() const { return front_.tls() != nullptr && stream_->tls() == nullptr; }
    /// Whether USER/PASS, LOGIN and PLAIN are to be offered now (disable_plaintext_auth).
    bool plaintext_allowed() const;

    /// After the protocol's go-ahead was written (it is flushed here); also first thing on ports 993 and 995.
    /// On failure it has logged why; end the connection.
    Task<Result<void>> start_tls();

    /// Mechanisms to advertise on this connection now; empty when auth(8) is not there.
    Task<std::vector<std::string>> mechanisms();

    /// Waits for the first byte of a command: ready, closed, timed_out; interrupted when the process is ending: say
    /// goodbye.
    Task<Wake> wait_command(Millis patience);

    /// A LOGIN or USER/PASS command.
    Task<LoginResult> login(std::string user, std::string password);
    /// AUTHENTICATE and AUTH (RFC 9051 section 6.2.2, RFC 5034): the exchange with the client, "+ base64" each
    /// time.  `initial_response` is as the client wrote it: base64, or "=" for an empty one.
    Task<LoginResult> authenticate(std::string mechanism, std::optional<std::string> initial_response);

    /// After an accepted login: gives the client to its session process and logs the Login: line.  `prelude`
    /// goes to the session as it is.  True: the client is not ours any more (with TLS: this call relayed until
    /// it ended), or, in the clear, a session process may or may not have it, so that it was disconnected; just return.
    /// False: nothing could take it (logged); the client waits for a negative answer.
    /// References to stream() from before the call are void either way.
    Task<bool> hand_over(std::string prelude);

    /// The line at the end of a connection that did not log in, in Dovecot's shape:
    /// "imap-login: <what> (auth failed, 2 attempts in 5 secs): user=<>, method=.., rip=.., lip=.., session=<..>".
    /// `what` is "Disconnected", "Disconnected: Inactivity", "Aborted login" and so on.
    void log_disconnect(std::string_view what);

private:
    friend class LoginFront;
    AuthPeer peer() const;
    Task<LoginResult> run_exchange(std::string mechanism, std::optional<std::string> initial_response, bool may_ask);
    Task<std::optional<LoginResult>> ask_client(const std::string& challenge, std::string& answer);
    LoginResult conclude(SaslStep step);
    LoginResult failed(LoginResult::Kind kind, std::string text);
    HandOver make_request(std::string prelude);
    Task<Result<std::uint32_t>> give_to_launcher(HandOver request);
    Task<bool> give_socket(HandOver request);
    Task<bool> give_relayed(HandOver request);
    Task<> relay(std::unique_ptr<Stream> session);
    void log_login(std::uint32_t pid) const;
    void log_line(std::string_view what, std::uint32_t pid) const;
    std::string elements(std::uint32_t pid) const;

    LoginFront& front_;
    std::unique_ptr<Stream> stream_;
    LoginAddresses addresses_;
    std::string session_id_;
    std::chrono::steady_clock::time_point started_;
    std::string user_;                 ///< last name tried
    std::string master_;               ///< who has logged in as user_, if somebody else
    std::string method_;
    std::string token_;
    unsigned attempts_ = 0;
    unsigned successes_ = 0;
    bool authenticating_ = false;
    bool tried_cleartext_ = false;
};

}  // namespace postern
