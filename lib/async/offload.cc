#include "lib/async/offload.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/unique_fd.h"

namespace postern {

namespace {

std::size_t g_thread_limit = 32;

/// A singly linked queue of jobs.
struct JobQueue {
    detail::OffloadJob* first = nullptr;
    detail::OffloadJob* last = nullptr;
    void push(detail::OffloadJob* job) {
        job->next = nullptr;
        (last == nullptr ? first : last->next) = job;
        last = job;
    }
    detail::OffloadJob* pop() {
        detail::OffloadJob* job = first;
        if (job != nullptr) {
            first = job->next;
            if (first == nullptr) {
                last = nullptr;
            }
        }
        return job;
    }
};

/// What a job that keeps something on its thread has asked to be called before any other kind of job.
thread_local ThreadReset t_reset = nullptr;

/// The threads of one loop.  Never destroyed while a job runs: lives as long as its thread.
class Pool {
public:
    Pool() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        // Edge-triggered: each write is a new edge, so that the counter need not be read.
        event_assign(&done_event_, Loop::current().base(), wake_.get(), EV_READ | EV_PERSIST | EV_ET, &Pool::done, this);
        event_add(&done_event_, nullptr);
    }

    ~Pool() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
        }
        work_.notify_all();
        for (std::thread& thread : threads_) {
            thread.join();
        }
        event_del(&done_event_);
    }

    void submit(detail::OffloadJob* job) {
        bool grow = false;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            pending_.push(job);
            ++waiting_jobs_;
            grow = waiting_jobs_ > idle_ && threads_.size() < g_thread_limit;
        }
        const bool refused = grow && !start_thread();
        if (refused && threads_.empty()) {
            run_here();
        } else {
            work_.notify_one();
        }
    }

private:
    /// A new thread takes no signals: those belong to the loop's thread.  False when the system lets the user have no more
    /// threads: those there are will have to do.
    bool start_thread() {
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool started = true;
        try {
            threads_.emplace_back([this] { work(); });
        } catch (const std::system_error&) {
            started = false;
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return started;
    }

    /// Without any thread: slowly is better than not at all.  The caller goes on from the loop.
    void run_here() {
        detail::OffloadJob* job = nullptr;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            job = pending_.pop();
            --waiting_jobs_;
        }
        job->run(job);
        if (t_reset != nullptr) {
            std::exchange(t_reset, nullptr)();
        }
        Loop::current().push_ready(job->caller);
    }

    void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            ++idle_;
            work_.wait(lock, [this] { return stopping_ || pending_.first != nullptr; });
            --idle_;
            detail::OffloadJob* job = pending_.pop();
            if (job == nullptr) {
                return;
            }
            --waiting_jobs_;
            lock.unlock();
            if (t_reset != nullptr && !job->keeps_thread) {
                std::exchange(t_reset, nullptr)();
            }
            job->run(job);
            lock.lock();
            const bool first = finished_.first == nullptr;
            finished_.push(job);
            if (first) {
                lock.unlock();
                const std::uint64_t one = 1;
                [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
                lock.lock();
            }
        }
    }

    static void done(evutil_socket_t, short, void* self) {
        auto* pool = static_cast<Pool*>(self);
        JobQueue finished;
        {
            const std::lock_guard<std::mutex> lock(pool->mutex_);
            std::swap(finished, pool->finished_);
        }
        while (detail::OffloadJob* job = finished.pop()) {
            Loop::current().push_ready(job->caller);
        }
        Loop::current().run_ready();
    }

    UniqueFd wake_;
    event done_event_{};
    std::mutex mutex_;
    std::condition_variable work_;
    JobQueue pending_;
    JobQueue finished_;
    std::size_t idle_ = 0;
    std::size_t waiting_jobs_ = 0;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

Pool& pool() {
    Loop::current();   // made first, so destroyed last
    static thread_local Pool the_pool;
    return the_pool;
}

}  // namespace

namespace detail {

void submit_offload(OffloadJob* job) {
    pool().submit(job);
}

}  // namespace detail

void set_offload_threads(std::size_t limit) {
    g_thread_limit = limit;
}

void keep_on_thread(ThreadReset reset) {
    t_reset = reset;
}

}  // namespace postern
