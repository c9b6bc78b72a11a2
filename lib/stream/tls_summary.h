/// A TLS session in the words of log lines and Received: fields; for servers and clients.
#pragma once

#include <string>

struct ssl_st;

namespace postern {

/// "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
std::string tls_cipher_text(ssl_st* session);

/// "key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256 client-signature ...", as far as this
/// handshake had them: a resumed session has no signatures, and before TLS 1.3 the cipher's name says it all (empty).
std::string tls_exchange_text(ssl_st* session);

/// Both.
std::string tls_summary(ssl_st* session);

}  // namespace postern
