/// Protocol lists as main.cf has them.
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/result.h"

namespace postern {

/// In OpenSSL's terms.
struct TlsVersions {
    int lowest = 0;           ///< 0: no limit
    int highest = 0;
    std::uint64_t off = 0;    ///< SSL_OP_NO_...
};

/// ">=TLSv1.2", "<=TLSv1.2", "!TLSv1", or names that are allowed (all others are off).  Errors: config.
Result<TlsVersions> parse_tls_versions(const std::string& list);

}  // namespace postern
