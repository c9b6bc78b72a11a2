/// TLS settings and contexts (OpenSSL).  A context is made before a process gives up its rights, because it
/// reads keys; sessions are made from it afterwards.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"

struct ssl_ctx_st;
struct ssl_st;

namespace postern {

/// Values as in main.cf's smtpd_tls_* parameters; empty means OpenSSL's default.
struct TlsSettings {
    std::string cert_file;
    std::string key_file;                 ///< empty: the key is in cert_file
    std::vector<std::string> chain_files; ///< smtpd_tls_chain_files: key and chain, one pair each
    std::string ca_file;                  ///< for client certificates
    std::string protocols = ">=TLSv1.2";  ///< Postfix syntax: ">=TLSv1.2", "!SSLv3, !TLSv1", "<=TLSv1.2"
    std::string ciphers;                  ///< OpenSSL cipher list for TLS 1.2 and older
    std::string eecdh_curves;             ///< tls_eecdh_auto_curves
    bool ask_client_certificate = false;
    bool require_client_certificate = false;
    bool prefer_server_ciphers = false;
};

class TlsContext {
public:
    /// Errors: config, naming the file or setting and OpenSSL's reason.
    static Result<std::unique_ptr<TlsContext>> server(const TlsSettings& settings);
    ~TlsContext();
    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;
    ssl_ctx_st* get() { return context_; }

private:
    explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
    ssl_ctx_st* context_;
};

/// The oldest error in OpenSSL's queue, as text; the queue is emptied.
std::string openssl_error();

}  // namespace postern
