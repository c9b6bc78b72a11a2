/// Makes messages durable, many at a time when many come together.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "lib/async/loop.h"
#include "lib/async/task.h"
#include "lib/base/result.h"
#include "lib/queue/commit_log.h"
#include "lib/queue/log_marks.h"
#include "lib/queue/queue_file.h"

namespace postern::cleanup {

/// One for a process, as long as that lives.  Messages that come one at a time are flushed one at a time; when the first two meet,
/// the process takes a commit log (lib/queue/commit_log.h), and from then on what comes while the log is being flushed shares the
/// next flush.  What the log has no room for, and what is too long to be in memory, is flushed by itself as before.
class Committer {
public:
    /// `options.ring_size` 0: no log.
    explicit Committer(queue::LogOptions options) : options_(std::move(options)), marks_(options_.queue_directory) {}

    /// Messages may do without a file until commit(): WriterOptions::in_memory.
    bool takes_memory() const { return log_ && !broken_ && options_.transit != nullptr; }

    /// What QueueFileWriter::write_out() does, or the message is in transit (lib/queue/transit.h) instead; and where its copy is.
    /// `writer` stays until this returns.
    Task<Result<queue::LogPlace>> commit(queue::QueueFileWriter& writer);

    /// The process ends, and answers nobody any more: what is in the log goes to the file system, and the log is free; unless messages
    /// are in transit, for then qmgr sees to it.  Blocks.
    void close();

private:
    struct Waiting {
        queue::QueueFileWriter* writer = nullptr;
        std::optional<Result<queue::LogPlace>> result;   ///< set off the loop
        bool done = false;
        Notice news;
    };
    using Batch = std::deque<Waiting*>;

    Task<Result<queue::LogPlace>> commit_alone(queue::QueueFileWriter& writer);
    Task<> claim();
    Task<> write_batches();
    void write(const Batch& batch);
    std::optional<Result<queue::LogPlace>> place(queue::QueueFileWriter& writer, queue::LogPlace copy, bool in_memory);
    Task<> keep_tidy();
    void fail(const Error& error);

    queue::LogOptions options_;
    queue::LogMarks marks_;          ///< of what was in a log in vain
    std::unique_ptr<queue::CommitLog> log_;
    Semaphore turn_{1};              ///< one call to the log at a time
    Batch waiting_;
    bool writing_ = false;
    bool tidying_ = false;
    bool claiming_ = false;
    std::atomic<bool> broken_ = false;   ///< the log failed, and nothing is written to it any more
    std::size_t alone_ = 0;          ///< messages that are being flushed by themselves
    Notice half_full_;
};

}  // namespace postern::cleanup
