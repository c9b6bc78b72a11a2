/// The session launcher: the main program of imapd-session and pop3d-session.
///
/// Standards: none of its own.  Speaks to: fronts (session_messages.h), auth(8), and the session processes it makes.
/// If taken over: could become any user.  Therefore it parses nothing but the small messages of its own protocols,
/// has no event loop, no thread and no network, and believes only what auth(8) says about a token.
///
/// For each user there is at most one session process.  It is forked without exec, has the user's uid, gid and
/// groups, is confined to the user's home and mail, and serves all connections of that user as coroutines.  It ends
/// session_process_idle_limit after its last connection, so that the next login of the same user costs no fork.
/// A crash of a session process ends that user's sessions and nobody else's.
///
/// Used in imapd/imapd-session.cc.
#pragma once

#include <memory>
#include <string>

#include "lib/async/loop.h"
#include "lib/login/session_messages.h"
#include "lib/sasl/auth_messages.h"
#include "lib/stream/stream.h"

namespace postern {

class Config;

/// One client of this process's user, logged in.
struct SessionConnection {
    std::unique_ptr<Stream> stream;    ///< info.input is already in its buffer; plain text in either case
    SessionInfo info;
    std::shared_ptr<const AuthUser> user;   ///< the same for all connections of the process
};

/// Serves one connection to its end.  The first thing it sends is the answer to the login command
/// (info.prelude).  `config` outlives it.
using ServeSession = Task<> (*)(SessionConnection connection, const Config& config);

struct Launcher {
    const char* name;                  ///< of the program, for the log and for ps
    const char* service;               ///< "imap" or "pop3": as in AuthPeer::service
    ServeSession serve;
    /// Called in a new session process before its first connection, when it already is the user; may be null.
    void (*prepare)(const AuthUser& user, const Config& config) = nullptr;
    /// Called in a session process when the suite is being stopped: has the sessions say goodbye and end.  They get
    /// kSessionFarewell to do so; null ends them at once.
    void (*stop)() = nullptr;
    /// Called in a session process that ends in good order, after its last connection; may be null.
    void (*end)() = nullptr;
};

/// How long a session process that is told to stop may take (less than the front's Service::kFarewell).
inline constexpr Millis kSessionFarewell{2000};

/// Runs until SIGTERM.  Returns the exit status.
int run_launcher(int argc, char** argv, const Launcher& launcher);

}  // namespace postern
