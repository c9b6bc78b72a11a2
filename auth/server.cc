#include "auth/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "lib/service/service.h"

namespace postern {

namespace {

/// A front that does not take its answers is given up.
constexpr Millis kSendPatience = std::chrono::seconds(30);
constexpr Millis kLookPeriod = std::chrono::seconds(1);
/// Failures that wait for their delay at one time; beyond that, answers come at once: memory is the scarcer good.
constexpr std::size_t kMaxDelayed = 10'000;

std::size_t delayed = 0;

bool offers(const std::vector<std::string>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

struct AuthServer::Exchange {
    std::uint32_t id = 0;
    AuthPeer peer;
    std::string mechanism;
    std::unique_ptr<SaslExchange> sasl;
    bool busy = false;           ///< a step is under way: another message of this exchange is an error
    bool cancelled = false;
    std::chrono::steady_clock::time_point asked{};   ///< when its password, or proof, came to be looked at
};

struct AuthServer::Conversation {
    Channel<FromAuth, ToAuth> channel;
    std::unordered_map<std::uint32_t, std::shared_ptr<Exchange>> exchanges;   ///< also held by a step under way
    std::size_t lookups = 0;     ///< answers that still wait for a user database
    bool trusted = false;

    template <class T>
    static Task<> answer(Shared self, T message) {
        if (!self->channel.is_open()) {
            co_return;
        }
        const Result<void> sent = co_await self->channel.send(std::move(message), kSendPatience);
        if (!sent) {
            self->channel.close();
        }
    }
};

AuthServer::AuthServer(const Config& config, Databases& databases, std::string token_key)
    : config_(config),
      databases_(databases),
      tokens_(std::move(token_key), config.auth_token_lifetime()),
      penalty_(config.auth_penalty_max_delay(), split_list(config.login_trusted_networks())) {}

AuthServer::~AuthServer() = default;

Result<std::unique_ptr<AuthServer>> AuthServer::create(const Config& config, Databases& databases,
                                                       std::string token_key) {
    std::unique_ptr<AuthServer> server(new AuthServer(config, databases, std::move(token_key)));
    auto library = SaslMechanisms::create();
    if (!library) {
        return library.error();
    }
    server->library_ = std::move(*library);
    const std::vector<std::string> known = SaslMechanisms::known();
    for (const std::string& word : split_list(config.auth_mechanisms())) {
        const std::string name = to_upper(word);
        if (!offers(known, name)) {
            return {Errc::config, fmt::format("parameter auth_mechanisms: {} is not one of {}", printable(word, 80),
                                              to_lower(fmt::format("{}", fmt::join(known, ", "))))};
        }
        if (!SaslMechanisms::is_scram(name) || databases.can_scram()) {
            server->mechanisms_.push_back(name);
        }
    }
    // Strongest first, whatever the order in the setting.
    std::stable_sort(server->mechanisms_.begin(), server->mechanisms_.end(),
                     [&known](const std::string& a, const std::string& b) {
                         return std::find(known.begin(), known.end(), a) < std::find(known.begin(), known.end(), b);
                     });
    return server;
}

void AuthServer::look_after_regularly(const Service& service) {
    Loop::current().every(kLookPeriod, [this, &service] {
        tokens_.expire(TokenStore::Clock::now());
        penalty_.expire(AuthPenalty::Clock::now());
        if (service.draining()) {
            end_idle_conversations();
        }
    });
}

void AuthServer::end_idle_conversations() {
    std::erase_if(conversations_, [](const std::weak_ptr<Conversation>& held) {
        const Shared conversation = held.lock();
        if (conversation && conversation->exchanges.empty() && conversation->lookups == 0 &&
            conversation->channel.is_open() && conversation->channel.pending_output() == 0) {
            conversation->channel.close();   // its reader ends
        }
        return conversation == nullptr;
    });
}

Task<> AuthServer::serve(UniqueFd socket, bool trusted) {
    auto conversation = std::make_shared<Conversation>();
    conversation->channel = Channel<FromAuth, ToAuth>(std::move(socket), kMaxAuthMessage);
    conversation->trusted = trusted;
    std::erase_if(conversations_, [](const std::weak_ptr<Conversation>& held) { return held.expired(); });
    conversations_.push_back(conversation);
    for (;;) {
        Result<ToAuth> message = co_await conversation->channel.receive(kForever);
        if (!message) {
            if (message.error().code != Errc::closed) {
                log_warning("auth: connection ended: {}", message.error().what);
            }
            break;
        }
        std::visit([&](auto& request) { take(conversation, request); }, *message);
    }
    for (auto& [id, exchange] : conversation->exchanges) {
        exchange->cancelled = true;
    }
    conversation->exchanges.clear();
    conversation->channel.close();
}

void AuthServer::take(const Shared& conversation, AuthStart& message) {
    const auto refuse = [&](AuthFailureReason reason) {
        AuthFailure failure;
        failure.id = message.id;
        failure.reason = static_cast<std::uint8_t>(reason);
        spawn(Conversation::answer(conversation, std::move(failure)));
    };
    if (conversation->exchanges.size() >= kMaxAuthExchanges || conversation->exchanges.count(message.id) != 0) {
        return refuse(AuthFailureReason::temporary);
    }
    auto exchange = std::make_shared<Exchange>();
    exchange->id = message.id;
    exchange->peer = std::move(message.peer);
    exchange->mechanism = to_upper(message.mechanism);
    if (config_.auth_debug()) {
        const AuthPeer& from = exchange->peer;
        log_info("auth: Debug: log-in by {}: service={} rip={} lip={} secured={} session=<{}>", printable(exchange->mechanism, 40),
                 printable(from.service, 40), printable(from.remote_ip, 64), printable(from.local_ip, 64), from.secured ? "yes" : "no",
                 printable(from.session_id, 64));
    }
    if (!offers(mechanisms_, exchange->mechanism)) {
        return refuse(AuthFailureReason::bad_mechanism);
    }
    if (message.initial_response.size() > kMaxSaslMessage) {
        return refuse(AuthFailureReason::malformed);
    }
    // The peer's copy: the lookup runs in another thread.
    auto sasl = library_->start(exchange->mechanism,
                                [this, peer = exchange->peer](const std::string& user, const std::string& for_user, ScramHash hash) {
                                    return databases_.scram_keys(user, for_user, peer, hash);
                                });
    if (!sasl) {
        return refuse(AuthFailureReason::bad_mechanism);
    }
    exchange->sasl = std::move(*sasl);
    conversation->exchanges[message.id] = exchange;
    std::optional<std::string> input;
    if (message.has_initial_response) {
        input = std::move(message.initial_response);
    }
    spawn(run_step(conversation, std::move(exchange), std::move(input)));
}

void AuthServer::take(const Shared& conversation, AuthContinue& message) {
    const auto found = conversation->exchanges.find(message.id);
    if (found == conversation->exchanges.end() || found->second->busy) {
        AuthFailure failure;
        failure.id = message.id;
        failure.reason = static_cast<std::uint8_t>(AuthFailureReason::malformed);
        spawn(Conversation::answer(conversation, std::move(failure)));
        return;
    }
    const bool too_big = message.response.size() > kMaxSaslMessage;
    std::shared_ptr<Exchange> exchange = found->second;
    if (too_big) {
        spawn(fail(conversation, std::move(exchange), AuthFailureReason::malformed, "", false));
    } else {
        spawn(run_step(conversation, std::move(exchange), std::optional(std::move(message.response))));
    }
}

void AuthServer::take(const Shared& conversation, AuthCancel& message) {
    if (const auto found = conversation->exchanges.find(message.id); found != conversation->exchanges.end()) {
        found->second->cancelled = true;
        conversation->exchanges.erase(found);
    }
}

void AuthServer::take(const Shared& conversation, AuthRedeem& message) {
    auto login = conversation->trusted
                     ? tokens_.redeem(message.token, message.service, TokenStore::Clock::now())
                     : std::nullopt;
    if (!login) {
        log_warning("auth: {} token refused: {}", printable(message.service, 20),
                    conversation->trusted ? "unknown, used or expired" : "asked by a process that may not redeem");
        AuthFailure failure;
        failure.id = message.id;
        failure.reason = static_cast<std::uint8_t>(AuthFailureReason::bad_token);
        spawn(Conversation::answer(conversation, std::move(failure)));
        return;
    }
    spawn(redeem(conversation, message.id, std::move(login->user), std::move(login->peer), std::move(message.service)));
}

void AuthServer::take(const Shared& conversation, AuthListMechanisms& message) {
    AuthMechanisms answer;
    answer.id = message.id;
    answer.names = mechanisms_;
    spawn(Conversation::answer(conversation, std::move(answer)));
}

void AuthServer::take(const Shared& conversation, AuthLookup& message) {
    spawn(lookup(conversation, message.id, std::move(message.user), std::move(message.service)));
}

Task<> AuthServer::run_step(Shared conversation, std::shared_ptr<Exchange> exchange, std::optional<std::string> input) {
    exchange->busy = true;
    SaslExchange::Step step;
    if (exchange->sasl->next_is_slow()) {
        auto work = [&exchange, &input] { return exchange->sasl->step(input); };
        step = co_await offload(std::move(work));
    } else {
        step = exchange->sasl->step(input);
    }
    exchange->busy = false;
    if (exchange->cancelled) {
        exchange->sasl->forget_password();
        co_return;
    }
    co_await conclude(conversation, exchange, std::move(step));
}

Task<> AuthServer::conclude(Shared conversation, std::shared_ptr<Exchange> exchange, SaslExchange::Step step) {
    AuthChallenge challenge;
    switch (step.kind) {
    case SaslExchange::Step::Kind::challenge:
        challenge.id = exchange->id;
        challenge.challenge = std::move(step.data);
        co_await Conversation::answer(conversation, std::move(challenge));
        break;
    case SaslExchange::Step::Kind::check_password:
        co_await decide(conversation, exchange, true);
        break;
    case SaslExchange::Step::Kind::authenticated:
        co_await decide(conversation, exchange, false);
        break;
    case SaslExchange::Step::Kind::anonymous:
        co_await let_in_anonymous(conversation, exchange);
        break;
    case SaslExchange::Step::Kind::refused:
        co_await refused_by_mechanism(conversation, exchange);
        break;
    case SaslExchange::Step::Kind::malformed:
        co_await fail(conversation, exchange, AuthFailureReason::malformed, "", false);
        break;
    }
}

/// A wrong proof (SCRAM).
Task<> AuthServer::refused_by_mechanism(Shared conversation, std::shared_ptr<Exchange> exchange) {
    exchange->busy = true;
    const bool waited = co_await serve_penalty(exchange);
    exchange->asked = std::chrono::steady_clock::now();
    if (config_.auth_verbose()) {
        log_info("auth: {}({},{},<{}>): invalid credentials", to_lower(exchange->mechanism), exchange->sasl->user(),
                 exchange->peer.remote_ip, exchange->peer.session_id);
    }
    note_failure(*exchange, {});
    co_await fail(conversation, exchange, AuthFailureReason::bad_credentials, "", waited);
}

/// Waits as long as earlier failures from the same address ask for.  False when too many wait already.
Task<bool> AuthServer::serve_penalty(std::shared_ptr<Exchange> exchange) {
    const auto wait = penalty_.delay(exchange->peer.remote_ip, exchange->peer.local_ip, AuthPenalty::Clock::now());
    if (wait.count() == 0) {
        co_return true;
    }
    if (delayed >= kMaxDelayed) {
        co_return false;
    }
    ++delayed;
    co_await sleep_for(wait);
    --delayed;
    co_return true;
}

void AuthServer::note_failure(const Exchange& exchange, std::string_view password) {
    penalty_.failed(exchange.peer.remote_ip, exchange.peer.local_ip, exchange.sasl->user(), password,
                    AuthPenalty::Clock::now());
}

/// The client has given what the mechanism asks for: is it let in?
Task<> AuthServer::decide(Shared conversation, std::shared_ptr<Exchange> exchange, bool by_password) {
    exchange->busy = true;
    const bool waited = co_await serve_penalty(exchange);
    exchange->asked = std::chrono::steady_clock::now();
    if (!waited || exchange->cancelled) {
        exchange->sasl->forget_password();
        co_return co_await fail(conversation, exchange, AuthFailureReason::temporary, "", false);
    }
    Result<LoginNames> names = databases_.names_of(exchange->sasl->user(), exchange->sasl->for_user(), exchange->peer);
    if (!names) {
        log_info("auth: {}(?,{},<{}>): {}", to_lower(exchange->mechanism), exchange->peer.remote_ip,
                 exchange->peer.session_id, names.error().what);
        note_failure(*exchange, exchange->sasl->password());
        co_return co_await fail(conversation, exchange, AuthFailureReason::bad_credentials, "", true);
    }
    Verdict verdict;
    if (by_password) {
        verdict = co_await databases_.check_password(std::move(*names), exchange->sasl->password(), exchange->peer);
        if (verdict.kind == Verdict::Kind::mismatch || verdict.kind == Verdict::Kind::unknown) {
            note_failure(*exchange, exchange->sasl->password());
        }
        exchange->sasl->forget_password();
    } else {
        verdict = databases_.authorize(*names, exchange->peer);
    }
    if (verdict.kind == Verdict::Kind::accepted) {
        penalty_.succeeded(exchange->peer.remote_ip);
        co_return co_await let_in(conversation, exchange, std::move(verdict));
    }
    AuthFailureReason reason = AuthFailureReason::bad_credentials;
    if (verdict.kind == Verdict::Kind::disabled) {
        reason = AuthFailureReason::disabled;
    } else {
        reason = verdict.kind == Verdict::Kind::temporary ? AuthFailureReason::temporary : reason;
        verdict.text.clear();
    }
    co_await fail(conversation, exchange, reason, std::move(verdict.text), !verdict.no_delay);
}

/// Who asks for no name gets auth_anonymous_username, and no forgiveness for wrong passwords.
Task<> AuthServer::let_in_anonymous(Shared conversation, std::shared_ptr<Exchange> exchange) {
    exchange->busy = true;
    log_info("auth: anonymous({},{},<{}>): login", printable(exchange->sasl->user(), 255), exchange->peer.remote_ip,
             exchange->peer.session_id);
    Verdict verdict;
    verdict.kind = Verdict::Kind::accepted;
    verdict.user = config_.auth_anonymous_username();
    co_await let_in(conversation, exchange, std::move(verdict));
}

/// Services with session processes, which redeem tokens.
static bool has_sessions(std::string_view service) { return service == "imap" || service == "pop3"; }

Task<> AuthServer::let_in(Shared conversation, std::shared_ptr<Exchange> exchange, Verdict verdict) {
    std::string user = std::move(verdict.user);
    conversation->exchanges.erase(exchange->id);
    AuthSuccess success;
    success.id = exchange->id;
    success.master = std::move(verdict.master);
    if (has_sessions(exchange->peer.service) && !exchange->cancelled) {
        success.token = tokens_.issue({user, exchange->peer}, TokenStore::Clock::now());
    }
    if (config_.auth_debug()) {
        log_info("auth: Debug: user {} logged in: session=<{}>", user, exchange->peer.session_id);
    }
    success.user = std::move(user);
    co_await Conversation::answer(conversation, std::move(success));
}

/// The delay counts from when the password came, so that its end does not tell whether a hash was computed, which is only
/// done for users who exist.
Task<> AuthServer::fail(Shared conversation, std::shared_ptr<Exchange> exchange, AuthFailureReason reason,
                        std::string text, bool delay) {
    exchange->busy = true;
    const auto spent = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - exchange->asked);
    const Millis left = config_.auth_failure_delay() - spent;
    if (delay && left.count() > 0 && delayed < kMaxDelayed) {
        ++delayed;
        co_await sleep_for(left);
        --delayed;
    }
    if (exchange->cancelled) {
        co_return;
    }
    conversation->exchanges.erase(exchange->id);
    AuthFailure failure;
    failure.id = exchange->id;
    failure.reason = static_cast<std::uint8_t>(reason);
    failure.user = exchange->sasl->user();
    failure.text = std::move(text);
    co_await Conversation::answer(conversation, std::move(failure));
}

Task<> AuthServer::redeem(Shared conversation, std::uint32_t id, std::string user, AuthPeer peer,
                          std::string service) {
    ++conversation->lookups;
    Result<AuthUser> found = co_await databases_.find_user(user, service);
    --conversation->lookups;
    if (!found) {
        log_error("auth: userdb({}): {}", user, found.error().what);
        AuthFailure failure;
        failure.id = id;
        failure.reason = static_cast<std::uint8_t>(found.error().code == Errc::not_found ? AuthFailureReason::no_user
                                                                                         : AuthFailureReason::temporary);
        failure.user = user;
        co_await Conversation::answer(conversation, std::move(failure));
        co_return;
    }
    AuthUserFound answer;
    answer.id = id;
    answer.user = std::move(*found);
    answer.peer = std::move(peer);
    co_await Conversation::answer(conversation, std::move(answer));
}

Task<> AuthServer::lookup(Shared conversation, std::uint32_t id, std::string user, std::string service) {
    AuthPeer peer;
    peer.service = service;
    const Result<std::string> name = databases_.canonical(user, peer);
    Result<AuthUser> found(Errc::not_found, "unknown user");
    if (conversation->trusted && name) {
        found = co_await databases_.find_user(*name, service);
    }
    if (!found) {
        AuthFailure failure;
        failure.id = id;
        failure.reason = static_cast<std::uint8_t>(found.error().code == Errc::not_found ? AuthFailureReason::no_user
                                                                                         : AuthFailureReason::temporary);
        co_await Conversation::answer(conversation, std::move(failure));
        co_return;
    }
    AuthUserFound answer;
    answer.id = id;
    answer.user = std::move(*found);
    co_await Conversation::answer(conversation, std::move(answer));
}

}  // namespace postern
