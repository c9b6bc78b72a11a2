#include "lib/stream/tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <chrono>
#include <filesystem>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/stream/tls_client.h"
#include "lib/stream/tls_sni.h"
#include "lib/stream/tls_versions.h"

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

Result<std::string> fingerprint(std::string_view bytes, const std::string& digest) {
    const EVP_MD* const algorithm = EVP_get_digestbyname(digest.c_str());
    std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
    unsigned int size = 0;
    if (algorithm == nullptr || EVP_Digest(bytes.data(), bytes.size(), sum.data(), &size, algorithm, nullptr) != 1) {
        ERR_clear_error();
        return Error(Errc::config, "digest algorithm \"" + digest + "\" is not known");
    }
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string out;
    for (unsigned int i = 0; i < size; ++i) {
        out += i > 0 ? ":" : "";
        out += kDigits[sum[i] >> 4];
        out += kDigits[sum[i] & 15];
    }
    return out;
}

bool same_fingerprint(std::string_view a, std::string_view b) {
    const auto digits = [](std::string_view text) {
        std::string out = to_lower(text);
        std::erase(out, ':');
        return out;
    };
    const std::string plain = digits(a);
    return !plain.empty() && plain == digits(b);
}

namespace {

Result<void> set_protocols(SSL_CTX* context, const std::string& list) {
    const Result<TlsVersions> versions = parse_tls_versions(list);
    if (!versions) {
        return versions.error();
    }
    if (versions->lowest != 0) {   // otherwise OpenSSL's own configuration decides
        SSL_CTX_set_min_proto_version(context, versions->lowest);
    }
    if (versions->highest != 0) {
        SSL_CTX_set_max_proto_version(context, versions->highest);
    }
    SSL_CTX_set_options(context, versions->off);
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
    Result<void> loaded = load_pair(context, settings.cert_file, settings.key_file.empty() ? settings.cert_file : settings.key_file);
    if (loaded && !settings.ec_cert_file.empty()) {
        loaded = load_pair(context, settings.ec_cert_file, settings.ec_key_file.empty() ? settings.ec_cert_file : settings.ec_key_file);
    }
    return loaded;
}

/// OpenSSL would read a CApath certificate by certificate, when the process may read no files any more.
Result<void> load_directory(SSL_CTX* context, const std::string& path) {
    std::error_code trouble;
    std::filesystem::directory_iterator entries(path, trouble);
    if (trouble) {
        return Error(Errc::config, "cannot read CA directory " + path + ": " + trouble.message());
    }
    for (const auto& entry : entries) {
        const std::string name = entry.path().filename().string();
        // "1a2b3c4d.0": what c_rehash makes of every certificate
        if (name.size() >= 10 && name[8] == '.' && parse_hex(name.substr(0, 8)) && parse_number(name.substr(9))) {
            if (X509_STORE_load_file(SSL_CTX_get_cert_store(context), entry.path().c_str()) != 1) {
                ERR_clear_error();   // one bad file does not spoil the others
            }
        }
    }
    return {};
}

Result<void> load_authorities(SSL_CTX* context, const TlsSettings& settings) {
    if (!settings.ca_file.empty() && SSL_CTX_load_verify_locations(context, settings.ca_file.c_str(), nullptr) != 1) {
        return Error(Errc::config, "cannot load CA certificates from " + settings.ca_file + ": " + openssl_error());
    }
    if (!settings.ca_path.empty()) {
        if (Result<void> loaded = load_directory(context, settings.ca_path); !loaded) {
            return loaded;
        }
    }
    if (settings.default_ca && SSL_CTX_load_verify_file(context, X509_get_default_cert_file()) != 1) {
        ERR_clear_error();
        return load_directory(context, X509_get_default_cert_dir());
    }
    return {};
}

/// What servers and clients have in common.
Result<void> configure_common(SSL_CTX* context, const TlsSettings& settings) {
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_options(context, settings.options_on);
    SSL_CTX_clear_options(context, settings.options_off);
    SSL_CTX_set_verify_depth(context, settings.verify_depth);
    if (Result<void> set = set_protocols(context, settings.protocols); !set) {
        return set;
    }
    if (!settings.ciphers.empty() && SSL_CTX_set_cipher_list(context, settings.ciphers.c_str()) != 1) {
        return Error(Errc::config, "bad TLS cipher list \"" + settings.ciphers + "\": " + openssl_error());
    }
    if (!settings.groups.empty()) {
        std::string groups;
        for (const std::string& group : split(settings.groups, " ,:\t")) {
            groups += (groups.empty() ? "" : ":") + group;
        }
        if (SSL_CTX_set1_groups_list(context, groups.c_str()) != 1) {
            return Error(Errc::config, "bad list of TLS groups \"" + settings.groups + "\": " + openssl_error());
        }
    }
    if (Result<void> loaded = load_authorities(context, settings); !loaded) {
        return loaded;
    }
    return load_keys(context, settings);
}

Result<void> configure_server(SSL_CTX* context, const TlsSettings& settings) {
    constexpr std::string_view kSessionContext = "postern";
    SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(kSessionContext.data()),
                                   kSessionContext.size());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);   // clients keep tickets instead
    SSL_CTX_set_num_tickets(context, 0);   // none with the handshake: socket_stream.cc sends one with the first reply
    if (settings.ticket_seconds > 0) {
        SSL_CTX_set_timeout(context, settings.ticket_seconds);
    } else {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    }
    SSL_CTX_set_dh_auto(context, 1);
    if (settings.any_client_purpose) {
        SSL_CTX_set_purpose(context, X509_PURPOSE_ANY);
    }
    if (settings.prefer_server_ciphers) {
        SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    }
    if (settings.ask_client_certificate || settings.require_client_certificate) {
        const auto verify = [](int, X509_STORE_CTX*) { return 1; };   // judged by the policy, not by the handshake
        SSL_CTX_set_verify(context,
                           SSL_VERIFY_PEER | (settings.require_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           verify);
    }
    return configure_common(context, settings);
}

