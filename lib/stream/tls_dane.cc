#include "lib/stream/tls_dane.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "lib/base/strings.h"
#include "lib/stream/tls.h"

namespace postern {
namespace {

struct Free {
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(char* text) const { OPENSSL_free(text); }
    void operator()(unsigned char* bytes) const { OPENSSL_free(bytes); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

/// Nothing but one certificate, or one public key.
bool is_der(const TlsaRecord& record) {
    const unsigned char* at = bytes_of(record.data);
    const unsigned char* const end = at + record.data.size();
    const auto size = static_cast<long>(record.data.size());
    bool whole = false;
    if (record.selector == TlsaRecord::kCertificate) {
        const Owned<X509> certificate(d2i_X509(nullptr, &at, size));
        whole = certificate && at == end && X509_get0_pubkey(certificate.get()) != nullptr;
    } else {
        const Owned<EVP_PKEY> key(d2i_PUBKEY(nullptr, &at, size));
        whole = key && at == end;
    }
    ERR_clear_error();
    return whole;
}

/// Of the registry (RFC 7218); 0 for what is not in it.
std::uint8_t registered_number(std::string_view digest) {
    return equals_ignoring_case(digest, "sha256") ? 1 : equals_ignoring_case(digest, "sha512") ? 2 : 0;
}

}  // namespace

Result<std::vector<DaneDigest>> parse_dane_digests(std::string_view list) {
    std::vector<DaneDigest> out;
    for (const std::string& word : split(list, ", \t\r\n")) {
        const std::size_t equals = word.find('=');
        DaneDigest digest{word.substr(0, equals), registered_number(word.substr(0, equals))};
        if (equals != std::string::npos) {
            const auto number = parse_number(word.substr(equals + 1));
            digest.matching = number && *number <= 255 ? static_cast<std::uint8_t>(*number) : std::uint8_t{0};
        }
        if (digest.matching == TlsaRecord::kFull) {
            return Error(Errc::config, fmt::format("\"{}\": no matching type from 1 to 255 is known for this digest; write name=number", word));
        }
        if (EVP_get_digestbyname(digest.name.c_str()) == nullptr) {
            return Error(Errc::config, fmt::format("\"{}\": OpenSSL has no such digest", word));
        }
        const auto taken = [&](const DaneDigest& other) { return other.matching == digest.matching; };
        if (std::any_of(out.begin(), out.end(), taken)) {
            return Error(Errc::config, fmt::format("\"{}\": matching type {} is given twice", word, digest.matching));
        }
        out.push_back(std::move(digest));
    }
    return out;
}

Result<void> allow_dane(ssl_ctx_st* context, const std::vector<DaneDigest>& digests) {
    bool done = SSL_CTX_dane_enable(context) == 1;
    for (const std::uint8_t standard : {1, 2}) {   // what OpenSSL allows by itself and nobody has asked for
        const auto wanted = [standard](const DaneDigest& one) { return one.matching == standard; };
        if (done && std::none_of(digests.begin(), digests.end(), wanted)) {
            done = SSL_CTX_dane_mtype_set(context, nullptr, standard, 0) == 1;
        }
    }
    auto order = static_cast<std::uint8_t>(std::min<std::size_t>(digests.size(), std::numeric_limits<std::uint8_t>::max()));
    for (const DaneDigest& digest : digests) {
        done = done && SSL_CTX_dane_mtype_set(context, EVP_get_digestbyname(digest.name.c_str()), digest.matching, order) == 1;
        --order;
    }
    return done ? Result<void>() : Error(Errc::config, "DANE: " + openssl_error());
}

bool tlsa_usable(const TlsaRecord& record, const std::vector<DaneDigest>& digests) {
    const bool known_usage = record.usage == TlsaRecord::kTrustAnchor || record.usage == TlsaRecord::kEndEntity;
    if (!known_usage || record.selector > TlsaRecord::kPublicKey) {
        return false;
    }
    if (record.matching == TlsaRecord::kFull) {
        return is_der(record);
    }
    return std::any_of(digests.begin(), digests.end(), [&](const DaneDigest& digest) {
        const EVP_MD* const algorithm = EVP_get_digestbyname(digest.name.c_str());
        return digest.matching == record.matching && algorithm != nullptr &&
               static_cast<std::size_t>(EVP_MD_get_size(algorithm)) == record.data.size();
    });
}

Result<void> demand_dane(ssl_st* ssl, const TlsDemand& demand) {
    const char* const base = demand.server_name.empty() ? nullptr : demand.server_name.c_str();
    if (SSL_dane_enable(ssl, base) != 1) {
        return Error(Errc::config, "DANE: " + openssl_error());
    }
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                               (demand.wildcards_match_many ? X509_CHECK_FLAG_MULTI_LABEL_WILDCARDS : 0u));
    bool any = false;
    for (const TlsaRecord& record : demand.tlsa) {
        any = SSL_dane_tlsa_add(ssl, record.usage, record.selector, record.matching, bytes_of(record.data), record.data.size()) > 0 || any;
    }
    ERR_clear_error();
    if (!any) {
        return Error(Errc::config, "DANE: no TLSA record can be used");
    }
    // SSL_dane_enable() has made the base domain one of the names; here they are exactly what was asked for.
    bool named = SSL_set1_host(ssl, demand.names.empty() ? nullptr : demand.names.front().c_str()) == 1;
    for (std::size_t i = 1; i < demand.names.size(); ++i) {
        named = named && SSL_add1_host(ssl, demand.names[i].c_str()) == 1;
    }
    return named ? Result<void>() : Error(Errc::config, "DANE: " + openssl_error());
}

Result<std::vector<TlsaRecord>> read_trust_anchor_certificates(const std::string& path) {
    const Owned<BIO> file(BIO_new_file(path.c_str(), "r"));
    if (!file) {
        return Error(Errc::config, fmt::format("cannot read {}: {}", path, openssl_error()));
    }
    std::vector<TlsaRecord> out;
    for (;;) {
        char *name = nullptr, *header = nullptr;
        unsigned char* data = nullptr;
        long size = 0;
        if (PEM_read_bio(file.get(), &name, &header, &data, &size) != 1) {
            break;
        }
        const Owned<char> owned_name(name), owned_header(header);
        const Owned<unsigned char> owned_data(data);
        const std::string_view kind = name;
        TlsaRecord record{TlsaRecord::kTrustAnchor, TlsaRecord::kCertificate, TlsaRecord::kFull,
                          std::string(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size))};
        if (kind == PEM_STRING_PUBLIC) {
            record.selector = TlsaRecord::kPublicKey;
        } else if (kind != PEM_STRING_X509 && kind != PEM_STRING_X509_OLD) {
            return Error(Errc::config, fmt::format("{}: \"{}\" is neither a certificate nor a public key", path, printable(kind)));
        }
        if (!is_der(record)) {
            return Error(Errc::config, fmt::format("{}: object {} is damaged", path, out.size() + 1));
        }
        out.push_back(std::move(record));
    }
    const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (!at_end || out.empty()) {
        return Error(Errc::config, path + ": " + (at_end ? "no certificate and no public key" : "not PEM"));
    }
    return out;
}

}  // namespace postern
