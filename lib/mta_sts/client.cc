#include "lib/mta_sts/client.h"

#include "lib/log/log.h"

namespace postern {
namespace {

using StsChannel = Channel<ToMtaSts, FromMtaSts>;
constexpr Millis kConnect = std::chrono::seconds(2);
/// After a failure the service is left alone for so long: if it does not work at all, mail shall not wait for it each time.
constexpr std::chrono::seconds kPause{30};

struct Waiter {
    std::optional<StsAnswer> answer;
    Notice news;
};

}  // namespace

struct StsClient::State {
    using Shared = std::shared_ptr<State>;
    using Clock = std::chrono::steady_clock;

    std::string path;
    std::shared_ptr<StsChannel> channel;   ///< shared with its reader
    std::map<std::uint32_t, Waiter*> waiting;
    std::uint32_t last_id = 0;
    Clock::time_point not_before{};
    bool complained = false;
    bool ended = false;

    void disconnect() {
        if (channel) {
            channel->close();
            channel.reset();
        }
        for (const auto& [id, waiter] : waiting) {
            waiter->news.notify_all();
        }
    }
    void trouble(const std::string& why) {
        not_before = Clock::now() + kPause;
        if (!complained) {
            log_warning("{}: {}; destinations are treated as without MTA-STS policy", path, why);
        }
        complained = true;
    }
    static Task<bool> connected(Shared self);
    static Task<> read_answers(Shared self, std::shared_ptr<StsChannel> channel);
    static Task<std::optional<StsAnswer>> ask_once(Shared self, std::string domain, bool& lost);
};

Task<bool> StsClient::State::connected(Shared self) {
    if (self->channel) {
        co_return true;
    }
    if (self->ended || Clock::now() < self->not_before) {
        co_return false;
    }
    Result<UniqueFd> socket = co_await connect_unix(self->path, kConnect);
    if (!socket) {
        self->trouble(socket.error().what);
        co_return false;
    }
    if (!self->channel && !self->ended) {   // else somebody was faster
        self->channel = std::make_shared<StsChannel>(std::move(*socket), kMaxStsAnswer);
        spawn(read_answers(self, self->channel));
    }
    co_return self->channel != nullptr;
}

Task<> StsClient::State::read_answers(Shared self, std::shared_ptr<StsChannel> channel) {
    for (;;) {
        Result<FromMtaSts> message = co_await channel->receive(kForever);
        if (!message) {
            break;
        }
        StsAnswer& answer = std::get<StsAnswer>(*message);
        const auto found = self->waiting.find(answer.id);
        if (found == self->waiting.end()) {
            continue;   // given up
        }
        Waiter* const waiter = found->second;
        self->waiting.erase(found);
        waiter->answer = std::move(answer);
        self->complained = false;
        waiter->news.notify_all();
    }
    if (self->channel == channel) {
        self->disconnect();   // idle services end; the next question finds or starts another
    }
}

StsClient::StsClient(std::string path) : state_(std::make_shared<State>()) {
    state_->path = std::move(path);
}

StsClient::~StsClient() {
    state_->ended = true;
    state_->disconnect();
}

/// One question on the connection that is there, or a new one.  `lost`: it ended before the answer came.
Task<std::optional<StsAnswer>> StsClient::State::ask_once(Shared self, std::string domain, bool& lost) {
    lost = false;
    const bool ready = co_await connected(self);
    if (!ready || !self->channel) {
        co_return std::nullopt;
    }
    const std::shared_ptr<StsChannel> link = self->channel;
    Waiter waiter;
    StsQuestion question;
    question.id = ++self->last_id;
    question.domain = std::move(domain);
    const std::uint32_t id = question.id;
    self->waiting[id] = &waiter;
    link->post(std::move(question));
    const Result<void> sent = co_await link->flush(kPatience);
    if (sent && !waiter.answer && self->channel == link) {
        co_await waiter.news.wait(kPatience);
    }
    self->waiting.erase(id);
    lost = !waiter.answer && self->channel != link;
    if (!waiter.answer && !lost) {
        self->trouble("no answer");   // it answers in time what it does not know, too
        self->disconnect();
    }
    co_return std::move(waiter.answer);
}

Task<Result<StsAnswer>> ask_sts(std::string path, std::string domain) {
    Result<UniqueFd> socket = co_await connect_unix(path, kConnect);
    if (!socket) {
        co_return socket.error();
    }
    StsChannel channel(std::move(*socket), kMaxStsAnswer);
    StsQuestion question;
    question.domain = std::move(domain);
    channel.post(std::move(question));
    Result<FromMtaSts> answer = co_await channel.receive(StsClient::kPatience);
    if (!answer) {
        co_return answer.error();
    }
    co_return std::move(std::get<StsAnswer>(*answer));
}

/// A service that ended at this moment is no reason to send in the clear: its successor is asked.
Task<std::optional<StsAnswer>> StsClient::ask(std::string domain) {
    const std::shared_ptr<State> state = state_;
    bool lost = false;
    std::optional<StsAnswer> answer = co_await State::ask_once(state, domain, lost);
    if (lost) {
        std::optional<StsAnswer> second = co_await State::ask_once(state, domain, lost);
        answer = std::move(second);
    }
    if (lost) {
        state->trouble("lost connection");
    }
    co_return answer;
}

}  // namespace postern
