/// The program of a front: takes clients from the network and has its protocol speak with each until it is logged in or gone.
#pragma once

#include <memory>

#include "lib/async/task.h"
#include "lib/login/front.h"
#include "lib/service/service.h"

namespace postern {

/// One client until it has been given to its session or is gone.  `implicit_tls`: TLS comes before the greeting (RFC 8314).
using ServeFront = Task<> (*)(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front, bool implicit_tls);

/// Serves clients until the process is told to end, and has those that wait told goodbye; then the exit status.  After a reload
/// the process goes on beside its successor, because clients with TLS stay until they leave.
/// Ends with fatal() when `implicit_tls` is wanted and there is no certificate.  `front` and `service` outlive the call.
int serve_clients(Service& service, LoginFront& front, bool implicit_tls, ServeFront serve);

}  // namespace postern
