#include "lib/async/loop.h"

#include <event2/thread.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "lib/async/stacks.h"
#include "lib/async/wait_here.h"

namespace postern {

namespace {

timeval to_timeval(Millis delay) {
    timeval out;
    out.tv_sec = static_cast<time_t>(delay.count() / 1000);
    out.tv_usec = static_cast<suseconds_t>(delay.count() % 1000 * 1000);
    return out;
}

}  // namespace

namespace detail {

void make_ready(std::coroutine_handle<> handle) {
    Loop::current().push_ready(handle);
}

void unhandled() {
    try {
        throw;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "panic: exception left a coroutine: %s\n", error.what());
    } catch (...) {
        std::fprintf(stderr, "panic: unknown exception left a coroutine\n");
    }
    std::abort();
}

Detached run_detached(Task<> task) {
    co_await std::move(task);
}

}  // namespace detail

void spawn(Task<> task) {
    if (!waiting_is_allowed()) {
        detail::run_detached(std::move(task));
        return;
    }
    // On a stack of its own, so that whoever spawns does not have to wait with it.
    detail::call_on_stack([](void* first) { detail::run_detached(std::move(*static_cast<Task<>*>(first))); }, &task);
}

/// A signal or periodic event with its callback.
struct Loop::Registered {
    event* what = nullptr;
    std::function<void()> callback;
    Loop* loop = nullptr;
    ~Registered() {
        if (what != nullptr) {
            event_free(what);
        }
    }
    static void fired(evutil_socket_t, short, void* self) {
        auto* registered = static_cast<Registered*>(self);
        call_aside([registered] { registered->callback(); });
        registered->loop->run_ready();
    }
};

Loop& Loop::current() {
    static thread_local Loop loop;
    return loop;
}

Loop::Loop() : base_(event_base_new()) {
    if (base_ == nullptr) {
        std::fprintf(stderr, "panic: cannot make an event loop\n");
        std::abort();
    }
}

Loop::~Loop() {
    registered_.clear();
    event_base_free(base_);
}

void Loop::run() {
    run_ready();
    event_base_loop(base_, EVLOOP_NO_EXIT_ON_EMPTY);
}

void Loop::stop() {
    event_base_loopbreak(base_);
}

void Loop::run_until_flag(const bool& done) {
    run_ready();
    while (!done) {
        event_base_loop(base_, EVLOOP_NO_EXIT_ON_EMPTY);
    }
}

Task<> Loop::finish_void(Task<> task, bool& done, Loop& loop) {
    co_await std::move(task);
    done = true;
    loop.stop();
}

void Loop::run_ready() {
    if (draining_) {
        return;
    }
    const auto drain = [](void* self) {
        Loop& loop = *static_cast<Loop*>(self);
        while (loop.next_ready_ < loop.ready_.size() && !detail::stack_is_due()) {
            const std::coroutine_handle<> handle = loop.ready_[loop.next_ready_++];
            if (loop.next_ready_ == loop.ready_.size()) {
                loop.ready_.clear();
                loop.next_ready_ = 0;
            }
            handle.resume();
        }
    };
    draining_ = true;
    for (;;) {
        if (detail::stack_is_due()) {
            detail::resume_due_stack();
        } else if (next_ready_ == ready_.size()) {
            break;
        } else if (waiting_is_allowed()) {
            detail::call_on_stack(drain, this);   // which may return before all are resumed: one has to wait
        } else {
            drain(this);
        }
    }
    draining_ = false;
}

void Loop::on_signal(int number, std::function<void()> handler) {
    auto registered = std::make_unique<Registered>();
    registered->callback = std::move(handler);
    registered->loop = this;
    registered->what = evsignal_new(base_, number, &Registered::fired, registered.get());
    evsignal_add(registered->what, nullptr);
    registered_.push_back(std::move(registered));
}

void Loop::every(Millis period, std::function<void()> callback) {
    auto registered = std::make_unique<Registered>();
    registered->callback = std::move(callback);
    registered->loop = this;
    registered->what = event_new(base_, -1, EV_PERSIST, &Registered::fired, registered.get());
    const timeval tv = to_timeval(period);
    event_add(registered->what, &tv);
    registered_.push_back(std::move(registered));
}

void Timer::start(Millis delay, Callback callback, void* argument) {
    cancel();
    if (delay == kForever) {
        return;
    }
    callback_ = callback;
    argument_ = argument;
    event_assign(&event_, Loop::current().base(), -1, 0, &Timer::fired, this);
    const timeval tv = to_timeval(std::max(delay, Millis(0)));
    event_add(&event_, &tv);
    active_ = true;
}

void Timer::cancel() {
    if (active_) {
        event_del(&event_);
        active_ = false;
    }
}

void Timer::fired(evutil_socket_t, short, void* self) {
    auto* timer = static_cast<Timer*>(self);
    timer->active_ = false;
    timer->callback_(timer->argument_);   // `timer` may be gone after this
    Loop::current().run_ready();
}

namespace {

struct Sleep {
    Millis delay;
    Timer timer;
    std::coroutine_handle<> caller;
    explicit Sleep(Millis how_long) : delay(how_long) {}
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        caller = handle;
        timer.start(delay, [](void* self) { detail::make_ready(static_cast<Sleep*>(self)->caller); }, this);
    }
    void await_resume() const {}
};

}  // namespace

