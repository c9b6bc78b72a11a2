#include "auth/tokens.h"

#include "lib/base/strings.h"

namespace postern {

std::string TokenStore::issue(Login login, Clock::time_point now) {
    if (tokens_.size() >= kMaxTokens) {
        expire(now);
        if (tokens_.size() >= kMaxTokens) {
            return {};
        }
    }
    std::string token = random_bytes(kAuthTokenSize);
    tokens_[token] = Issued{std::move(login), now + lifetime_};
    return token;
}

std::optional<TokenStore::Login> TokenStore::redeem(std::string_view token, std::string_view service,
                                                    Clock::time_point now) {
    // Guessing 128 random bits is hopeless with or without help from how long a hash table takes.
    const auto found = tokens_.find(std::string(token));
    if (found == tokens_.end()) {
        return std::nullopt;
    }
    Issued issued = std::move(found->second);
    tokens_.erase(found);
    if (issued.expires <= now || issued.login.peer.service != service) {
        return std::nullopt;
    }
    return std::move(issued.login);
}

void TokenStore::expire(Clock::time_point now) {
    for (auto token = tokens_.begin(); token != tokens_.end();) {
        token = token->second.expires <= now ? tokens_.erase(token) : std::next(token);
    }
}

}  // namespace postern
