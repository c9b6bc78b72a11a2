#include "lib/tlsrpt/client.h"

#include <deque>

#include "lib/log/log.h"

namespace postern {
namespace {

using TlsrptChannel = Channel<ToTlsrpt, FromTlsrpt>;
constexpr Millis kPatience = std::chrono::seconds(10);
constexpr std::size_t kMaxWaiting = 1000;

constexpr std::string_view kResultNames[kTlsrptResults] = {
    "success",           "starttls-not-supported", "certificate-host-mismatch", "certificate-expired",
    "certificate-not-trusted", "validation-failure", "tlsa-invalid",            "dnssec-invalid",
    "dane-required",     "sts-policy-fetch-error", "sts-policy-invalid",        "sts-webpki-invalid",
};

}  // namespace

std::string_view tlsrpt_result_name(TlsrptResult result) {
    const auto index = static_cast<std::size_t>(result);
    return index < kTlsrptResults ? kResultNames[index] : "validation-failure";
}

std::string_view tlsrpt_policy_name(TlsrptPolicy policy) {
    return policy == TlsrptPolicy::sts ? "sts" : policy == TlsrptPolicy::tlsa ? "tlsa" : "no-policy-found";
}

struct TlsrptClient::State {
    std::string path;
    std::deque<TlsrptOutcome> waiting;
    bool sending = false;
    bool complained = false;

    static Task<> send_all(std::shared_ptr<State> self);
    static Task<Result<void>> send_some(TlsrptChannel& channel, State& self);
    void lost(const std::string& why) {
        if (!complained) {
            log_warning("{}: {}; TLS sessions are not counted", path, why);
        }
        complained = true;
        waiting.clear();
    }
};

Task<Result<void>> TlsrptClient::State::send_some(TlsrptChannel& channel, State& self) {
    while (!self.waiting.empty()) {
        channel.post(std::move(self.waiting.front()));
        self.waiting.pop_front();
    }
    co_return co_await channel.flush(kPatience);
}

/// A connection for each batch: outcomes are few beside all that a delivery says anyway.
Task<> TlsrptClient::State::send_all(std::shared_ptr<State> self) {
    while (!self->waiting.empty()) {
        Result<UniqueFd> socket = co_await connect_unix(self->path, kPatience);
        if (!socket) {
            self->lost(socket.error().what);
            break;
        }
        TlsrptChannel channel(std::move(*socket), 1024);
        const Result<void> sent = co_await send_some(channel, *self);
        if (!sent) {
            self->lost(sent.error().what);
            break;
        }
        self->complained = false;
    }
    self->sending = false;
}

TlsrptClient::TlsrptClient(std::string path) : state_(std::make_shared<State>()) {
    state_->path = std::move(path);
}

TlsrptClient::~TlsrptClient() = default;

void TlsrptClient::tell(TlsrptOutcome outcome) {
    if (state_->waiting.size() >= kMaxWaiting) {
        state_->lost("it does not keep up");
    }
    state_->waiting.push_back(std::move(outcome));
    if (!state_->sending) {
        state_->sending = true;
        spawn(State::send_all(state_));
    }
}

}  // namespace postern
