/// Waiting in the middle of code that is no coroutine, such as a lookup that has to ask a server.
///
/// Once a thread has called allow_waiting_here(), its Loop runs coroutines on stacks of their own.  A wait_here() far down in
/// plain functions sets the whole stack aside, with all that is on it, and the loop goes on with other coroutines on another
/// one; when what was waited for has come, the stack goes on where it stood.  All of that happens on one thread: nothing needs
/// locks.  But as with co_await, other coroutines have run meanwhile: what the caller and its callers keep in objects that
/// others use may have changed.  No wait_here() within a catch block.
///
/// A thread that has not called it pays nothing; one that has, two switches of stacks (no system call) for each batch of
/// coroutines that are ready, and for each spawn().
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "lib/async/task.h"

namespace postern {

/// From now on coroutines of this thread can wait_here().  Does not make the thread's Loop.  Calls are idempotent.
void allow_waiting_here();

/// allow_waiting_here() was called in this thread.
bool waiting_is_allowed();

/// True on a stack that can be set aside: in what the loop has called since allow_waiting_here(), and in what such code spawns.
bool can_wait_here();

/// Stacks of this thread that are set aside now.  Each has a megabyte of address space, and of memory what it has used.
std::size_t stacks_set_aside();

namespace detail {

/// Calls `work(argument)` on another stack, and returns when it has returned or is set aside.  Calls it right here when the
/// system has no memory for a stack.
void call_on_stack(void (*work)(void*), void* argument);

/// One wait: the stack it is on, and whether what it waits for has come.
class SetAside {
public:
    /// Returns after done(), at once if that was called already.
    void wait();
    void done();

private:
    bool done_ = false;
    void* stack_ = nullptr;
};

/// `result` and `aside` are on the stack that waits.
template <class T>
Task<> finish_here(Task<T> task, std::optional<T>& result, SetAside& aside) {
    result.emplace(co_await std::move(task));
    aside.done();
}

}  // namespace detail

/// Runs `task` to its end while others go on.  Only where can_wait_here().
template <class T>
T wait_here(Task<T> task) {
    std::optional<T> result;
    detail::SetAside aside;
    detail::run_detached(detail::finish_here(std::move(task), result, aside));
    aside.wait();
    return std::move(*result);
}

/// Calls `work()`, and returns when that has ended or waits: then it goes on by itself later.  It must not refer to what may be
/// gone by then.
template <class F>
void call_aside(F work) {
    if (!waiting_is_allowed()) {
        work();
        return;
    }
    const auto run = [](void* given) {
        F own(std::move(*static_cast<F*>(given)));
        own();
    };
    detail::call_on_stack(run, &work);
}

}  // namespace postern
