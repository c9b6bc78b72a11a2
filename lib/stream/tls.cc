#include "lib/stream/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <map>
#include <optional>

#include "lib/base/strings.h"

namespace postern {

std::string openssl_error() {
    const unsigned long code = ERR_get_error();
    if (code == 0) {
        return "unknown TLS error";
    }
    std::array<char, 256> text{};
    ERR_error_string_n(code, text.data(), text.size());
    ERR_clear_error();
    return text.data();
}

namespace {

struct Version {
    const char* name;
    int number;
    std::uint64_t off;
};
constexpr std::array<Version, 5> kVersions{{
    {"SSLv3", SSL3_VERSION, SSL_OP_NO_SSLv3},
    {"TLSv1", TLS1_VERSION, SSL_OP_NO_TLSv1},
    {"TLSv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
    {"TLSv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
    {"TLSv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
}};

const Version* version_named(std::string_view name) {
    for (const Version& version : kVersions) {
        if (equals_ignoring_case(name, version.name)) {
            return &version;
        }
    }
    return nullptr;
}

/// Postfix's protocol lists: ">=TLSv1.2", "<=TLSv1.2", "!TLSv1", or names that are allowed (all others off).
Result<void> set_protocols(SSL_CTX* context, const std::string& list) {
    std::uint64_t off = 0;
    std::uint64_t named = 0;
    for (const std::string& element : split(list, ", \t:")) {
        std::string_view name = element;
        char kind = '=';
        if (name.substr(0, 2) == ">=" || name.substr(0, 2) == "<=") {
            kind = name[0];
            name.remove_prefix(2);
        } else if (name[0] == '!') {
            kind = '!';
            name.remove_prefix(1);
        }
        if (equals_ignoring_case(name, "SSLv2")) {
            continue;   // long gone from OpenSSL
        }
        const Version* version = version_named(name);
        if (version == nullptr) {
            return Error(Errc::config, "unknown TLS protocol \"" + std::string(name) +
                                           "\": use SSLv3, TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3, with >=, <= or !");
        }
        if (kind == '>') {
            SSL_CTX_set_min_proto_version(context, version->number);
        } else if (kind == '<') {
            SSL_CTX_set_max_proto_version(context, version->number);
        } else if (kind == '!') {
            off |= version->off;
        } else {
            named |= version->off;
        }
    }
    if (named != 0) {
        for (const Version& version : kVersions) {
            off |= (named & version.off) == 0 ? version.off : 0;
        }
    }
    SSL_CTX_set_options(context, off);
    return {};
}

Result<void> load_pair(SSL_CTX* context, const std::string& certificate, const std::string& key) {
    if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
        return Error(Errc::config, "cannot load certificate from " + certificate + ": " + openssl_error());
    }
    if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1) {
        return Error(Errc::config, "cannot load private key from " + key + ": " + openssl_error());
    }
    if (SSL_CTX_check_private_key(context) != 1) {
        return Error(Errc::config, "private key " + key + " does not belong to certificate " + certificate);
    }
    return {};
}

Result<void> load_keys(SSL_CTX* context, const TlsSettings& settings) {
    for (const std::string& chain : settings.chain_files) {
        if (Result<void> loaded = load_pair(context, chain, chain); !loaded) {
            return loaded;
        }
    }
    if (!settings.chain_files.empty() || settings.cert_file.empty()) {
        return {};
    }
    return load_pair(context, settings.cert_file, settings.key_file.empty() ? settings.cert_file : settings.key_file);
}

Result<void> configure(SSL_CTX* context, const TlsSettings& settings) {
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    constexpr std::string_view kSessionContext = "postern";
    SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(kSessionContext.data()),
                                   kSessionContext.size());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);   // clients keep tickets instead
    SSL_CTX_set_num_tickets(context, 0);   // none with the handshake: socket_stream.cc sends one with the first reply
    SSL_CTX_set_dh_auto(context, 1);
    if (settings.prefer_server_ciphers) {
        SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    }
    if (Result<void> set = set_protocols(context, settings.protocols); !set) {
        return set;
    }
    if (!settings.ciphers.empty() && SSL_CTX_set_cipher_list(context, settings.ciphers.c_str()) != 1) {
        return Error(Errc::config, "bad TLS cipher list \"" + settings.ciphers + "\": " + openssl_error());
    }
    if (!settings.eecdh_curves.empty()) {
        std::string curves;
        for (const std::string& curve : split(settings.eecdh_curves, " ,:\t")) {
            curves += (curves.empty() ? "" : ":") + curve;
        }
        if (SSL_CTX_set1_groups_list(context, curves.c_str()) != 1) {
            return Error(Errc::config, "bad TLS curve list \"" + settings.eecdh_curves + "\": " + openssl_error());
        }
    }
    if (!settings.ca_file.empty() && SSL_CTX_load_verify_locations(context, settings.ca_file.c_str(), nullptr) != 1) {
        return Error(Errc::config, "cannot load CA certificates from " + settings.ca_file + ": " + openssl_error());
    }
    if (settings.ask_client_certificate || settings.require_client_certificate) {
        const auto verify = [](int, X509_STORE_CTX*) { return 1; };   // judged by the policy, not by the handshake
        SSL_CTX_set_verify(context,
                           SSL_VERIFY_PEER | (settings.require_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           verify);
    }
    return load_keys(context, settings);
}

}  // namespace

TlsContext::~TlsContext() {
    SSL_CTX_free(context_);
}

Result<std::unique_ptr<TlsContext>> TlsContext::server(const TlsSettings& settings) {
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    if (context == nullptr) {
        return Error(Errc::temporary, openssl_error());
    }
    std::unique_ptr<TlsContext> owner(new TlsContext(context));
    if (Result<void> done = configure(context, settings); !done) {
        return done.error();
    }
    return owner;
}

}  // namespace postern
