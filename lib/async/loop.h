/// The event loop of a thread: one libevent base, the coroutines it resumes, and waiting with deadlines.
#pragma once

#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "lib/async/task.h"

namespace postern {

using Millis = std::chrono::milliseconds;
/// For waits that have no deadline of their own because something else ends them (a listening socket).
inline constexpr Millis kForever = Millis::max();

/// One per thread, made at first use by current().  A process that forks without exec must not have made it
/// before the fork.
class Loop {
public:
    static Loop& current();
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    /// Runs until stop().
    void run();
    void stop();
    /// Runs until `task` has ended: for main() and tests.
    template <class T>
    T run_until(Task<T> task);

    /// Calls `handler` on the loop, never in signal context, each time `number` arrives.
    void on_signal(int number, std::function<void()> handler);
    /// Calls `callback` every `period` until the process ends.
    void every(Millis period, std::function<void()> callback);

    event_base* base() { return base_; }
    /// Resumes what is ready.  Called by everything that resumes a coroutine from an event callback.
    void run_ready();
    void push_ready(std::coroutine_handle<> handle) { ready_.push_back(handle); }

private:
    Loop();
    template <class T>
    static Task<> finish(Task<T> task, std::optional<T>& out, bool& done, Loop& loop);
    static Task<> finish_void(Task<> task, bool& done, Loop& loop);
    void run_until_flag(const bool& done);

    struct Registered;
    event_base* base_;
    std::vector<std::coroutine_handle<>> ready_;
    std::size_t next_ready_ = 0;
    bool draining_ = false;
    std::vector<std::unique_ptr<Registered>> registered_;
};

template <class T>
Task<> Loop::finish(Task<T> task, std::optional<T>& out, bool& done, Loop& loop) {
    out.emplace(co_await std::move(task));
    done = true;
    loop.stop();
}

template <class T>
T Loop::run_until(Task<T> task) {
    bool done = false;
    if constexpr (std::is_void_v<T>) {
        spawn(finish_void(std::move(task), done, *this));
        run_until_flag(done);
    } else {
        std::optional<T> out;
        spawn(finish(std::move(task), out, done, *this));
        run_until_flag(done);
        return std::move(*out);
    }
}

/// A one-shot timer that lives inside an awaiter.  Destroying it cancels it.
class Timer {
public:
    using Callback = void (*)(void*);
    Timer() = default;
    ~Timer() { cancel(); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    /// Calls `callback(argument)` from the loop after `delay`; kForever never fires.
    void start(Millis delay, Callback callback, void* argument);
    void cancel();

private:
    static void fired(evutil_socket_t, short, void* self);
    event event_{};
    Callback callback_ = nullptr;
    void* argument_ = nullptr;
    bool active_ = false;
};

/// Suspends the calling coroutine for `delay`.
Task<> sleep_for(Millis delay);
/// Lets everything else that is ready run first.
Task<> yield_to_others();

/// Why a wait ended.
enum class Wake : unsigned char {
    ready,        ///< the descriptor can be read or written, or the signal was given
    timed_out,    ///< the deadline passed
    closed,       ///< close() was called on what was waited for
    interrupted,  ///< interrupt() was called
};

/// Readiness of one descriptor, registered edge-triggered once: waiting costs no system call but the loop's.
/// Interest in writing is registered when it is first needed, since a Unix socket would otherwise wake us for
/// every message its peer takes.
///
/// Use: try the read or write; on EAGAIN await readable() or writable(); try again.  One waiter for each
/// direction.  The descriptor is not owned and must stay open until close() or destruction.
class FdEvents {
public:
    FdEvents() = default;
    ~FdEvents() { close(); }
    FdEvents(const FdEvents&) = delete;
    FdEvents& operator=(const FdEvents&) = delete;

    void open(int fd);
    /// Deregisters; waiters wake with Wake::closed.
    void close();
    /// A coroutine waiting in readable() wakes with Wake::interrupted; remembered if nobody waits.
    void interrupt();

    class Awaiter {
    public:
        Awaiter(FdEvents& events, bool for_read, Millis timeout) : events_(&events), for_read_(for_read), timeout_(timeout) {}
        ~Awaiter();
        Awaiter(const Awaiter&) = delete;
        Awaiter& operator=(const Awaiter&) = delete;
        bool await_ready();
        void await_suspend(std::coroutine_handle<> caller);
        Wake await_resume() const { return wake_; }

    private:
        friend class FdEvents;
        static void timed_out(void* self);
        void wake(Wake why);
        FdEvents* events_;      ///< null from the wake-up on: what was waited for may be gone when the coroutine runs
        bool for_read_;
        Millis timeout_;
        Wake wake_ = Wake::ready;
        std::coroutine_handle<> caller_;
        Timer timer_;
    };
    /// Wait until a read (write) that gave EAGAIN may succeed.
    Awaiter readable(Millis timeout) { return {*this, true, timeout}; }
    Awaiter writable(Millis timeout) { return {*this, false, timeout}; }

private:
    static void fired(evutil_socket_t, short what, void* self);
    void register_for(short what);
    event event_{};
    int fd_ = -1;
    bool open_ = false;
    bool wants_write_ = false;
    bool can_read_ = false;    ///< an edge came while nobody waited
    bool can_write_ = false;
    bool interrupted_ = false;
    Awaiter* reader_ = nullptr;
    Awaiter* writer_ = nullptr;
};

/// Something that happens: coroutines wait for it, others give notice.  No memory: a notice without a waiter
/// is gone.
class Notice {
public:
    Notice() = default;
    Notice(const Notice&) = delete;
    Notice& operator=(const Notice&) = delete;
    ~Notice();

    class Awaiter {
    public:
        Awaiter(Notice& notice, Millis timeout) : notice_(&notice), timeout_(timeout) {}
        ~Awaiter();
        Awaiter(const Awaiter&) = delete;
        Awaiter& operator=(const Awaiter&) = delete;
        bool await_ready() const { return false; }
        void await_suspend(std::coroutine_handle<> caller);
        Wake await_resume() const { return wake_; }

    private:
        friend class Notice;
        static void timed_out(void* self);
        void wake(Wake why);
        Notice* notice_;
        Millis timeout_;
        Wake wake_ = Wake::ready;
        std::coroutine_handle<> caller_;
        Timer timer_;
    };
    /// ready after notify, timed_out, or closed when the Notice was destroyed.
    Awaiter wait(Millis timeout) { return {*this, timeout}; }
    void notify_one();
    void notify_all();
    bool has_waiters() const { return !waiting_.empty(); }

private:
    std::vector<Awaiter*> waiting_;
};

/// Counts permits; used to bound what runs at the same time.
class Semaphore {
public:
    explicit Semaphore(std::size_t permits) : permits_(permits) {}
    Task<> acquire();
    void release();

private:
    std::size_t permits_;
    Notice freed_;
};

}  // namespace postern
