/// The client's side of SASL: whom to log in as, and by which mechanism (RFC 4954, SASL_README).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/match_list.h"
#include "lib/table/table.h"
#include "smtp/sasl_cache.h"
#include "smtp/settings.h"

struct Gsasl;
struct Gsasl_session;

namespace postern::smtp {

struct Credentials {
    std::string user;
    std::string password;   ///< a token for XOAUTH2 and OAUTHBEARER
};

/// One mechanism at work.
class SaslExchange {
public:
    virtual ~SaslExchange() = default;
    /// The mechanism speaks first: "AUTH MECHANISM response".
    virtual bool client_first() const = 0;
    /// The answer to a challenge (both without base64), or to nothing at the beginning.  Errors: denied (the server does
    /// not prove that it knows the password), syntax.
    virtual Result<std::string> step(std::string_view challenge) = 0;
    /// The server may say that all is well now.
    virtual bool complete() const = 0;
};

class SaslClient {
public:
    /// Opens the tables.  `settings` outlives this.  Errors: config.
    static Result<std::unique_ptr<SaslClient>> create(const Settings& settings, const TableContext& tables);
    ~SaslClient();
    SaslClient(const SaslClient&) = delete;
    SaslClient& operator=(const SaslClient&) = delete;

    bool enabled() const { return enabled_; }
    /// Log-ins that were refused lately.
    SaslCache& cache() { return cache_; }
    /// smtp_sasl_password_maps: by sender when that is asked for, by host, by next hop.  Errors: temporary.
    Result<std::optional<Credentials>> credentials(const std::string& sender, const std::string& host, const std::string& nexthop);

    enum class Channel : unsigned char { clear, tls, verified_tls };
    /// The best of the mechanisms that the server offers and the settings allow; empty when there is none.
    std::string choose(std::string_view offered, Channel channel);
    /// Errors: unsupported.
    Result<std::unique_ptr<SaslExchange>> start(const std::string& mechanism, const Credentials& who, const std::string& host,
                                                std::uint16_t port);

private:
    explicit SaslClient(const Settings& settings) : settings_(settings) {}
    Result<void> open(const TableContext& tables);

    const Settings& settings_;
    bool enabled_ = false;
    TableList passwords_;
    MatchList filter_;
    SaslCache cache_;
    Gsasl* library_ = nullptr;
};

}  // namespace postern::smtp
