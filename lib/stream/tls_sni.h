/// Server certificates by the name that the client asks for (RFC 6066 section 3).
#pragma once

#include <string>

#include "lib/base/result.h"

struct ssl_st;

namespace postern {

/// Gives a server's session the private key and the certificate chain in `pem`: each key before its certificates, one
/// such group for each algorithm, as in smtpd_tls_chain_files.  Errors: config.
Result<void> use_keys(ssl_st* session, const std::string& pem);

}  // namespace postern
