/// A logged-in client in its user's session process.
#pragma once

#include "lib/login/launcher.h"

namespace postern::pop3d {

/// Opens the user's account (once in the process), answers the login command and serves the client.
Task<> serve_session(SessionConnection connection, const Config& config);

}  // namespace postern::pop3d
