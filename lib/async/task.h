/// Coroutines: Task<T> is a conversation or a step of one.
///
/// A Task starts when it is awaited, runs in its caller's place until it first has to wait, and then lets
/// the event loop go on.  All coroutines of a thread run on that thread's Loop, so nothing needs locks.
///
/// Exceptions do not leave a coroutine: one that tries is a bug and ends the process (see unhandled()).
/// A Task that is being run is not destroyed: close its stream and let it end (see STYLE in CONTRIBUTING.md).
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

namespace postern {

namespace detail {

/// Puts `handle` into the current loop's ready queue; it is resumed before the loop waits again.
void make_ready(std::coroutine_handle<> handle);

/// Ends the process after an exception tried to leave a coroutine.
[[noreturn]] void unhandled();

struct PromiseBase {
    std::coroutine_handle<> continuation;

    struct Final {
        bool await_ready() noexcept { return false; }
        template <class P>
        void await_suspend(std::coroutine_handle<P> self) noexcept {
            // The awaiting coroutine may destroy this frame as soon as it runs, so it runs later, from the
            // ready queue, when nothing of this frame is on the stack.
            if (self.promise().continuation) {
                make_ready(self.promise().continuation);
            }
        }
        void await_resume() noexcept {}
    };

    std::suspend_always initial_suspend() noexcept { return {}; }
    Final final_suspend() noexcept { return {}; }
    void unhandled_exception() { unhandled(); }
};

template <class T>
struct Promise : PromiseBase {
    std::optional<T> value;
    std::coroutine_handle<Promise> get_return_object() { return std::coroutine_handle<Promise>::from_promise(*this); }
    template <class U>
    void return_value(U&& result) { value.emplace(std::forward<U>(result)); }
    T take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
    std::coroutine_handle<Promise> get_return_object() { return std::coroutine_handle<Promise>::from_promise(*this); }
    void return_void() {}
    void take() {}
};

}  // namespace detail

/// One asynchronous operation that yields a T.  Await it once, as an rvalue: `const T x = co_await f();`
template <class T = void>
class [[nodiscard]] Task {
public:
    using promise_type = detail::Promise<T>;

    Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}   // NOLINT: made by the compiler
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Task() {
        if (handle_) {
            handle_.destroy();
        }
    }

    /// Runs the operation until it ends or waits.  A loop over operations that end at once uses no stack.
    bool await_ready() {
        handle_.resume();
        return handle_.done();
    }
    void await_suspend(std::coroutine_handle<> caller) { handle_.promise().continuation = caller; }
    T await_resume() { return handle_.promise().take(); }

private:
    std::coroutine_handle<promise_type> handle_;
};

namespace detail {
struct Detached {
    struct promise_type {
        Detached get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { unhandled(); }
    };
};
Detached run_detached(Task<> task);
}  // namespace detail

/// Starts `task` now and lets it run on its own.  Its parameters must be values, or references to what
/// outlives it.
void spawn(Task<> task);

}  // namespace postern
