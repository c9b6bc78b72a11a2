/// A logged-in client in its user's session process.
#pragma once

#include "lib/login/launcher.h"

namespace postern::imapd {

/// Opens the user's account (once in the process, as long as it stays the same files), answers the login command and serves the client.
Task<> serve_session(SessionConnection connection, const Config& config);

/// The suite is being stopped: each session of the process says goodbye (RFC 3501 section 7.1.5) and ends.
void stop_sessions();
/// The process ends and serves nobody any more.
void close_account();

}  // namespace postern::imapd
