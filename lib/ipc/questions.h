/// Questions to one service, by any number of coroutines at once, over one connection that is made when it is first needed.
///
/// A question is a member of Out with an `id`; its answer is In's only member and has the same `id`.  Answers come in any order.  A
/// connection that ends wakes who waits on it, and the next question makes another; a service that cannot be reached, or takes a
/// question and says nothing, is left alone for a while, so that not everybody waits for it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "lib/ipc/channel.h"

namespace postern {

/// Who asks has a class of its own on this one, which says what is special, in a std::shared_ptr: the coroutine that reads answers has
/// it too, and may outlive the asking.  Its owner calls end() when it goes.
template <class Out, class In>
class Questions {
public:
    static_assert(std::variant_size_v<In> == 1, "every answer is of one type");
    using Answer = std::variant_alternative_t<0, In>;
    using Link = Channel<Out, In>;
    using Shared = std::shared_ptr<Questions>;

    struct Service {
        std::string path;               ///< of its socket
        Millis connecting{};            ///< patience for the connection
        Millis answering{};             ///< and for an answer
        Millis pause{};                 ///< how long a service that fails is left alone
        std::size_t max_answer = 0;     ///< bytes of a frame
    };

    explicit Questions(Service service) : service_(std::move(service)) {}
    virtual ~Questions() = default;
    Questions(const Questions&) = delete;
    Questions& operator=(const Questions&) = delete;

    /// Connects when that is needed and may be tried.
    static Task<bool> connected(Shared self) {
        if (self->link_) {
            co_return true;
        }
        if (self->ended_ || Clock::now() < self->not_before_) {
            co_return false;
        }
        Result<UniqueFd> socket = co_await connect_unix(self->service_.path, self->service_.connecting);
        if (!socket) {
            self->trouble(socket.error().what);
            co_return false;
        }
        if (!self->link_ && !self->ended_) {   // else somebody was faster
            self->link_ = std::make_shared<Link>(std::move(*socket), self->service_.max_answer);
            self->introduce(*self->link_);
            spawn(read_answers(self, self->link_));
        }
        co_return self->link_ != nullptr;
    }

    /// Asks on the connection that is there, after connected().  Nothing: no answer came; `lost`: because the connection ended.
    template <class Question>
    static Task<std::optional<Answer>> ask(Shared self, Question question, bool& lost) {
        const std::shared_ptr<Link> link = self->link_;
        Waiter waiter;
        const std::uint32_t id = ++self->last_id_;
        question.id = id;
        self->waiting_[id] = &waiter;
        link->post(std::move(question));
        const Result<void> sent = co_await link->flush(self->service_.answering);
        if (sent && !waiter.answer && self->link_ == link) {
            co_await waiter.news.wait(self->service_.answering);
        }
        self->waiting_.erase(id);
        lost = !waiter.answer && self->link_ != link;
        if (!waiter.answer && !lost) {
            self->trouble("no answer");
            self->disconnect();
        }
        co_return std::move(waiter.answer);
    }

    /// The connection, when there is one.
    const std::shared_ptr<Link>& link() const { return link_; }
    bool has_ended() const { return ended_; }

    /// The service is left alone for a while, and the reason told, once until it answers again.
    void trouble(const std::string& why) {
        not_before_ = Clock::now() + service_.pause;
        if (!complained_ && !ended_) {
            complain(service_.path, why);
        }
        complained_ = true;
    }

    /// Nobody asks any more.
    void end() {
        ended_ = true;
        disconnect();
    }

protected:
    /// Logs what it means that `path` does not work, and `why`.
    virtual void complain(const std::string& path, const std::string& why) = 0;
    /// Posts what a new connection begins with.
    virtual void introduce(Link&) {}
    /// The connection has ended, by the other side.  `answered`: it had been good for an answer.
    virtual void hung_up(const Shared& /*self*/, bool /*answered*/) {}
    /// There is no connection from now on.
    virtual void disconnected() {}

private:
    using Clock = std::chrono::steady_clock;
    /// A coroutine in ask(); lives in its frame.
    struct Waiter {
        std::optional<Answer> answer;
        Notice news;
    };

    void disconnect() {
        if (link_) {
            link_->close();   // its reader ends and lets go of it
            link_.reset();
        }
        disconnected();
        const auto waiters = std::move(waiting_);
        waiting_.clear();
        for (const auto& [id, waiter] : waiters) {
            waiter->news.notify_all();
        }
    }

    static Task<> read_answers(Shared self, std::shared_ptr<Link> link) {
        bool answered = false;
        for (;;) {
            Result<In> message = co_await link->receive(kForever);
            if (!message) {
                break;
            }
            Answer& answer = std::get<0>(*message);
            const auto found = self->waiting_.find(answer.id);
            if (found == self->waiting_.end()) {
                continue;   // given up
            }
            Waiter* const waiter = found->second;
            self->waiting_.erase(found);
            waiter->answer = std::move(answer);
            self->complained_ = false;
            answered = true;
            waiter->news.notify_all();
        }
        if (self->link_ == link) {
            self->disconnect();
            self->hung_up(self, answered);
        }
    }

    const Service service_;
    std::shared_ptr<Link> link_;            ///< shared with its reader; null: none
    std::unordered_map<std::uint32_t, Waiter*> waiting_;
    std::uint32_t last_id_ = 0;
    Clock::time_point not_before_{};        ///< no new try before this
    bool complained_ = false;
    bool ended_ = false;
};

}  // namespace postern
