/// Blocking work (fsync, PAM, name service) on a small pool of threads, awaited from the loop.
#pragma once

#include <type_traits>
#include <utility>

#include "lib/async/loop.h"

namespace postern {

namespace detail {

/// One piece of work on its way to a thread and back.  Lives in the awaiting coroutine's frame.
struct OffloadJob {
    void (*run)(OffloadJob*) = nullptr;
    std::coroutine_handle<> caller;
    OffloadJob* next = nullptr;
    bool keeps_thread = false;
};

/// Hands `job` to the pool of the current loop; its caller is resumed on that loop after run().
void submit_offload(OffloadJob* job);

template <class F, class R>
struct Offload : OffloadJob {
    F& work;
    std::optional<R> result;
    explicit Offload(F& f, bool keeps) : work(f) {
        keeps_thread = keeps;
        run = [](OffloadJob* self) {
            auto* job = static_cast<Offload*>(self);
            job->result.emplace(job->work());
        };
    }
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        caller = handle;
        submit_offload(this);
    }
    R await_resume() { return std::move(*result); }
};

}  // namespace detail

/// Runs `work()` on a pool thread and yields what it returns (not void, not a reference).  `work` must not
/// touch anything the loop's thread uses meanwhile.  Name the lambda first (CONTRIBUTING.md, coroutines):
///
///     auto sync = [fd] { return ::fsync(fd); };
///     const int status = co_await offload(std::move(sync));
template <class F>
Task<std::invoke_result_t<F&>> offload(F work) {
    detail::Offload<F, std::invoke_result_t<F&>> job(work, false);
    co_return co_await job;
}

/// The same for work that leaves something on its thread, such as a user's rights, for the next work of the same kind
/// to find.  Having done so it calls keep_on_thread(), and knows what to do about what it finds.
template <class F>
Task<std::invoke_result_t<F&>> offload_keeping(F work) {
    detail::Offload<F, std::invoke_result_t<F&>> job(work, true);
    co_return co_await job;
}

/// From within offload_keeping(): `reset` is called on this thread before it does any work of offload().
using ThreadReset = void (*)();
void keep_on_thread(ThreadReset reset);

/// Threads that the pool may grow to (default 32).  Before the first offload() of the thread.
void set_offload_threads(std::size_t limit);

}  // namespace postern
