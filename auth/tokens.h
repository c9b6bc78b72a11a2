/// One-time tokens: what a front gets for a login, and the session launcher redeems.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "lib/sasl/auth_messages.h"

namespace postern {

/// 128 random bits each, good once, for one service, for a short time.
class TokenStore {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t kMaxTokens = 100'000;

    explicit TokenStore(std::chrono::seconds lifetime) : lifetime_(lifetime) {}

    struct Login {
        std::string user;
        AuthPeer peer;
    };
    /// Empty when too many are outstanding.
    std::string issue(Login login, Clock::time_point now);
    /// The login, once.  A token shown for the wrong service is void from then on.
    std::optional<Login> redeem(std::string_view token, std::string_view service, Clock::time_point now);
    /// Forgets what has expired; to be called now and then.
    void expire(Clock::time_point now);
    std::size_t size() const { return tokens_.size(); }

private:
    struct Issued {
        Login login;
        Clock::time_point expires;
    };
    std::chrono::seconds lifetime_;
    std::unordered_map<std::string, Issued> tokens_;
};

}  // namespace postern
