#include "lib/stream/tls_summary.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>

#include <array>

namespace postern {
namespace {

std::string curve_name(EVP_PKEY* key) {
    std::array<char, 64> name{};
    std::size_t length = 0;
    EVP_PKEY_get_group_name(key, name.data(), name.size(), &length);
    return name.data();
}

/// "X25519", "ECDHE (prime256v1)", "DHE (2048 bits)"; "RSA-PSS (2048 bits)" for signatures.
std::string key_text(EVP_PKEY* key, bool exchange, int signature_type) {
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_X25519: return "X25519";
    case EVP_PKEY_X448: return "X448";
    case EVP_PKEY_ED25519: return "ED25519";
    case EVP_PKEY_ED448: return "ED448";
    case EVP_PKEY_EC: return fmt::format("{} ({})", exchange ? "ECDHE" : "ECDSA", curve_name(key));
    case EVP_PKEY_DH: return fmt::format("DHE ({} bits)", EVP_PKEY_get_bits(key));
    default:
        return fmt::format("{} ({} bits)", signature_type == EVP_PKEY_RSA_PSS ? "RSA-PSS" : "RSA", EVP_PKEY_get_bits(key));
    }
}

/// " server-signature ECDSA (prime256v1) server-digest SHA256"
std::string signature_text(const char* who, EVP_PKEY* key, int type, int digest) {
    std::string text = fmt::format(" {}-signature {}", who, key_text(key, false, type));
    if (digest != NID_undef) {
        text += fmt::format(" {}-digest {}", who, OBJ_nid2sn(digest));
    }
    return text;
}

std::string own_signature(const char* who, SSL* session) {
    X509* const certificate = SSL_get_certificate(session);
    int type = 0, digest = NID_undef;
    if (certificate == nullptr || SSL_get_signature_type_nid(session, &type) != 1) {
        return {};
    }
    SSL_get_signature_nid(session, &digest);
    return signature_text(who, X509_get0_pubkey(certificate), type, digest);
}

std::string peer_signature(const char* who, SSL* session) {
    X509* const certificate = SSL_get0_peer_certificate(session);
    int type = 0, digest = NID_undef;
    if (certificate == nullptr || SSL_get_peer_signature_type_nid(session, &type) != 1) {
        return {};
    }
    SSL_get_peer_signature_nid(session, &digest);
    return signature_text(who, X509_get0_pubkey(certificate), type, digest);
}

}  // namespace

std::string tls_cipher_text(ssl_st* session) {
    int algorithm_bits = 0;
    const int used_bits = SSL_get_cipher_bits(session, &algorithm_bits);
    return fmt::format("{} with cipher {} ({}/{} bits)", SSL_get_version(session), SSL_get_cipher_name(session), used_bits,
                       algorithm_bits);
}

std::string tls_exchange_text(ssl_st* session) {
    std::string text;
    if (SSL_version(session) < TLS1_3_VERSION) {
        return text;
    }
    EVP_PKEY* exchange = nullptr;
    if (SSL_get_peer_tmp_key(session, &exchange) == 1) {
        text = "key-exchange " + key_text(exchange, true, 0);
        EVP_PKEY_free(exchange);
    }
    if (SSL_session_reused(session) == 1) {
        return text;
    }
    if (SSL_is_server(session) == 1) {
        return text + own_signature("server", session) + peer_signature("client", session);
    }
    return text + peer_signature("server", session) + own_signature("client", session);
}

std::string tls_summary(ssl_st* session) {
    const std::string exchange = tls_exchange_text(session);
    return tls_cipher_text(session) + (exchange.empty() ? "" : " " + exchange);
}

}  // namespace postern
