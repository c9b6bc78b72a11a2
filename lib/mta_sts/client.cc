#include "lib/mta_sts/client.h"

#include "lib/ipc/questions.h"
#include "lib/log/log.h"

namespace postern {
namespace {

using StsChannel = Channel<ToMtaSts, FromMtaSts>;
constexpr Millis kConnect = std::chrono::seconds(2);
/// After a failure the service is left alone for so long: if it does not work at all, mail shall not wait for it each time.
constexpr Millis kPause = std::chrono::seconds(30);

}  // namespace

struct StsClient::State : Questions<ToMtaSts, FromMtaSts> {
    using Questions::Questions;
    void complain(const std::string& path, const std::string& why) override {
        log_warning("{}: {}; destinations are treated as without MTA-STS policy", path, why);
    }
    static Task<std::optional<StsAnswer>> ask_once(Shared self, std::string domain, bool& lost);
};

StsClient::StsClient(std::string path)
    : state_(std::make_shared<State>(State::Service{std::move(path), kConnect, kPatience, kPause, kMaxStsAnswer})) {}

StsClient::~StsClient() {
    state_->end();
}

/// One question on the connection that is there, or a new one.  `lost`: it ended before the answer came.
Task<std::optional<StsAnswer>> StsClient::State::ask_once(Shared self, std::string domain, bool& lost) {
    lost = false;
    const bool ready = co_await connected(self);
    if (!ready || !self->link()) {
        co_return std::nullopt;
    }
    StsQuestion question;
    question.domain = std::move(domain);
    co_return co_await ask(self, std::move(question), lost);
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
    const State::Shared state = state_;
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