Task<> sleep_for(Millis delay) {
    Sleep sleep(delay);
    co_await sleep;
}

Task<> yield_to_others() {
    co_await sleep_for(Millis(0));
}

// --- FdEvents -----------------------------------------------------------------------------------------------

void FdEvents::open(int fd) {
    close();
    fd_ = fd;
    can_read_ = can_write_ = interrupted_ = wants_write_ = false;
    register_for(EV_READ);
}

void FdEvents::register_for(short what) {
    event_assign(&event_, Loop::current().base(), fd_, static_cast<short>(what | EV_ET | EV_PERSIST), &FdEvents::fired,
                 this);
    open_ = event_add(&event_, nullptr) == 0;
    if (!open_) {
        can_read_ = can_write_ = true;   // not pollable (a regular file): always ready
    }
}

void FdEvents::close() {
    if (open_) {
        event_del(&event_);
        open_ = false;
    }
    if (reader_ != nullptr) {
        reader_->wake(Wake::closed);
    }
    if (writer_ != nullptr) {
        writer_->wake(Wake::closed);
    }
}

void FdEvents::interrupt() {
    if (reader_ != nullptr) {
        reader_->wake(Wake::interrupted);
    } else {
        interrupted_ = true;
    }
}

void FdEvents::fired(evutil_socket_t, short what, void* self) {
    auto* events = static_cast<FdEvents*>(self);
    if ((what & EV_READ) != 0) {
        events->can_read_ = true;
        if (events->reader_ != nullptr) {
            events->reader_->wake(Wake::ready);
        }
    }
    if ((what & EV_WRITE) != 0) {
        events->can_write_ = true;
        if (events->writer_ != nullptr) {
            events->writer_->wake(Wake::ready);
        }
    }
    Loop::current().run_ready();
}

bool FdEvents::Awaiter::await_ready() {
    bool& edge = for_read_ ? events_->can_read_ : events_->can_write_;
    if (for_read_ && events_->interrupted_) {
        events_->interrupted_ = false;
        wake_ = Wake::interrupted;
        return true;
    }
    if (edge) {
        edge = false;
        wake_ = Wake::ready;
        return true;
    }
    if (!events_->open_) {
        wake_ = Wake::closed;
        return true;
    }
    if (!for_read_ && !events_->wants_write_) {
        event_del(&events_->event_);
        events_->wants_write_ = true;
        events_->register_for(EV_READ | EV_WRITE);
    }
    return false;
}

void FdEvents::Awaiter::await_suspend(std::coroutine_handle<> caller) {
    caller_ = caller;
    (for_read_ ? events_->reader_ : events_->writer_) = this;
    timer_.start(timeout_, &Awaiter::timed_out, this);
}

void FdEvents::Awaiter::timed_out(void* self) {
    static_cast<Awaiter*>(self)->wake(Wake::timed_out);
}

void FdEvents::Awaiter::wake(Wake why) {
    (for_read_ ? events_->reader_ : events_->writer_) = nullptr;
    if (why == Wake::ready) {
        (for_read_ ? events_->can_read_ : events_->can_write_) = false;
    }
    events_ = nullptr;
    timer_.cancel();
    wake_ = why;
    detail::make_ready(std::exchange(caller_, nullptr));
}

FdEvents::Awaiter::~Awaiter() {
    if (events_ == nullptr) {
        return;
    }
    Awaiter*& slot = for_read_ ? events_->reader_ : events_->writer_;
    if (slot == this) {
        slot = nullptr;
    }
}

// --- Notice, Semaphore --------------------------------------------------------------------------------------

Notice::~Notice() {
    while (!waiting_.empty()) {
        waiting_.front()->wake(Wake::closed);
    }
}

void Notice::notify_one() {
    if (!waiting_.empty()) {
        waiting_.front()->wake(Wake::ready);
    }
}

void Notice::notify_all() {
    std::size_t count = waiting_.size();
    while (count-- > 0) {
        waiting_.front()->wake(Wake::ready);
    }
}

void Notice::Awaiter::await_suspend(std::coroutine_handle<> caller) {
    caller_ = caller;
    notice_->waiting_.push_back(this);
    timer_.start(timeout_, &Awaiter::timed_out, this);
}

void Notice::Awaiter::timed_out(void* self) {
    static_cast<Awaiter*>(self)->wake(Wake::timed_out);
}

void Notice::Awaiter::wake(Wake why) {
    auto& waiting = notice_->waiting_;
    waiting.erase(std::find(waiting.begin(), waiting.end(), this));
    notice_ = nullptr;
    timer_.cancel();
    wake_ = why;
    detail::make_ready(std::exchange(caller_, nullptr));
}

Notice::Awaiter::~Awaiter() {
    if (caller_ && notice_ != nullptr) {
        auto& waiting = notice_->waiting_;
        waiting.erase(std::find(waiting.begin(), waiting.end(), this));
    }
}

Task<> Semaphore::acquire() {
    while (permits_ == 0) {
        co_await freed_.wait(kForever);
    }
    --permits_;
}

void Semaphore::release() {
    ++permits_;
    freed_.notify_one();
}

}  // namespace postern
