#include "lib/stream/tls_client.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <memory>

#include "lib/base/strings.h"
#include "lib/stream/tls_summary.h"
#include "lib/stream/tls_versions.h"

namespace postern {

namespace {

/// Where an SSL keeps its TlsSessionKey.
int key_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

/// Empty when there is none, or one with a NUL in it: an old trick is "good.example\0.evil.example".
std::string common_name(X509_NAME* name) {
    std::array<char, 256> text{};
    const int length = X509_NAME_get_text_by_NID(name, NID_commonName, text.data(), text.size());
    const std::string_view whole(text.data(), static_cast<std::size_t>(std::max(length, 0)));
    return whole.find('\0') == whole.npos ? printable(whole, text.size()) : std::string();
}

/// Of a certificate or its public key; empty when there is none.
std::string fingerprint_of(X509* certificate, const std::string& digest, bool key) {
    unsigned char* der = nullptr;
    const int size = key ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der) : i2d_X509(certificate, &der);
    if (size <= 0) {
        return std::string();
    }
    Result<std::string> out = fingerprint({reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)}, digest);
    OPENSSL_free(der);
    return out ? std::move(*out) : std::string();
}

struct NamesFree {
    void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

/// The DNS names a certificate is for; its common name when it has none (RFC 6125 section 6.4.4).
std::vector<std::string> certified_names(X509* certificate) {
    std::vector<std::string> out;
    const std::unique_ptr<GENERAL_NAMES, NamesFree> names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    bool any = false;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type != GEN_DNS) {
            continue;
        }
        any = true;
        const std::string_view text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                                    static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
        if (text.find('\0') == std::string_view::npos) {   // as in common_name()
            out.emplace_back(text);
        }
    }
    if (!any) {
        out.push_back(common_name(X509_get_subject_name(certificate)));
    }
    return out;
}

}  // namespace

bool tls_name_matches(std::string_view certified, std::string_view wanted, bool wildcards_match_many) {
    if (!wanted.empty() && wanted.front() == '.') {   // any name below a domain, which "*.domain" certifies too
        const std::string_view name = certified.substr(0, 2) == "*." ? certified.substr(1) : certified;
        return name.size() >= wanted.size() && equals_ignoring_case(name.substr(name.size() - wanted.size()), wanted) &&
               (name.size() > wanted.size() || certified.front() == '*');
    }
    if (certified.substr(0, 2) != "*.") {
        return !certified.empty() && equals_ignoring_case(certified, wanted);
    }
    const std::string_view domain = certified.substr(1);
    if (wanted.size() <= domain.size() || domain.find('.', 1) == std::string_view::npos) {   // "*.com" is for nobody
        return false;
    }
    const std::size_t labels = wanted.size() - domain.size();
    return equals_ignoring_case(wanted.substr(labels), domain) &&
           (wildcards_match_many || wanted.substr(0, labels).find('.') == std::string_view::npos);
}

Result<void> prepare_client(ssl_st* ssl, TlsSessionKey& key, const TlsDemand& demand) {
    const Result<TlsVersions> versions = parse_tls_versions(demand.protocols);
    if (!versions) {
        return versions.error();
    }
    if (versions->lowest != 0) {
        SSL_set_min_proto_version(ssl, versions->lowest);
    }
    if (versions->highest != 0) {
        SSL_set_max_proto_version(ssl, versions->highest);
    }
    SSL_set_options(ssl, versions->off);
    if (!demand.ciphers.empty() && SSL_set_cipher_list(ssl, demand.ciphers.c_str()) != 1) {
        return Error(Errc::config, "bad TLS cipher list \"" + demand.ciphers + "\": " + openssl_error());
    }
    if (demand.lenient) {
        SSL_set_security_level(ssl, 0);
    }
    if (!demand.server_name.empty() && SSL_set_tlsext_host_name(ssl, demand.server_name.c_str()) != 1) {
        return Error(Errc::io, openssl_error());
    }
    if (!demand.tlsa.empty()) {
        if (Result<void> done = demand_dane(ssl, demand); !done) {
            return done;
        }
    }
    SSL_set_ex_data(ssl, key_index(), &key);
    if (ssl_session_st* session = key.context->session(key.key)) {
        SSL_set_session(ssl, session);
    }
    return {};
}

int tls_new_session(ssl_st* ssl, ssl_session_st* session) {
    auto* key = static_cast<TlsSessionKey*>(SSL_get_ex_data(ssl, key_index()));
    if (key == nullptr || key->key.empty()) {
        return 0;   // OpenSSL frees it
    }
    key->context->remember(key->key, session);
    return 1;
}

TlsPeer examine_peer(ssl_st* ssl, const TlsDemand& demand) {
    TlsPeer peer;
    X509* certificate = SSL_get0_peer_certificate(ssl);
    peer.summary = tls_summary(ssl);
    peer.resumed = SSL_session_reused(ssl) == 1;
    if (certificate == nullptr) {
        return peer;
    }
    peer.has_certificate = true;
    const long verdict = SSL_get_verify_result(ssl);
    peer.trusted = verdict == X509_V_OK;
    peer.verify_error = peer.trusted ? "" : X509_verify_cert_error_string(verdict);
    peer.subject = common_name(X509_get_subject_name(certificate));
    peer.issuer = common_name(X509_get_issuer_name(certificate));
    peer.certificate_fingerprint = fingerprint_of(certificate, demand.fingerprint_digest, false);
    peer.key_fingerprint = fingerprint_of(certificate, demand.fingerprint_digest, true);
    for (const std::string& wanted : demand.fingerprints) {
        peer.matched = peer.matched || same_fingerprint(wanted, peer.certificate_fingerprint) ||
                       same_fingerprint(wanted, peer.key_fingerprint);
    }
    if (!demand.tlsa.empty()) {
        peer.matched = peer.trusted;   // OpenSSL has looked for the names too, where they count
        return peer;
    }
    if (demand.names.empty()) {
        return peer;
    }
    for (const std::string& certified : certified_names(certificate)) {
        for (const std::string& wanted : demand.names) {
            peer.matched = peer.matched || tls_name_matches(certified, wanted, demand.wildcards_match_many);
        }
    }
    return peer;
}

}  // namespace postern
