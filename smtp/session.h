/// One connection to a server, from the greeting to QUIT.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "lib/async/task.h"
#include "lib/notice/transcript.h"
#include "lib/stream/stream.h"
#include "lib/tlsrpt/messages.h"
#include "lib/table/table.h"
#include "smtp/failure.h"
#include "smtp/hosts.h"
#include "smtp/reply.h"
#include "smtp/sasl.h"
#include "smtp/settings.h"
#include "smtp/tls_policy.h"

namespace postern::smtp {

/// What the server offers (RFC 5321 section 2.2).
struct Features {
    bool esmtp = false;
    bool pipelining = false;        ///< RFC 2920
    bool size = false;              ///< RFC 1870
    std::uint64_t size_limit = 0;   ///< 0: none was given
    bool eight_bit = false;         ///< RFC 6152
    bool smtputf8 = false;          ///< RFC 6531
    bool chunking = false;          ///< RFC 3030
    bool dsn = false;               ///< RFC 3461
    bool starttls = false;          ///< RFC 3207
    bool requiretls = false;        ///< RFC 8689
    std::string auth;               ///< mechanisms, separated by blanks; RFC 4954
    std::string xforward;           ///< attributes, separated by blanks
};

/// Takes the lines of a reply to EHLO or LHLO.  `ignored`: smtp_discard_ehlo_keywords, lower case.
Features parse_features(std::string_view reply_text, const std::vector<std::string>& ignored);

class Session {
public:
    /// `settings` and `filter` (smtp_reply_filter) outlive the session.
    Session(const Settings& settings, TableList& filter, std::unique_ptr<Stream> stream, HostAddress host);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    const HostAddress& host() const { return host_; }
    const Features& features() const { return features_; }
    const Settings& settings() const { return settings_; }
    Stream& stream() { return *stream_; }
    const Stream& stream() const { return *stream_; }

    /// The greeting.  A failure means that the server does not want to talk to us.
    Task<std::optional<Failure>> greet();
    /// EHLO, and HELO when the server does not know that; LHLO.  `loop_test`: a server with our own name is this host,
    /// and mail for `nexthop` goes round in circles; `best` says that it is the best MX.
    struct Hello {
        std::string nexthop;
        bool loop_test = false;
        bool best_mx = false;
        std::vector<std::string> ignored;
    };
    Task<std::optional<Failure>> hello(const Hello& how);

    /// STARTTLS (RFC 3207), as far as `policy` wants it, and EHLO again; with smtp_tls_wrappermode, before the greeting,
    /// the handshake alone.  After a failure, tls_failed() says whether TLS itself is to blame.
    Task<std::optional<Failure>> secure(TlsPolicies& policies, const TlsPolicy& policy, const NextHop& hop, const Hello& how);
    Task<std::optional<Failure>> wrap(TlsPolicies& policies, const TlsPolicy& policy, const NextHop& hop);
    bool tls_failed() const { return tls_failed_; }
    /// What a TLS report says of this connection (RFC 8460 section 4.3); nothing while TLS has not been tried.
    struct TlsVerdict {
        TlsrptResult result = TlsrptResult::success;
        std::string reason;
    };
    const std::optional<TlsVerdict>& tls_verdict() const { return tls_verdict_; }
    /// The name in the server's reply to EHLO.
    const std::string& server_helo() const { return server_helo_; }
    /// Null in the clear.
    const TlsPeer* tls() const { return tls_ ? &*tls_ : nullptr; }
    /// smtp_log_tls_feature_status: the policy's level, "may:none" when less came of it, "!verify:encrypt" when that was too
    /// little; empty where no TLS was wanted.
    std::string tls_status() const;
    /// The certificate is what the policy asks for.
    bool tls_secured() const { return tls_secured_; }

    /// AUTH (RFC 4954), when the server offers it and there is a password for it.
    Task<std::optional<Failure>> authenticate(SaslClient& sasl, const std::string& nexthop, const std::string& sender);

    /// Queues a command; it leaves with the next reply that is waited for.
    void command(std::string_view text);
    /// The same for what nobody may read in a log.
    void secret_command(std::string_view text);
    /// The next reply.  `doing` is for the failure: "sending MAIL FROM".
    Task<Result<Reply>> reply(Millis timeout);
    /// What is left of `timeout`, which began at `begin`: with smtp_per_request_deadline it counts for a whole request and its
    /// reply, and content of `bytes` is given the time that smtp_min_data_rate allows; else for each read and write.
    Millis left_of(std::chrono::steady_clock::time_point begin, Millis timeout, std::uint64_t bytes = 0) const;
    /// Why the reply() failed: "lost connection with X while ...".
    Failure broken(const Error& error, std::string_view doing) const;
    /// "host X said: ... (in reply to ...)".
    Failure refused(const Reply& reply, std::string_view in_reply_to);

    /// What was said since the last take_transcript(), when notify_classes has "protocol" and something of that kind happened:
    /// the notice about it.
    std::optional<queue::Begin> take_transcript();
    /// What the stream was told without command().
    void note_said(std::string_view text) { transcript_.said(text); }

    /// Says goodbye and closes; does not wait for the answer unless smtp_skip_quit_response is off.
    Task<> quit();
    /// The conversation is over: neither used again nor ended by QUIT.
    void mark_dead() { dead_ = true; }
    bool dead() const { return dead_; }
    void quit_sent() { quit_sent_ = true; }

    /// Messages that this connection has been used for before.
    int uses() const { return uses_; }
    void count_use() { ++uses_; }
    std::chrono::steady_clock::time_point opened() const { return opened_; }
    /// A transaction was begun and not ended: RSET before the next one.
    bool unfinished = false;
    /// debug_peer_list: what is said is logged.
    bool debugged = false;
    /// The policy lets it be used for other messages.
    bool may_be_kept = true;

private:
    Failure refuses_to_talk(const Reply& reply);
    Failure with_reply(const Reply& reply, std::string text);
    void look_at_code(int code);
    void hide_secrets(std::string& line) const;
    std::string filtered(std::string line);
    std::optional<Failure> refused_before(SaslClient& sasl, const Credentials& who, std::int64_t now) const;
    Task<std::optional<Failure>> sasl_dialogue(SaslExchange& exchange, const std::string& peer, std::optional<Reply>& refused);
    Task<std::optional<Failure>> handshake(TlsPolicies& policies, const TlsPolicy& policy, const NextHop& hop);

    const Settings& settings_;
    TableList& filter_;
    std::unique_ptr<Stream> stream_;
    HostAddress host_;
    Features features_;
    bool offers_esmtp_ = true;
    bool dead_ = false;
    bool quit_sent_ = false;
    Transcript transcript_;
    std::vector<std::string> secrets_;       ///< sent in this AUTH: a server that repeats them shall not bring them into logs
    std::optional<TlsPeer> tls_;
    bool tls_failed_ = false;
    bool tls_secured_ = false;
    std::string wanted_tls_;   ///< the level of the policy
    std::optional<TlsVerdict> tls_verdict_;
    std::string server_helo_;
    int uses_ = 0;
    std::chrono::steady_clock::time_point opened_;
};

}  // namespace postern::smtp
