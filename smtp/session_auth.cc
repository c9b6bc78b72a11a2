// AUTH (RFC 4954).
#include <fmt/format.h>

#include <ctime>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "smtp/session.h"

namespace postern::smtp {
namespace {

constexpr int kMaxSteps = 10;
/// Shorter ones would be found everywhere.
constexpr std::size_t kMinSecret = 4;

/// The text behind "334 ".
std::string_view challenge_of(const Reply& reply) {
    return reply.text.size() > 4 ? std::string_view(reply.text).substr(4) : std::string_view();
}

}  // namespace

/// Some servers repeat what they do not understand.
void Session::hide_secrets(std::string& line) const {
    for (const std::string& secret : secrets_) {
        for (std::size_t at = line.find(secret); secret.size() >= kMinSecret && at != line.npos; at = line.find(secret, at)) {
            line.replace(at, secret.size(), kNotShown);
            at += kNotShown.size();
        }
    }
}

/// smtp_sasl_auth_cache_name: what the server said to these credentials not long ago.
std::optional<Failure> Session::refused_before(SaslClient& sasl, const Credentials& who, std::int64_t now) const {
    const auto before = sasl.cache().find(host_.host, who.user, who.password, now);
    if (!before) {
        return std::nullopt;
    }
    Failure refused{before->dsn, fmt::format("SASL [CACHED] authentication failed; server {} said: {}", host_.name_and_address(), before->reply), true};
    refused.remote_mta = host_.host;
    refused.diagnostic = "smtp; " + before->reply;
    if (settings_.sasl_auth_soft_bounce()) {
        refused.soften();
    }
    return refused;
}

Task<std::optional<Failure>> Session::authenticate(SaslClient& sasl, const std::string& nexthop, const std::string& sender) {
    if (!sasl.enabled() || features_.auth.empty()) {
        co_return std::nullopt;
    }
    const std::string peer = host_.name_and_address();
    const Result<std::optional<Credentials>> who = sasl.credentials(sender, host_.host, nexthop);
    if (!who) {
        log_warning("{}", who.error().what);
        Failure failure{"4.7.0", "SASL password lookup failed", true};
        co_return failure;
    }
    if (!*who) {
        co_return std::nullopt;
    }
    const std::int64_t now = std::time(nullptr);
    std::optional<Failure> known = refused_before(sasl, **who, now);
    if (known) {
        co_return known;
    }
    const bool verified = tls_ && tls_->matched;
    const auto channel = !tls_ ? SaslClient::Channel::clear : verified ? SaslClient::Channel::verified_tls : SaslClient::Channel::tls;
    const std::string mechanism = sasl.choose(features_.auth, channel);
    Failure failure{"4.7.0", "", true};
    if (mechanism.empty()) {
        failure.text = fmt::format("SASL authentication failed: server {} offered no compatible authentication mechanisms for "
                                   "this type of connection security", peer);
        co_return failure;
    }
    Result<std::unique_ptr<SaslExchange>> exchange = sasl.start(mechanism, **who, host_.host, host_.port);
    Result<std::string> words = std::string();
    if (exchange && (*exchange)->client_first()) {
        words = (*exchange)->step("");
    }
    if (!exchange || !words) {
        failure.text = fmt::format("SASL authentication failed; cannot authenticate to server {}: {}", peer,
                                   exchange ? words.error().what : exchange.error().what);
        co_return failure;
    }
    secrets_ = {(*who)->password};
    secret_command(words->empty() ? "AUTH " + mechanism : "AUTH " + mechanism + " " + base64_encode(*words));
    std::optional<Reply> refused;
    std::optional<Failure> failed = co_await sasl_dialogue(**exchange, peer, refused);
    secrets_.clear();
    if (refused) {
        const SaslCache::Refusal refusal{refused->dsn, refused->one_line()};
        sasl.cache().store(host_.host, (*who)->user, (*who)->password, refusal, now);
    }
    co_return failed;
}

/// From the reply to AUTH to the end.  `refused`: the server knows, and says no (535, RFC 4954 section 6).
Task<std::optional<Failure>> Session::sasl_dialogue(SaslExchange& exchange, const std::string& peer, std::optional<Reply>& refused) {
    Failure failure{"4.7.0", "", true};
    for (int step = 0; step < kMaxSteps; ++step) {
        Result<Reply> answer = co_await reply(settings_.helo_timeout());
        if (!answer) {
            co_return broken(answer.error(), "performing the AUTH dialogue");
        }
        if (answer->positive()) {
            if (!exchange.complete()) {
                failure.text = fmt::format("SASL authentication failed; server {} does not prove its identity", peer);
                co_return failure;
            }
            co_return std::nullopt;
        }
        if (!answer->intermediate()) {
            failure = with_reply(*answer, fmt::format("SASL authentication failed; server {} said: {}", peer, answer->one_line()));
            failure.destination_dead = true;
            if (answer->code == 535) {
                refused = *answer;
            }
            if (settings_.sasl_auth_soft_bounce()) {
                failure.soften();
            }
            co_return failure;
        }
        const std::optional<std::string> challenge = base64_decode(challenge_of(*answer));
        Result<std::string> words = Error(Errc::syntax, "challenge is not base64");
        if (challenge) {
            words = exchange.step(*challenge);
        }
        if (!words) {
            failure.text = fmt::format("SASL authentication failed; cannot authenticate to server {}: {}", peer, words.error().what);
            command("*");   // RFC 4954 section 4: cancels; QUIT follows
            const Result<Reply> cancelled = co_await reply(settings_.helo_timeout());
            if (!cancelled) {
                log_debug("{}: {}", peer, cancelled.error().what);
            }
            co_return failure;
        }
        secret_command(base64_encode(*words));
    }
    failure.text = fmt::format("SASL authentication failed; authentication protocol loop with server {}", peer);
    co_return failure;
}

}  // namespace postern::smtp