Result<void> configure_client(SSL_CTX* context, const TlsSettings& settings) {
    const auto verify = [](int, X509_STORE_CTX*) { return 1; };   // judged by the policy, not by the handshake
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, verify);
    // Sessions are kept by destination, in TlsContext::remember().
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, tls_new_session);
    if (Result<void> allowed = allow_dane(context, settings.dane_digests); !allowed) {
        return allowed;
    }
    return configure_common(context, settings);
}

}  // namespace

TlsContext::~TlsContext() {
    for (auto& [key, remembered] : sessions_) {
        SSL_SESSION_free(remembered.session);
    }
    SSL_CTX_free(context_);
}

Result<std::unique_ptr<TlsContext>> TlsContext::server(const TlsSettings& settings) {
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    if (context == nullptr) {
        return Error(Errc::temporary, openssl_error());
    }
    std::unique_ptr<TlsContext> owner(new TlsContext(context));
    if (Result<void> done = configure_server(context, settings); !done) {
        return done.error();
    }
    if (settings.keys_for) {
        owner->keys_for_ = settings.keys_for;
        SSL_CTX_set_tlsext_servername_callback(context, &TlsContext::choose_keys);
        SSL_CTX_set_tlsext_servername_arg(context, owner.get());
    }
    return owner;
}

/// Called in the handshake, when the client's greeting has come.
int TlsContext::choose_keys(ssl_st* session, int*, void* self) {
    const char* const name = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    const Result<std::optional<std::string>> keys = static_cast<TlsContext*>(self)->keys_for_(name);
    ERR_clear_error();   // a table that is a server lets other sessions go on meanwhile: what they left is not ours
    if (!keys) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    if (!*keys) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    const Result<void> used = use_keys(session, **keys);
    if (!used) {
        log_warning("keys for server name \"{}\": {}", printable(name, 255), used.error().what);
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

Result<std::unique_ptr<TlsContext>> TlsContext::client(const TlsSettings& settings, long session_seconds) {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    if (context == nullptr) {
        return Error(Errc::temporary, openssl_error());
    }
    std::unique_ptr<TlsContext> owner(new TlsContext(context));
    owner->session_seconds_ = session_seconds;
    if (Result<void> done = configure_client(context, settings); !done) {
        return done.error();
    }
    return owner;
}

namespace {

constexpr std::size_t kMaxSessions = 2000;

std::int64_t monotonic_seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

ssl_session_st* TlsContext::session(const std::string& key) {
    const auto found = sessions_.find(key);
    if (found == sessions_.end()) {
        return nullptr;
    }
    if (monotonic_seconds() - found->second.since >= session_seconds_) {
        forget(key);
        return nullptr;
    }
    return found->second.session;
}

void TlsContext::remember(const std::string& key, ssl_session_st* session) {
    forget(key);
    if (session_seconds_ <= 0) {
        SSL_SESSION_free(session);
        return;
    }
    if (sessions_.size() >= kMaxSessions) {   // whichever: it only costs somebody a full handshake
        forget(std::string(sessions_.begin()->first));
    }
    sessions_[key] = {session, monotonic_seconds()};
}

void TlsContext::forget(const std::string& key) {
    const auto found = sessions_.find(key);
    if (found != sessions_.end()) {
        SSL_SESSION_free(found->second.session);
        sessions_.erase(found);
    }
}

}  // namespace postern
