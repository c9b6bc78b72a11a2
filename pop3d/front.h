/// What pop3d says to a client that has not logged in: the AUTHORIZATION state (RFC 1939 section 4).
#pragma once

#include <memory>

#include "lib/login/front.h"

namespace postern::pop3d {

/// Serves one client until it has been given to its session or is gone.  `front` outlives it.
/// `implicit_tls`: TLS comes before the greeting (RFC 8314).
Task<> serve_front(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front, bool implicit_tls);

}  // namespace postern::pop3d
