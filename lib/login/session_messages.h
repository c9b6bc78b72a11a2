/// How a front (imapd, pop3d) hands a client that has logged in to the session launcher, on a stream to
/// private/imap-session or private/pop3-session.  One connection carries one hand-over after another, each
/// answered before the next is sent.
///
/// In the clear the client's own socket travels; with TLS one end of a socketpair does, and the front relays.
/// The launcher believes the token only, which it has auth(8) redeem; everything else here is for the log and for
/// the client's benefit.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "lib/base/unique_fd.h"

namespace postern {

/// What a front may have read already (a pipelined group of commands) travels along, up to this size.
inline constexpr std::size_t kMaxHandedInput = 64 * 1024;
inline constexpr std::size_t kMaxHandOver = kMaxHandedInput + 16 * 1024;

/// What the session should know about the connection.
struct SessionInfo {
    std::string session_id;
    std::string remote_ip, local_ip;
    std::uint32_t remote_port = 0, local_port = 0;
    bool tls = false;
    std::string tls_protocol, tls_cipher;
    std::string method;                ///< SASL mechanism, for the log
    std::string prelude;               ///< between front and session of one protocol: the tag of the login command
    std::string input;                 ///< bytes the front had read and not used
};
template <class A>
void fields(A& a, SessionInfo& m) {
    a(m.session_id, m.remote_ip, m.local_ip, m.remote_port, m.local_port, m.tls, m.tls_protocol, m.tls_cipher, m.method,
      m.prelude, m.input);
}

struct HandOver {
    std::string token;
    SessionInfo info;
    UniqueFd client;
};
template <class A>
void fields(A& a, HandOver& m) { a(m.token, m.info, m.client); }

/// The session process has the connection; it answers the client from now on.
struct HandedOver {
    std::uint32_t pid = 0;             ///< for mpid= in the log
    std::string user;
};
template <class A>
void fields(A& a, HandedOver& m) { a(m.pid, m.user); }

enum class HandOverRefusal : std::uint8_t {
    bad_token = 1,         ///< as auth(8) says
    too_many = 2,          ///< mail_max_userip_connections
    temporary = 3,         ///< no process could be made, or auth(8) does not answer
    forbidden = 4,         ///< the user database's uid or gid is outside first_valid_uid and so on
};

/// The front still has the client and answers it.
struct NotHandedOver {
    std::uint8_t reason = 0;           ///< HandOverRefusal
    std::string text;                  ///< for the log
};
template <class A>
void fields(A& a, NotHandedOver& m) { a(m.reason, m.text); }

using ToLauncher = std::variant<HandOver>;
using FromLauncher = std::variant<HandedOver, NotHandedOver>;

}  // namespace postern
