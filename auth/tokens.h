/// One-time tokens: what a front gets for a login, and the session launcher redeems.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "lib/base/result.h"
#include "lib/sasl/auth_messages.h"

namespace postern {

/// The key that all auth processes of an instance share: data_directory/auth_token_key, 0600, made when it is not there.
/// To be called before rights are given up.  The key holds until the machine is started again (it is mixed with the
/// kernel's boot id), because tokens count time from then.
/// Errors: config when the file belongs to somebody else or is no plain file; what open(2) and write(2) say.
Result<std::string> load_token_key(const std::string& data_directory);

/// A token says who logged in, how and until when, and is authenticated with the shared key.  So every auth process of
/// the instance can redeem it: the successor after a reload, another one where maxproc is above 1, the next one
/// after a crash.
///
/// Good once, for one service, for a short time.  "Once" is what each process remembers for itself: a token could be
/// redeemed once at each of the auth processes that run within its lifetime.  Only the session launcher may redeem, which
/// asks one process and turns to another only when that one has ended; and who can repeat a token, a front, has
/// had that user's password or session in its hands at most auth_token_lifetime ago.  So a second redemption gives away
/// nothing that the first did not.
class TokenStore {
public:
    using Clock = std::chrono::steady_clock;   // of the kernel: all processes read the same
    /// Redeemed tokens that are remembered; more logins within one lifetime are refused.
    static constexpr std::size_t kMaxUsed = 500'000;
    /// Names and addresses beyond any reason get no token.
    static constexpr std::size_t kMaxTokenBytes = 4096;

    TokenStore(std::string key, std::chrono::seconds lifetime) : key_(std::move(key)), lifetime_(lifetime) {}

    struct Login {
        std::string user;
        AuthPeer peer;
    };
    /// Empty when it would be longer than kMaxTokenBytes.
    std::string issue(Login login, Clock::time_point now) const;
    /// The login, once.  A token shown for the wrong service is void from then on.
    std::optional<Login> redeem(std::string_view token, std::string_view service, Clock::time_point now);
    /// Forgets what has expired; to be called now and then.
    void expire(Clock::time_point now);
    /// Redeemed and not yet expired.
    std::size_t remembered() const { return used_.size(); }

private:
    std::string key_;
    std::chrono::seconds lifetime_;
    std::unordered_map<std::string, Clock::time_point> used_;   ///< by nonce: when it may be forgotten
};

}  // namespace postern
