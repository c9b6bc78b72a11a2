/// What imapd says to a client that has not logged in (RFC 3501 sections 6.1 and 6.2).
#pragma once

#include <memory>

#include "lib/login/front.h"

namespace postern::imapd {

/// Serves one client until it has been given to its session or is gone.  `front` outlives it.
/// `implicit_tls`: TLS comes before the greeting (RFC 8314).
Task<> serve_front(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front, bool implicit_tls);

}  // namespace postern::imapd
