#include <unordered_map>

#include "lib/ipc/channel.h"
#include "lib/limits/client_counts.h"
#include "lib/log/log.h"

namespace postern {

namespace {

/// A client of ours waits this long for its greeting when anvil hangs, once in kHoldOff.
constexpr Millis kPatience = std::chrono::seconds(3);
constexpr Millis kHoldOff = std::chrono::seconds(10);
/// How long a closed connection may wait for company on its way to anvil.
constexpr Millis kLazy(100);

using Clock = std::chrono::steady_clock;
using AnvilChannel = Channel<ToAnvil, FromAnvil>;

}  // namespace

struct AnvilClient::State {
    using Shared = std::shared_ptr<State>;
    /// A coroutine in ask(); lives in its frame.
    struct Waiter {
        std::optional<ClientNumbers> answer;
        Notice news;
    };

    std::string path;
    std::shared_ptr<AnvilChannel> channel;      ///< also kept by its reader; null: none
    std::unordered_map<std::uint32_t, Waiter*> waiting;
    std::unordered_map<std::string, std::uint32_t> open;
    std::uint32_t last_id = 0;
    Clock::time_point not_before{};             ///< no new try before this
    bool complained = false;
    bool ended = false;
    Timer lazy;
    bool lazy_set = false;

    void trouble(const std::string& what);
    void disconnect();
    static void lazy_time(void* self);
    static Task<bool> connected(Shared self);
    static Task<> reconnect(Shared self);
    static Task<> read_answers(Shared self, std::shared_ptr<AnvilChannel> channel);
    static Task<> send_posted(std::shared_ptr<AnvilChannel> channel);
    /// On the channel that is there.
    static Task<std::optional<ClientNumbers>> ask(Shared self, ToAnvil request, std::uint32_t id);
};

/// Nothing is limited for a while; said once until it works again.
void AnvilClient::State::trouble(const std::string& what) {
    not_before = Clock::now() + kHoldOff;
    if (!complained && !ended) {
        log_warning("problem talking to service {}: {}; clients are not limited", path, what);
    }
    complained = true;
}

void AnvilClient::State::disconnect() {
    if (channel) {
        channel->close();   // its reader ends and lets go of it
        channel.reset();
    }
    lazy.cancel();
    lazy_set = false;
    const auto waiters = std::move(waiting);
    waiting.clear();
    for (const auto& [id, waiter] : waiters) {
        waiter->news.notify_all();
    }
}

/// Connects when that is needed and may be tried; then tells what is open.
Task<bool> AnvilClient::State::connected(Shared self) {
    if (self->channel) {
        co_return true;
    }
    if (self->ended || Clock::now() < self->not_before) {
        co_return false;
    }
    Result<UniqueFd> socket = co_await connect_unix(self->path, kPatience);
    if (!socket) {
        self->trouble(socket.error().what);
        co_return false;
    }
    if (!self->channel && !self->ended) {   // else somebody was faster
        self->channel = std::make_shared<AnvilChannel>(std::move(*socket), kMaxAnvilMessage);
        for (const auto& [client, connections] : self->open) {
            AnvilStillOpen still;
            still.client = client;
            still.connections = connections;
            self->channel->post(std::move(still));
        }
        spawn(read_answers(self, self->channel));
    }
    co_return self->channel != nullptr;
}

Task<> AnvilClient::State::reconnect(Shared self) {
    (void)co_await connected(self);   // what was posted goes out with the reader's first wait
}

Task<> AnvilClient::State::read_answers(Shared self, std::shared_ptr<AnvilChannel> channel) {
    bool had_answered = false;
    for (;;) {
        Result<FromAnvil> message = co_await channel->receive(kForever);
        if (!message) {
            break;
        }
        const AnvilNumbers& numbers = std::get<AnvilNumbers>(*message);
        const auto found = self->waiting.find(numbers.id);
        if (found == self->waiting.end()) {
            continue;   // given up
        }
        Waiter* const waiter = found->second;
        self->waiting.erase(found);
        waiter->answer = ClientNumbers{numbers.open, numbers.rate};
        self->complained = false;
        had_answered = true;
        waiter->news.notify_all();
    }
    if (self->channel == channel) {
        self->disconnect();
        if (!had_answered) {
            self->trouble("lost connection");   // it may die at every start: not tried again at once
        } else if (!self->open.empty() && !self->ended) {
            spawn(reconnect(self));   // anvil was started again: the new one learns what is open
        }
    }
}

Task<> AnvilClient::State::send_posted(std::shared_ptr<AnvilChannel> channel) {
    (void)co_await channel->flush(kPatience);   // a lost connection is the reader's business
}

void AnvilClient::State::lazy_time(void* self) {
    auto* state = static_cast<State*>(self);
    state->lazy_set = false;
    if (state->channel) {
        spawn(send_posted(state->channel));
    }
}

Task<std::optional<ClientNumbers>> AnvilClient::State::ask(Shared self, ToAnvil request, std::uint32_t id) {
    const std::shared_ptr<AnvilChannel> channel = self->channel;
    Waiter waiter;
    self->waiting[id] = &waiter;
    std::visit([&](auto& message) { channel->post(std::move(message)); }, request);
    if (self->lazy_set) {   // what waited for company has it
        self->lazy.cancel();
        self->lazy_set = false;
    }
    const Result<void> sent = co_await channel->flush(kPatience);
    if (sent && !waiter.answer && self->channel == channel) {
        co_await waiter.news.wait(kPatience);
    }
    self->waiting.erase(id);
    if (!waiter.answer && self->channel == channel) {
        self->trouble("no answer");
        self->disconnect();
    }
    co_return waiter.answer;
}

AnvilClient::AnvilClient(std::string path) : state_(std::make_shared<State>()) {
    state_->path = std::move(path);
}

AnvilClient::~AnvilClient() {
    state_->ended = true;
    state_->disconnect();
}

Task<std::optional<ClientNumbers>> AnvilClient::opened(std::string client) {
    const std::shared_ptr<State> state = state_;
    const bool ready = co_await State::connected(state);
    ++state->open[client];   // after connected(), which tells what was open before
    if (!ready || !state->channel) {
        co_return std::nullopt;
    }
    AnvilOpened request;
    request.id = ++state->last_id;
    request.client = std::move(client);
    const std::uint32_t id = request.id;
    ToAnvil message(std::move(request));
    co_return co_await State::ask(state, std::move(message), id);
}

Task<std::optional<ClientNumbers>> AnvilClient::event(std::string client, ClientEvent what, std::uint32_t amount) {
    const std::shared_ptr<State> state = state_;
    const bool ready = co_await State::connected(state);
    if (!ready || !state->channel) {
        co_return std::nullopt;
    }
    AnvilEvent request;
    request.id = ++state->last_id;
    request.client = std::move(client);
    request.what = static_cast<std::uint8_t>(what);
    request.amount = amount;
    const std::uint32_t id = request.id;
    ToAnvil message(std::move(request));
    co_return co_await State::ask(state, std::move(message), id);
}

void AnvilClient::closed(const std::string& client, const EventTally& uncounted, bool soon) {
    const auto found = state_->open.find(client);
    if (found == state_->open.end()) {
        return;
    }
    if (--found->second == 0) {
        state_->open.erase(found);
    }
    if (!state_->channel) {
        return;
    }
    const auto count = [&uncounted](ClientEvent what) { return uncounted[static_cast<std::size_t>(what)]; };
    AnvilClosed message;
    message.client = client;
    message.message = count(ClientEvent::message);
    message.recipient = count(ClientEvent::recipient);
    message.tls = count(ClientEvent::tls);
    message.auth = count(ClientEvent::auth);
    state_->channel->post(std::move(message));
    if (soon) {
        spawn(State::send_posted(state_->channel));
    } else if (!state_->lazy_set) {
        state_->lazy_set = true;
        state_->lazy.start(kLazy, &State::lazy_time, state_.get());
    }
}

}  // namespace postern
