/// TLS settings and contexts (OpenSSL).  A context is made before a process gives up its rights, because it
/// reads keys; sessions are made from it afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/stream/tls_dane.h"

struct ssl_ctx_st;
struct ssl_st;
struct ssl_session_st;

namespace postern {

/// Values as in main.cf's smtpd_tls_* parameters; empty means OpenSSL's default.
struct TlsSettings {
    std::string cert_file;
    std::string key_file;                 ///< empty: the key is in cert_file
    std::string ec_cert_file;             ///< a second pair, of another algorithm
    std::string ec_key_file;              ///< empty: the key is in ec_cert_file
    std::vector<std::string> chain_files; ///< smtpd_tls_chain_files: key and chain, one pair each; in place of the others
    std::string ca_file;                  ///< authorities that the peer's certificate is checked against
    std::string ca_path;                  ///< a hashed directory of such, read whole when the context is made
    bool default_ca = false;              ///< the system's authorities too
    int verify_depth = 9;                 ///< longest chain of the peer below the root
    std::string protocols = ">=TLSv1.2";  ///< Postfix syntax: ">=TLSv1.2", "!SSLv3, !TLSv1", "<=TLSv1.2"
    std::string ciphers;                  ///< OpenSSL cipher list for TLS 1.2 and older
    std::string groups;                   ///< for key exchange, best first: tls_eecdh_auto_curves
    std::uint64_t options_on = 0;         ///< of OpenSSL: tls_ssl_options
    std::uint64_t options_off = 0;        ///< tls_disable_workarounds
    bool ask_client_certificate = false;
    bool require_client_certificate = false;
    bool any_client_purpose = false;      ///< servers: a client's certificate may be one that is made for servers
    std::vector<DaneDigest> dane_digests; ///< clients: what TlsDemand::tlsa may use
    bool prefer_server_ciphers = false;
    long ticket_seconds = 7200;           ///< servers: life of a session ticket; 0: none are given
    /// Servers: the key and certificates (PEM) for a name the client asks for; nothing: those above.  An error, which it
    /// has logged, ends the handshake.
    std::function<Result<std::optional<std::string>>(const std::string& name)> keys_for;
};

class TlsContext {
public:
    /// Errors: config, naming the file or setting and OpenSSL's reason.
    static Result<std::unique_ptr<TlsContext>> server(const TlsSettings& settings);
    /// For start_tls_client().  Keeps sessions for resumption, for `session_seconds`; 0: none.
    static Result<std::unique_ptr<TlsContext>> client(const TlsSettings& settings, long session_seconds);
    ~TlsContext();
    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;
    ssl_ctx_st* get() { return context_; }

    /// A session with the server that `key` stands for, or null; stays the context's.
    ssl_session_st* session(const std::string& key);
    /// Takes the session.
    void remember(const std::string& key, ssl_session_st* session);
    /// After a failure: do not try that one again.
    void forget(const std::string& key);

private:
    explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
    static int choose_keys(ssl_st* session, int* alert, void* self);
    struct Remembered {
        ssl_session_st* session = nullptr;
        std::int64_t since = 0;   ///< seconds of the monotonic clock
    };
    ssl_ctx_st* context_;
    std::function<Result<std::optional<std::string>>(const std::string&)> keys_for_;
    long session_seconds_ = 0;
    std::map<std::string, Remembered> sessions_;
};

/// What a client wants of a server.
struct TlsDemand {
    std::string server_name;                 ///< for SNI; empty: none is sent
    std::string session_key;                 ///< connections with the same key may resume each other's sessions
    std::string protocols;                   ///< as TlsSettings::protocols
    std::string ciphers;                     ///< OpenSSL cipher list for TLS 1.2 and older; empty: the context's
    bool lenient = false;                    ///< nobody is authenticated: old keys and digests are better than no TLS
    std::vector<std::string> names;          ///< "mail.example.com", ".example.com" (names below it): one must be certified
    std::vector<std::string> fingerprints;   ///< of certificate or public key, as for same_fingerprint()
    std::string fingerprint_digest = "sha256";
    bool wildcards_match_many = true;        ///< tls_wildcard_matches_multiple_labels
    /// Not empty: these decide instead of the context's authorities (demand_dane()); "trusted" and "matched" are then one.
    std::vector<TlsaRecord> tlsa;
};

/// What is known about the server after the handshake.
struct TlsPeer {
    bool has_certificate = false;
    bool trusted = false;               ///< its chain ends at an authority that is trusted
    bool matched = false;               ///< one of TlsDemand::names is certified, or one of the fingerprints is its
    std::string verify_error;           ///< OpenSSL's words when not trusted
    std::string subject, issuer;        ///< common names
    std::string certificate_fingerprint, key_fingerprint;
    /// "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 server-signature ..."
    std::string summary;
    bool resumed = false;
};

class Stream;
/// Turns the conversation into TLS as the client.  All input buffered in the clear is dropped (RFC 3207 section 4.2).
/// Whether trusted and matched are enough is the caller's decision.  Errors: io with OpenSSL's reason, timeout, closed,
/// config (a protocol or cipher list that OpenSSL does not take), unsupported (the stream is no socket).
Task<Result<TlsPeer>> start_tls_client(Stream& stream, TlsContext& context, TlsDemand demand, Millis timeout);

/// Whether a certified name ("mail.example.com", "*.example.com") is the wanted one.
bool tls_name_matches(std::string_view certified, std::string_view wanted, bool wildcards_match_many);

/// The digest of `bytes` as main.cf and policy servers write it: "AB:CD:..." with the named algorithm ("sha256").
/// Errors: config, when OpenSSL does not know the algorithm.
Result<std::string> fingerprint(std::string_view bytes, const std::string& digest);
/// Whether two texts are the same fingerprint: neither case nor colons count.  What is empty is like nothing.
bool same_fingerprint(std::string_view a, std::string_view b);

/// The oldest error in OpenSSL's queue, as text; the queue is emptied.
std::string openssl_error();

}  // namespace postern
