#include <unordered_map>

#include "lib/ipc/questions.h"
#include "lib/limits/client_counts.h"
#include "lib/log/log.h"

namespace postern {

namespace {

/// A client of ours waits this long for its greeting when anvil hangs, once in kHoldOff.
constexpr Millis kPatience = std::chrono::seconds(3);
constexpr Millis kHoldOff = std::chrono::seconds(10);
/// How long a closed connection may wait for company on its way to anvil.
constexpr Millis kLazy(100);

}  // namespace

struct AnvilClient::State : Questions<ToAnvil, FromAnvil> {
    using Questions::Questions;

    std::unordered_map<std::string, std::uint32_t> open;
    Timer lazy;
    bool lazy_set = false;

    /// Nothing is limited for a while.
    void complain(const std::string& path, const std::string& why) override {
        log_warning("problem talking to service {}: {}; clients are not limited", path, why);
    }
    void introduce(Link& link) override;
    void hung_up(const Shared& self, bool answered) override;
    void disconnected() override { company_leaves(); }
    void company_leaves();
    static void lazy_time(void* self);
    static Task<> reconnect(Shared self);
    static Task<> send_posted(std::shared_ptr<Link> link);
    template <class Question>
    static Task<std::optional<ClientNumbers>> numbers(Shared self, Question question);
};

/// A new anvil learns what is open.
void AnvilClient::State::introduce(Link& link) {
    for (const auto& [client, connections] : open) {
        AnvilStillOpen still;
        still.client = client;
        still.connections = connections;
        link.post(std::move(still));
    }
}

void AnvilClient::State::hung_up(const Shared& self, bool answered) {
    if (!answered) {
        trouble("lost connection");   // it may die at every start: not tried again at once
    } else if (!open.empty() && !has_ended()) {
        spawn(reconnect(self));   // anvil was started again
    }
}

Task<> AnvilClient::State::reconnect(Shared self) {
    (void)co_await connected(self);   // what was posted goes out with the reader's first wait
}

Task<> AnvilClient::State::send_posted(std::shared_ptr<Link> link) {
    (void)co_await link->flush(kPatience);   // a lost connection is the reader's business
}

/// What waits for company has it, or nowhere to go.
void AnvilClient::State::company_leaves() {
    lazy.cancel();
    lazy_set = false;
}

void AnvilClient::State::lazy_time(void* self) {
    auto* state = static_cast<State*>(self);
    state->lazy_set = false;
    if (state->link()) {
        spawn(send_posted(state->link()));
    }
}

/// On the channel that is there.
template <class Question>
Task<std::optional<ClientNumbers>> AnvilClient::State::numbers(Shared self, Question question) {
    bool lost = false;
    const std::optional<AnvilNumbers> answer = co_await ask(self, std::move(question), lost);
    if (!answer) {
        co_return std::nullopt;
    }
    co_return ClientNumbers{answer->open, answer->rate};
}

AnvilClient::AnvilClient(std::string path)
    : state_(std::make_shared<State>(State::Service{std::move(path), kPatience, kPatience, kHoldOff, kMaxAnvilMessage})) {}

AnvilClient::~AnvilClient() {
    state_->end();
}

Task<std::optional<ClientNumbers>> AnvilClient::opened(std::string client) {
    const std::shared_ptr<State> state = state_;
    const State::Shared questions = state;
    const bool ready = co_await State::connected(questions);
    ++state->open[client];   // after connected(), which tells what was open before
    if (!ready || !state->link()) {
        co_return std::nullopt;
    }
    AnvilOpened request;
    request.client = std::move(client);
    state->company_leaves();
    co_return co_await State::numbers(questions, std::move(request));
}

Task<std::optional<ClientNumbers>> AnvilClient::event(std::string client, ClientEvent what, std::uint32_t amount) {
    const std::shared_ptr<State> state = state_;
    const State::Shared questions = state;
    const bool ready = co_await State::connected(questions);
    if (!ready || !state->link()) {
        co_return std::nullopt;
    }
    AnvilEvent request;
    request.client = std::move(client);
    request.what = static_cast<std::uint8_t>(what);
    request.amount = amount;
    state->company_leaves();
    co_return co_await State::numbers(questions, std::move(request));
}

void AnvilClient::closed(const std::string& client, const EventTally& uncounted, bool soon) {
    const auto found = state_->open.find(client);
    if (found == state_->open.end()) {
        return;
    }
    if (--found->second == 0) {
        state_->open.erase(found);
    }
    if (!state_->link()) {
        return;
    }
    const auto count = [&uncounted](ClientEvent what) { return uncounted[static_cast<std::size_t>(what)]; };
    AnvilClosed message;
    message.client = client;
    message.message = count(ClientEvent::message);
    message.recipient = count(ClientEvent::recipient);
    message.tls = count(ClientEvent::tls);
    message.auth = count(ClientEvent::auth);
    state_->link()->post(std::move(message));
    if (soon) {
        spawn(State::send_posted(state_->link()));
    } else if (!state_->lazy_set) {
        state_->lazy_set = true;
        state_->lazy.start(kLazy, &State::lazy_time, state_.get());
    }
}

}  // namespace postern
