#include "cleanup/committer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lib/async/offload.h"
#include "lib/log/log.h"

namespace postern::cleanup {
namespace {

/// Messages that share a flush.  More would only keep the first of them waiting.
constexpr std::size_t kMaxBatch = 64;
/// When marks are looked at, and made durable.
constexpr Millis kTidyPause = std::chrono::seconds(1);
/// A record that is older has a message that waits: the file system keeps it now.
constexpr std::int64_t kPatience = 5;
/// After trouble with the log.
constexpr Millis kClaimPause = std::chrono::minutes(1);

}  // namespace

Task<Result<queue::LogPlace>> Committer::commit(queue::QueueFileWriter& writer) {
    if (!log_ || broken_) {
        co_return co_await commit_alone(writer);
    }
    Waiting mine;
    mine.writer = &writer;
    waiting_.push_back(&mine);
    if (!writing_) {
        writing_ = true;
        spawn(write_batches());
    }
    while (!mine.done) {
        co_await mine.news.wait(kForever);
    }
    if (!mine.result) {   // not in the log: by itself, beside the others
        auto flush = [&writer] { return writer.flush(); };
        const Result<void> flushed = co_await offload(std::move(flush));
        mine.result.emplace(flushed ? Result<queue::LogPlace>(queue::LogPlace()) : Result<queue::LogPlace>(flushed.error()));
    }
    co_return std::move(*mine.result);
}

Task<Result<queue::LogPlace>> Committer::commit_alone(queue::QueueFileWriter& writer) {
    if (++alone_ > 1 && !log_ && !claiming_ && options_.ring_size > 0) {
        claiming_ = true;
        spawn(claim());
    }
    const Result<void> written = co_await writer.commit();
    --alone_;
    if (!written) {
        co_return written.error();
    }
    co_return queue::LogPlace();
}

Task<> Committer::claim() {
    auto work = [this] { return queue::CommitLog::claim(options_); };
    Result<std::unique_ptr<queue::CommitLog>> claimed = co_await offload(std::move(work));
    if (claimed) {
        log_ = std::move(*claimed);
        co_return;
    }
    log_warning("no commit log: {} -- each message is flushed by itself", claimed.error().what);
    co_await sleep_for(kClaimPause);
    claiming_ = false;
}

/// Until nobody waits.
Task<> Committer::write_batches() {
    while (!waiting_.empty()) {
        co_await yield_to_others();   // keep_tidy() has its turn between two batches; and whoever is ready now comes along
        co_await turn_.acquire();
        Batch batch;
        while (!waiting_.empty() && batch.size() < kMaxBatch) {
            batch.push_back(waiting_.front());
            waiting_.pop_front();
        }
        auto work = [this, &batch] {
            write(batch);
            return true;
        };
        co_await offload(std::move(work));
        if (log_->is_half_full()) {
            half_full_.notify_all();
        }
        turn_.release();
        for (Waiting* const one : batch) {
            one->done = true;
            one->news.notify_all();
        }
        if (!tidying_) {
            tidying_ = true;
            spawn(keep_tidy());
        }
    }
    writing_ = false;
}

/// Off the loop, where nothing else touches the log or these messages.  No result: not in the log.
void Committer::write(const Batch& batch) {
    std::vector<queue::LogPlace> copies(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const std::vector<std::string_view> image = broken_ ? std::vector<std::string_view>() : batch[i]->writer->image();
        const std::uint64_t number = image.empty() ? 0 : log_->add(batch[i]->writer->queue_id(), image).value_or(0);
        copies[i] = number == 0 ? queue::LogPlace() : queue::LogPlace{log_->name(), number};
    }
    const Result<void> flushed = log_->flush();
    if (!flushed) {
        fail(flushed.error());
        for (queue::LogPlace& copy : copies) {   // it may be in the log all the same
            marks_.mark(std::exchange(copy, queue::LogPlace()));
        }
    }
    const bool in_memory = options_.transit != nullptr && options_.transit->has_room();
    for (std::size_t i = 0; i < batch.size(); ++i) {
        batch[i]->result = place(*batch[i]->writer, std::move(copies[i]), in_memory);
    }
}

/// The message gets its file.  No result when that is not durable, for want of a copy.
std::optional<Result<queue::LogPlace>> Committer::place(queue::QueueFileWriter& writer, queue::LogPlace copy, bool in_memory) {
    if (copy && in_memory && options_.transit->put(writer.queue_id(), writer.image())) {
        return copy;
    }
    const Result<void> in_place = writer.put_in_place();
    if (!in_place) {
        marks_.mark(copy);   // nobody will be told that it was accepted
        return in_place.error();
    }
    if (!copy) {
        return std::nullopt;
    }
    writer.keep();
    return copy;
}

/// The log is left as it is until this process ends; then qmgr sees to it.
void Committer::fail(const Error& error) {
    if (!broken_.exchange(true)) {
        log_warning("{} -- each message is flushed by itself", error.what);
    }
}

/// Until nothing was added since all was settled.
Task<> Committer::keep_tidy() {
    for (std::uint64_t settled = 0;;) {
        (void)co_await half_full_.wait(kTidyPause);
        co_await turn_.acquire();
        auto collect = [this] { return log_->collect(); };
        const queue::CommitLog::State state = co_await offload(std::move(collect));
        turn_.release();
        if (state.next == settled) {
            break;
        }
        // 0 even when some wait: the header must not fall behind so far that a mark's place is used again while it counts.
        std::uint64_t up_to = state.live == 0 ? state.next : 0;
        if (up_to == 0 && (state.half_full || state.oldest_seconds >= kPatience)) {
            co_await turn_.acquire();
            auto look = [this] { return log_->in_queue_before(); };
            up_to = co_await offload(std::move(look));
            turn_.release();
        }
        if (up_to != 0 && state.live != 0) {
            auto flush = [this] { return log_->flush_file_system(); };
            const Result<void> flushed = co_await offload(std::move(flush));
            if (!flushed) {   // what is in the log may be in no file
                co_return fail(flushed.error());
            }
        }
        co_await turn_.acquire();
        auto settle = [this, up_to] { return log_->settle(up_to); };
        const Result<void> done = co_await offload(std::move(settle));
        turn_.release();
        if (!done) {
            co_return fail(done.error());
        }
        settled = std::max(settled, up_to);
    }
    tidying_ = false;
}

void Committer::close() {
    const bool none_in_transit = options_.transit == nullptr || options_.transit->is_empty();
    if (log_ && !broken_ && none_in_transit && log_->flush_file_system()) {
        (void)log_->release();
    }
}

}  // namespace postern::cleanup
