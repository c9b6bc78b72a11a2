/// The client's side of a TLS handshake; for lib/stream's own use.
#pragma once

#include <string>

#include "lib/base/result.h"
#include "lib/stream/tls.h"

namespace postern {

/// Where a connection's new sessions are remembered.
struct TlsSessionKey {
    TlsContext* context;   ///< outlives the connection
    std::string key;
};

/// Everything that is set before SSL_connect().  `key` outlives `ssl`.  Errors: config, io.
Result<void> prepare_client(ssl_st* ssl, TlsSessionKey& key, const TlsDemand& demand);

/// What the handshake showed.
TlsPeer examine_peer(ssl_st* ssl, const TlsDemand& demand);

/// OpenSSL calls this for each session that a server gives us.
int tls_new_session(ssl_st* ssl, ssl_session_st* session);

}  // namespace postern
