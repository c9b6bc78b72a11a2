/// The asking side of auth(8), for programs on the event loop: smtpd, imapd and pop3d fronts, delivery.
///
///     AuthClient auth(config.queue_directory() + "/private/auth");          // one per process
///     SaslServerSession sasl(auth);
///     SaslStep step = co_await sasl.start("PLAIN", response, peer);
///     while (step.kind == SaslStep::Kind::challenge) { ... step = co_await sasl.next(answer); }
///
/// One connection to auth(8) is shared by all sessions of the process, made when first needed and made again when
/// it was lost.  What had no answer yet at that moment is asked again, so that an auth(8) which ends for a reload costs no
/// client its login; an exchange in which challenges have been answered fails with `temporary`.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/sasl/auth_messages.h"

namespace postern {

class AuthClient {
public:
    /// `path` is the socket, absolute or relative to the working directory.  `timeout` bounds each answer; it
    /// includes auth_failure_delay.  Nothing is connected yet.
    explicit AuthClient(std::string path, Millis timeout = Millis(60'000));
    ~AuthClient();

    /// What may be offered, upper case, preferred first: asked once, then kept until the connection is lost.
    /// Errors: temporary, when auth(8) cannot be reached.
    Task<Result<std::vector<std::string>>> mechanisms();

    /// The user database's entry.  Errors: not_found, temporary.
    Task<Result<AuthUser>> lookup(std::string user, std::string service);

private:
    friend class SaslServerSession;
    struct Connection;
    using Shared = std::shared_ptr<Connection>;   // also kept by its reading coroutine and by exchanges

    Task<Result<Shared>> connected();
    Task<Result<FromAuth>> ask(Shared connection, ToAuth request, std::uint32_t id);
    /// The first message of something: connects, and asks again when the connection is lost before the answer.
    /// `used` is where the answer came from.
    Task<Result<FromAuth>> ask_first(ToAuth request, std::uint32_t id, Shared& used);
    static Task<> read_answers(Shared connection);
    static Task<> send_cancel(Shared connection, std::uint32_t id);
    std::uint32_t new_id() { return ++last_id_; }

    std::string path_;
    Millis timeout_;
    std::uint32_t last_id_ = 0;
    Shared connection_;
    std::vector<std::string> mechanisms_;
};

/// How one step of an exchange came out.
struct SaslStep {
    enum class Kind : unsigned char {
        challenge,     ///< send `data` (bytes; the protocol base64-encodes it), pass the answer to next()
        success,       ///< `user` is in; `token` for the session launcher
        failure,       ///< `reason` says how to answer; `user` is for the log
    };
    Kind kind = Kind::failure;
    std::string data;
    std::string user;
    std::string token;
    std::string master;    ///< who has logged in as `user`; empty: himself
    AuthFailureReason reason = AuthFailureReason::temporary;
    std::string text;      ///< of a `disabled` account, may be shown to the client
};

/// One SASL exchange as the server sees it (RFC 4422).  Destroying it cancels.
class SaslServerSession {
public:
    explicit SaslServerSession(AuthClient& auth) : auth_(&auth) {}
    ~SaslServerSession();
    SaslServerSession(const SaslServerSession&) = delete;
    SaslServerSession& operator=(const SaslServerSession&) = delete;

    /// `initial_response` is bytes (already base64-decoded); nothing when the client sent none.  An empty one
    /// ("=" on the wire) is not nothing.  The name of the mechanism may be in any case.
    Task<SaslStep> start(std::string mechanism, std::optional<std::string> initial_response, AuthPeer peer);
    /// The client's answer to the last challenge, bytes.
    Task<SaslStep> next(std::string response);

private:
    SaslStep take(Result<FromAuth> answer);
    AuthClient* auth_;
    AuthClient::Shared connection_;   ///< the one the exchange began on
    std::uint32_t id_ = 0;
    bool open_ = false;
};

/// The one message of PLAIN (RFC 4616), for protocols with a LOGIN or PASS command of their own.
std::string plain_response(std::string_view user, std::string_view password);

}  // namespace postern
