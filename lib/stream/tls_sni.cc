#include "lib/stream/tls_sni.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <memory>

#include "lib/stream/tls.h"

namespace postern {
namespace {

struct Free {
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(STACK_OF(X509) * chain) const { sk_X509_pop_free(chain, X509_free); }
    void operator()(char* text) const { OPENSSL_free(text); }
    void operator()(unsigned char* bytes) const { OPENSSL_free(bytes); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

/// A key and the certificates that follow it.
struct Group {
    Owned<EVP_PKEY> key;
    Owned<X509> leaf;
    Owned<STACK_OF(X509)> chain{sk_X509_new_null()};

    Result<void> give_to(SSL* session) {
        if (!key) {
            return {};
        }
        if (!leaf) {
            return Error(Errc::config, "a private key has no certificate behind it");
        }
        if (SSL_use_cert_and_key(session, leaf.get(), key.get(), chain.get(), 1) != 1) {
            return Error(Errc::config, openssl_error());
        }
        return {};
    }
    Result<void> take(const unsigned char* der, long size) {
        Owned<X509> certificate(d2i_X509(nullptr, &der, size));
        if (!certificate) {
            return Error(Errc::config, openssl_error());
        }
        if (!key) {
            return Error(Errc::config, "a certificate comes before its private key");
        }
        if (!leaf) {
            leaf = std::move(certificate);
        } else if (sk_X509_push(chain.get(), certificate.get()) > 0) {
            certificate.release();
        }
        return {};
    }
};

bool is_key(std::string_view name) { return name.size() >= 11 && name.substr(name.size() - 11) == "PRIVATE KEY"; }

}  // namespace

Result<void> use_keys(ssl_st* session, const std::string& pem) {
    ERR_clear_error();
    const Owned<BIO> source(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    auto group = std::make_unique<Group>();
    bool any = false;
    for (;;) {
        char* raw_name = nullptr;
        char* raw_header = nullptr;
        unsigned char* raw_bytes = nullptr;
        long size = 0;
        if (PEM_read_bio(source.get(), &raw_name, &raw_header, &raw_bytes, &size) != 1) {
            break;
        }
        const Owned<char> name(raw_name), header(raw_header);
        const Owned<unsigned char> bytes(raw_bytes);
        const unsigned char* der = raw_bytes;
        Result<void> taken;
        if (is_key(raw_name)) {
            taken = group->give_to(session);
            group = std::make_unique<Group>();
            group->key.reset(d2i_AutoPrivateKey(nullptr, &der, size));
            any = true;
            if (taken && !group->key) {
                taken = Error(Errc::config, openssl_error());
            }
        } else if (std::string_view(raw_name) == PEM_STRING_X509) {
            taken = group->take(der, size);
        }
        if (!taken) {
            return taken;
        }
    }
    ERR_clear_error();   // that there is no more
    if (!any) {
        return Error(Errc::config, "there is no private key");
    }
    return group->give_to(session);
}

}  // namespace postern
