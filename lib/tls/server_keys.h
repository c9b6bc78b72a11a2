/// Keys and certificates by server name: tls_server_sni_maps (TLS_README, "Server-side SNI"), for all programs that serve TLS.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern {

/// The PEM text (each key before its certificates) for a name that a client asks for, or for the nearest of its parent
/// domains as ".parent"; nothing: the server's usual certificate.  The tables hold base64, as postmap -F makes it.
/// Errors, which have been logged: temporary; config (no base64).
using ServerKeys = std::function<Result<std::optional<std::string>>(const std::string& name)>;

/// For TlsSettings::keys_for, before rights are given up; null when there are no such tables.  Errors: config.
Result<ServerKeys> open_server_keys(const Config& config);

}  // namespace postern
