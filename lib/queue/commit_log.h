/// The commit log: copies of messages that were accepted a moment ago, so that many become durable with one flush.
///
/// An accepted message is a file of the queue from the beginning, but flushing each file costs a commit of the file system's
/// journal.  Instead cleanup appends a copy of the file to a log whose blocks exist already, and flushes that: once for all messages
/// that came meanwhile.  As long as the kernel lives the copies are not needed, whichever process is killed; after a power failure
/// replay_logs() (log_recovery.h) puts back what the file system has lost.
///
/// A record is done with when qmgr has marked it (log_marks.h), because everybody has the message, or when its message is a file of
/// the file system (not in transit any more, transit.h) and that was flushed as a whole since (settle()).  Most are marked within
/// milliseconds.
///
/// The format is in commit_log(5).  A log belongs to the process that holds its lock (flock(2)).  Everything here blocks and belongs
/// on the offload pool, one call at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/commit_log_format.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/transit.h"

namespace postern::queue {

struct LogOptions {
    std::string queue_directory = ".";   ///< holds commit/
    std::uint64_t ring_size = 0;         ///< commit_log_size: kMinLogRing to kMaxLogRing, in steps of kLogHeaderSize
    std::string life;                    ///< what keeps files that were not flushed: read_file_system_life(), and the transit directory's name
    const Transit* transit = nullptr;    ///< where messages may be that are in no directory of the queue; outlives the log
    FileIo* io = nullptr;                ///< null means the system; otherwise outlives the log
};

/// Errors: corrupt, also when there is none.
Result<LogHeader> read_log_header(int fd);

class CommitLog {
public:
    /// Takes a log that nobody uses, or makes one.  Errors: no_space (also when the disk is so full that messages need the
    /// place), not_found (there is no commit/), unsupported (a file system in user space, which need not obey syncfs(2)), temporary (all
    /// are in use), io.
    static Result<std::unique_ptr<CommitLog>> claim(const LogOptions& options);

    const std::string& name() const { return name_; }

    /// Adds a copy of a queue file, in pieces, to what flush() writes.  Its number; none when there is no room.
    std::optional<std::uint64_t> add(std::string_view queue_id, const std::vector<std::string_view>& image);
    /// Makes durable what was added.  After an error none of that counts, and the log is of no more use.
    Result<void> flush();

    /// Flushes all of the file system that the queue is on, however much that is.  An error of any of its files since the log was
    /// claimed fails it, once.  Errors: io.
    Result<void> flush_file_system() const;

    struct State {
        std::size_t live = 0;              ///< records that are not done with
        std::int64_t oldest_seconds = 0;   ///< age of the first of them
        bool half_full = false;
        std::uint64_t next = 0;            ///< number of the next record
    };
    /// As far as collect() has looked.
    bool is_half_full() const { return used() > options_.ring_size / 2; }
    /// Looks which records were marked since, and gives their place back.
    State collect();
    /// All records before the one with this number are done with, or their messages are in the queue; 0: the first is in transit,
    /// or was when the directory in transit was removed.
    std::uint64_t in_queue_before() const;
    /// All before `next` are in the file system: it was flushed after in_queue_before() said so; 0: none more than before.  Writes down from
    /// where records count, and makes durable which of them were marked.  To be called every second or so while records are
    /// added, so that what the header says stays near to them.  Errors: io.
    Result<void> settle(std::uint64_t next);

    /// Nothing in it counts any more: the file system was flushed.  Errors: io.
    Result<void> release() const;

private:
    struct Live {
        std::uint64_t number = 0, begin = 0;
        std::int64_t since = 0;
        std::string queue_id;
    };
    CommitLog(const LogOptions& options, std::string name, UniqueFd file);
    static Result<UniqueFd> open(const LogOptions& options, const std::string& name);
    static Result<void> make(const LogOptions& options, int fd);
    Result<void> begin();
    Result<void> write_header();
    std::uint64_t used() const { return live_.empty() ? 0 : end_ - live_.front().begin; }
    FileIo& io() const { return options_.io != nullptr ? *options_.io : FileIo::system(); }

    LogOptions options_;
    std::string name_;
    UniqueFd file_;
    UniqueFd queue_;               ///< incoming/, open since before the first record
    std::deque<Live> live_;
    std::uint64_t next_ = 0;       ///< number of the next record
    std::uint64_t end_ = 0;        ///< where it goes: counts on, the ring's size modulo its place
    struct Piece {
        std::uint64_t offset = 0;  ///< in the file
        std::string bytes;
    };
    std::vector<Piece> added_;     ///< one, or two where the ring begins again
};

}  // namespace postern::queue
