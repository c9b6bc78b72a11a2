/// OpenSSL's options by name, as tls_ssl_options and tls_disable_workarounds list them.
#pragma once

#include <cstdint>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

/// The SSL_OP_ bits of a list such as "NO_TICKET, NO_RENEGOTIATION" or "0x4000"; a name may begin with SSL_OP_.
/// Errors: config, naming what is not known.
Result<std::uint64_t> parse_tls_options(std::string_view list);

}  // namespace postern
