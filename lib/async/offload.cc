#include "lib/async/offload.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <mutex>
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
///
/// A thread that is put to sleep and woken for every job costs more than most jobs.  So few threads work at a time, and
/// each takes job after job; only when a job has waited for kPatience may more of them work.
class Pool {
public:
    Pool() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        // Edge-triggered: each write is a new edge, so that the counter need not be read.
        event_assign(&done_event_, Loop::current().base(), wake_.get(), EV_READ | EV_PERSIST | EV_ET, &Pool::done, this);
        event_add(&done_event_, nullptr);
    }

    ~Pool() {
        watch_.cancel();
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
        Call call = Call::nobody;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            pending_.push(job);
            ++submitted_;
            call = call_one();
        }
        if (call == Call::nobody) {
            watch();
        } else {
            make(call);
        }
    }

private:
    static constexpr std::size_t kFewThreads = 4;
    static constexpr Millis kPatience = Millis(10);
    /// So often it is tried again with fewer.
    static constexpr std::uint64_t kReconsider = 1024;

    enum class Call { nobody, sleeper, newcomer };

    /// Puts one more thread to work if that is allowed.  With the lock held; without it follows make().
    Call call_one() {
        if (working_ + called_ >= allowed_) {
            return Call::nobody;
        }
        ++called_;
        return threads_.size() - working_ < called_ ? Call::newcomer : Call::sleeper;
    }
    void make(Call call) {
        if (call == Call::newcomer) {
            start_thread();
        } else {
            work_.notify_one();
        }
    }

    /// A new thread takes no signals: those belong to the loop's thread.
    void start_thread() {
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        threads_.emplace_back([this] { work(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            work_.wait(lock, [this] { return stopping_ || called_ > 0; });
            if (called_ == 0) {
                return;
            }
            --called_;
            ++working_;
            while (detail::OffloadJob* job = working_ <= allowed_ ? pending_.pop() : nullptr) {
                ++taken_;
                lock.unlock();
                if (t_reset != nullptr && !job->keeps_thread) {
                    std::exchange(t_reset, nullptr)();
                }
                job->run(job);
                lock.lock();
                finish(lock, job);
            }
            --working_;
        }
    }

    void finish(std::unique_lock<std::mutex>& lock, detail::OffloadJob* job) {
        const bool first = finished_.first == nullptr;
        finished_.push(job);
        if (first) {
            lock.unlock();
            const std::uint64_t one = 1;
            [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
            lock.lock();
        }
    }

    /// Looks after a while whether what waits now has been taken.
    void watch() {
        if (!watching_) {
            watching_ = true;
            watched_ = submitted_;
            watch_.start(kPatience, &Pool::look, this);
        }
    }

    static void look(void* self) {
        auto* pool = static_cast<Pool*>(self);
        pool->watching_ = false;
        std::uint64_t late = 0;
        {
            const std::lock_guard<std::mutex> lock(pool->mutex_);
            late = pool->watched_ > pool->taken_ ? pool->watched_ - pool->taken_ : 0;
            pool->allowed_ = std::min<std::size_t>(g_thread_limit, pool->allowed_ + late);
        }
        Call call = Call::sleeper;
        for (; late > 0 && call != Call::nobody; --late) {
            {
                const std::lock_guard<std::mutex> lock(pool->mutex_);
                call = pool->call_one();
            }
            if (call != Call::nobody) {
                pool->make(call);
            }
        }
        bool crowded = false;
        {
            const std::lock_guard<std::mutex> lock(pool->mutex_);
            crowded = pool->submitted_ > pool->taken_;
        }
        if (crowded) {
            pool->watch();
        }
    }

    static void done(evutil_socket_t, short, void* self) {
        auto* pool = static_cast<Pool*>(self);
        JobQueue finished;
        {
            const std::lock_guard<std::mutex> lock(pool->mutex_);
            std::swap(finished, pool->finished_);
            if (pool->taken_ > pool->reconsidered_ + kReconsider) {
                pool->reconsidered_ = pool->taken_;
                pool->allowed_ = std::max(std::min(kFewThreads, g_thread_limit), pool->allowed_ / 2);
            }
        }
        while (detail::OffloadJob* job = finished.pop()) {
            Loop::current().push_ready(job->caller);
        }
        Loop::current().run_ready();
    }

    UniqueFd wake_;
    event done_event_{};
    Timer watch_;
    bool watching_ = false;
    std::uint64_t watched_ = 0;        ///< submitted_ when the watch began
    std::vector<std::thread> threads_;
    std::mutex mutex_;                 ///< for all that follows; submitted_ changes in the loop's thread only
    std::condition_variable work_;
    JobQueue pending_;
    JobQueue finished_;
    std::size_t called_ = 0;           ///< threads that are to come out of their wait
    std::size_t working_ = 0;
    std::size_t allowed_ = std::min(kFewThreads, g_thread_limit);   ///< bound of the two together
    std::uint64_t submitted_ = 0;
    std::uint64_t taken_ = 0;
    std::uint64_t reconsidered_ = 0;
    bool stopping_ = false;
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
