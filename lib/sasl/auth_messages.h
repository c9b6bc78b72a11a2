/// What auth(8) is asked, on streams to private/auth, and what it answers.
///
/// One connection carries any number of requests at the same time; `id` is the asker's and comes back in every
/// answer.  An exchange is one AuthStart, then AuthContinue for each AuthChallenge, until AuthSuccess or
/// AuthFailure.  AuthCancel forgets an exchange and is not answered.  Closing the connection forgets all.
///
/// auth(8) trusts nobody on this socket: what it hands out for a success is a one-time token, which tells who
/// logged in to nobody but auth itself.  Only the session launcher's AuthRedeem turns it into rights.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace postern {

/// Bound of one message of this protocol.
inline constexpr std::size_t kMaxAuthMessage = 64 * 1024;
/// A SASL response or challenge, decoded (Postfix allows 12288 bytes of base64 and more).
inline constexpr std::size_t kMaxSaslMessage = 16 * 1024;
/// Exchanges that one connection may have open.
inline constexpr std::size_t kMaxAuthExchanges = 4096;

/// Who asks, as far as the front knows; for the log, for allow_nets, and for penalties.
struct AuthPeer {
    std::string service;               ///< "imap", "pop3": a token is good for this service only; others, smtpd_sasl_service, get none
    std::string session_id;
    std::string remote_ip, local_ip;
    std::uint32_t remote_port = 0, local_port = 0;
    bool secured = false;              ///< TLS, or the same machine
};
template <class A>
void fields(A& a, AuthPeer& m) {
    a(m.service, m.session_id, m.remote_ip, m.local_ip, m.remote_port, m.local_port, m.secured);
}

struct AuthStart {
    std::uint32_t id = 0;
    std::string mechanism;             ///< upper case
    bool has_initial_response = false;
    std::string initial_response;      ///< bytes, not base64
    AuthPeer peer;
};
template <class A>
void fields(A& a, AuthStart& m) { a(m.id, m.mechanism, m.has_initial_response, m.initial_response, m.peer); }

struct AuthContinue {
    std::uint32_t id = 0;
    std::string response;              ///< bytes, not base64
};
template <class A>
void fields(A& a, AuthContinue& m) { a(m.id, m.response); }

struct AuthCancel {
    std::uint32_t id = 0;
};
template <class A>
void fields(A& a, AuthCancel& m) { a(m.id); }

/// The session launcher asks whom a token is for.  It can be asked once.
struct AuthRedeem {
    std::uint32_t id = 0;
    std::string service;
    std::string token;
};
template <class A>
void fields(A& a, AuthRedeem& m) { a(m.id, m.service, m.token); }

/// Which mechanisms may be offered.
struct AuthListMechanisms {
    std::uint32_t id = 0;
};
template <class A>
void fields(A& a, AuthListMechanisms& m) { a(m.id); }

/// The user database's entry for a name, without a password: for delivery.
struct AuthLookup {
    std::uint32_t id = 0;
    std::string service;
    std::string user;
};
template <class A>
void fields(A& a, AuthLookup& m) { a(m.id, m.service, m.user); }

struct AuthChallenge {
    std::uint32_t id = 0;
    std::string challenge;             ///< bytes, not base64; may be empty
};
template <class A>
void fields(A& a, AuthChallenge& m) { a(m.id, m.challenge); }

struct AuthSuccess {
    std::uint32_t id = 0;
    std::string user;                  ///< as auth(8) knows the name: after auth_username_format
    std::string token;                 ///< empty for services without a session process (smtp)
    std::string master;                ///< who has logged in as `user`; empty: himself
};
template <class A>
void fields(A& a, AuthSuccess& m) { a(m.id, m.user, m.token, m.master); }

/// Why not.  Stable numbers: they travel.
enum class AuthFailureReason : std::uint8_t {
    bad_credentials = 1,   ///< wrong, unknown, not for this mechanism: never said which
    temporary = 2,         ///< a database cannot answer now
    disabled = 3,          ///< the right password of an account that may not log in here
    bad_mechanism = 4,     ///< not offered
    malformed = 5,         ///< not a message of this mechanism
    bad_token = 6,         ///< unknown, used, expired, or for another service
    no_user = 7,           ///< AuthLookup: no such user; AuthRedeem: user gone from the user database
};

struct AuthFailure {
    std::uint32_t id = 0;
    std::uint8_t reason = 0;           ///< AuthFailureReason
    std::string user;                  ///< as given by the client, when that is known; for the log
    std::string text;                  ///< for a client that has the right password (disabled), or empty
};
template <class A>
void fields(A& a, AuthFailure& m) { a(m.id, m.reason, m.user, m.text); }

/// A user and what a process working for that user may be.
struct AuthUser {
    std::string user;
    std::uint32_t uid = 0, gid = 0;
    std::vector<std::uint32_t> groups; ///< supplementary
    std::string home;                  ///< absolute, or empty
    std::string mail_location;         ///< variables and ~/ already expanded
    std::vector<std::string> extra;    ///< "name=value" of the user database's other fields
};
template <class A>
void fields(A& a, AuthUser& m) { a(m.user, m.uid, m.gid, m.groups, m.home, m.mail_location, m.extra); }

struct AuthUserFound {
    std::uint32_t id = 0;
    AuthUser user;
    AuthPeer peer;                     ///< AuthRedeem: the login the token was made for
};
template <class A>
void fields(A& a, AuthUserFound& m) { a(m.id, m.user, m.peer); }

struct AuthMechanisms {
    std::uint32_t id = 0;
    std::vector<std::string> names;    ///< upper case, preferred first
};
template <class A>
void fields(A& a, AuthMechanisms& m) { a(m.id, m.names); }

using ToAuth = std::variant<AuthStart, AuthContinue, AuthCancel, AuthRedeem, AuthListMechanisms, AuthLookup>;
using FromAuth = std::variant<AuthChallenge, AuthSuccess, AuthFailure, AuthUserFound, AuthMechanisms>;

}  // namespace postern
