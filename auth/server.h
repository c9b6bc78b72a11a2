/// The conversations of auth(8): exchanges, tokens, lookups (lib/sasl/auth_messages.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "auth/databases.h"
#include "auth/mechanism.h"
#include "auth/tokens.h"
#include "lib/async/loop.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/sasl/auth_messages.h"

namespace postern {

class Service;

/// Serves any number of connections.  Everything it refers to outlives it.
class AuthServer {
public:
    /// Errors: config, for a mechanism in auth_mechanisms that does not exist.
    static Result<std::unique_ptr<AuthServer>> create(const Config& config, Databases& databases);
    ~AuthServer();

    /// One connection to its end.  `trusted` peers (root, or the same user as auth(8)) may redeem tokens and look up
    /// users; others get bad_token and no_user.
    Task<> serve(UniqueFd socket, bool trusted);

    /// Until the process ends, from the loop's timer: forgets old tokens; and once the service is draining, ends
    /// conversations in which nothing is going on, so that their other ends turn to this process's successor.
    void look_after_regularly(const Service& service);

    /// The process has begun to drain: idle connections of fronts end now, so that their next log-in goes to the
    /// successor, where its token will be redeemed.
    void drain() { end_idle_conversations(false); }

    /// What is offered, preferred first.
    const std::vector<std::string>& mechanisms() const { return mechanisms_; }

private:
    struct Exchange;
    struct Conversation;
    using Shared = std::shared_ptr<Conversation>;   // held by the reader and by every exchange under way
    /// Those of trusted peers too, who redeem tokens, or only those of fronts.
    void end_idle_conversations(bool trusted_too);

    AuthServer(const Config& config, Databases& databases);
    void take(const Shared& conversation, AuthStart& message);
    void take(const Shared& conversation, AuthContinue& message);
    void take(const Shared& conversation, AuthCancel& message);
    void take(const Shared& conversation, AuthRedeem& message);
    void take(const Shared& conversation, AuthListMechanisms& message);
    void take(const Shared& conversation, AuthLookup& message);

    Task<> run_step(Shared conversation, std::shared_ptr<Exchange> exchange, std::optional<std::string> input);
    Task<> conclude(Shared conversation, std::shared_ptr<Exchange> exchange, SaslExchange::Step step);
    Task<> decide(Shared conversation, std::shared_ptr<Exchange> exchange, bool by_password);
    Task<> fail(Shared conversation, std::shared_ptr<Exchange> exchange, AuthFailureReason reason, std::string text,
                bool delay);
    Task<> redeem(Shared conversation, std::uint32_t id, std::string user, AuthPeer peer, std::string service);
    Task<> lookup(Shared conversation, std::uint32_t id, std::string user, std::string service);

    const Config& config_;
    Databases& databases_;
    std::unique_ptr<SaslMechanisms> library_;
    std::vector<std::string> mechanisms_;
    TokenStore tokens_;
    std::vector<std::weak_ptr<Conversation>> conversations_;
};

}  // namespace postern
