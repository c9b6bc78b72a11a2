/// The conversations of auth(8): exchanges, tokens, lookups (lib/sasl/auth_messages.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "auth/databases.h"
#include "auth/mechanism.h"
#include "auth/penalty.h"
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
    /// `token_key` is the instance's (load_token_key).  Errors: config, for a mechanism in auth_mechanisms that does not
    /// exist.
    static Result<std::unique_ptr<AuthServer>> create(const Config& config, Databases& databases,
                                                      std::string token_key);
    ~AuthServer();

    /// One connection to its end.  `trusted` peers (root, or the same user as auth(8)) may redeem tokens and look up
    /// users; others get bad_token and no_user.
    Task<> serve(UniqueFd socket, bool trusted);

    /// Until the process ends, from the loop's timer: forgets what is old; and once the service is draining, ends
    /// conversations in which nothing is going on, so that their other ends turn to this process's successor.
    void look_after_regularly(const Service& service);

    /// The process has begun to drain: conversations in which nothing is going on end now.  Their other ends repeat at
    /// the successor what they may have been about to ask; a token that was given here is good there.
    void drain() { end_idle_conversations(); }

    /// What is offered, preferred first.
    const std::vector<std::string>& mechanisms() const { return mechanisms_; }

private:
    struct Exchange;
    struct Conversation;
    using Shared = std::shared_ptr<Conversation>;   // held by the reader and by every exchange under way
    void end_idle_conversations();

    AuthServer(const Config& config, Databases& databases, std::string token_key);
    void take(const Shared& conversation, AuthStart& message);
    void take(const Shared& conversation, AuthContinue& message);
    void take(const Shared& conversation, AuthCancel& message);
    void take(const Shared& conversation, AuthRedeem& message);
    void take(const Shared& conversation, AuthListMechanisms& message);
    void take(const Shared& conversation, AuthLookup& message);

    Task<> run_step(Shared conversation, std::shared_ptr<Exchange> exchange, std::optional<std::string> input);
    Task<> conclude(Shared conversation, std::shared_ptr<Exchange> exchange, SaslExchange::Step step);
    Task<> refused_by_mechanism(Shared conversation, std::shared_ptr<Exchange> exchange);
    Task<> decide(Shared conversation, std::shared_ptr<Exchange> exchange, bool by_password);
    Task<> let_in(Shared conversation, std::shared_ptr<Exchange> exchange, Verdict verdict);
    Task<> let_in_anonymous(Shared conversation, std::shared_ptr<Exchange> exchange);
    Task<bool> serve_penalty(std::shared_ptr<Exchange> exchange);
    void note_failure(const Exchange& exchange, std::string_view password);
    Task<> fail(Shared conversation, std::shared_ptr<Exchange> exchange, AuthFailureReason reason, std::string text,
                bool delay);
    Task<> redeem(Shared conversation, std::uint32_t id, std::string user, AuthPeer peer, std::string service);
    Task<> lookup(Shared conversation, std::uint32_t id, std::string user, std::string service);

    const Config& config_;
    Databases& databases_;
    std::unique_ptr<SaslMechanisms> library_;
    std::vector<std::string> mechanisms_;
    TokenStore tokens_;
    AuthPenalty penalty_;
    std::vector<std::weak_ptr<Conversation>> conversations_;
};

}  // namespace postern
