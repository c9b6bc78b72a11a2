/// Messages in transit: files in memory, for the moment in which most mail is delivered.
///
/// A message that is delivered at the first try needs a file for some milliseconds: agents read it, commands list it, and
/// it is there whichever process is killed.  That file is below transit_directory, in memory (tmpfs), and costs the disk
/// nothing.  What survives a power failure is its copy in a commit log (commit_log.h), so only what is in a log may be in transit.
///
/// Each queue has a directory of its own there, which postern-master(8) makes under a new name whenever it is missing; the symbolic
/// link QUEUE_DIRECTORY/transit leads to it.  The name is part of a log's life (LogOptions::life): where the directory has
/// vanished, messages are put back from the logs, as after a power failure.
///
/// Files in there, each for one queue id:
///
///     ID        the message, a whole queue file with its journal
///     move.ID   likewise; somebody is about to write it to a directory of the queue, or has just done so: it is nobody else's
///     lock.ID   the message is in a directory of the queue; this is but the lock of agents that began with it here
///     tmp.ID    unfinished, never accepted
///
///  1. cleanup makes ID when the copy in the log is durable, and before it answers.
///  2. Whoever wants a message to stay longer calls keep(): it becomes move.ID, is written to the queue, and then only removed.
///     Who is killed in between leaves either both, and then the queue has the message, or move.ID alone, which becomes ID again
///     (resume()).  A message can be claimed so only once.
///  3. A lock (flock(2)) of a message's file tells that an agent works with it, whose queue manager may be dead (deliver.h).  That
///     of a file in transit is not passed on to the file that replaces it, hence lock.ID.
///  4. A log may give up its copy when the message is done with, or is not in transit and the file system was flushed since.
///
/// Calls may be made on any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/queue_file.h"

namespace postern::queue {

/// Where the link of a queue leads; empty: it has none.
std::string read_transit_link(const std::string& queue_directory);

class Transit {
public:
    /// That of a queue; none when it has none.  Before the root directory is changed; from then on the queue is `seen_as`.
    static std::optional<Transit> open(const std::string& queue_directory, std::string seen_as);

    /// No other directory of this queue had it.
    const std::string& name() const { return name_; }

    /// Whether a message may come in: half of what the file system may take stays free.
    bool has_room() const;

    /// A new message, whole or not at all.  Errors: no_space, exists, io.
    Result<void> put(std::string_view queue_id, const std::vector<std::string_view>& content) const;

    /// The ids of the messages that are here now, sorted.
    std::vector<std::string> ids() const;
    /// The directory is there still.  When somebody has removed it, logs have the only copies of the messages that were here.
    bool is_there() const;
    /// No message is here or on its way out; waits for whoever moves one.  False too when that cannot be told.
    bool is_empty() const;
    /// The message is in transit, or on its way out.
    bool contains(std::string_view queue_id) const;
    /// For those who only look: ids() and what is on its way out, as contains() has it; and such a message, for reading.
    std::vector<std::string> all_ids() const;
    UniqueFd open_any(std::string_view queue_id) const;
    /// As open(2): ENOENT when it is not in transit.
    UniqueFd open_file(std::string_view queue_id, int flags) const;
    /// `file`, of open_file(), is the message still.  Who got its lock has to ask: whoever had that before may have moved the message.
    bool is_still(std::string_view queue_id, int file) const;
    /// False, with errno, when that failed.
    bool remove(std::string_view queue_id) const;

    /// Moves the message, whose file is `file` and locked by the caller, to a directory of the queue, journal and all.  When `agents`
    /// have it, their lock stays.  The new file, locked, for reading; not flushed.  After an error all is as before.
    /// Errors: not_found (it is not in transit any more), exists, no_space, io.
    Result<UniqueFd> keep(std::string_view queue_id, int file, const std::string& directory, bool agents, FileIo& io = FileIo::system()) const;
    /// The same for a message that nobody has locked.  Errors: temporary (somebody has), and as above.
    Result<void> keep_idle(std::string_view queue_id, const std::string& directory) const;

    /// An agent that began with the message here may still have it; or who moved it has not finished, and perhaps never will
    /// (resume()).  True too when that cannot be told.
    bool is_held(std::string_view queue_id) const;
    /// No agent has it.
    void release(std::string_view queue_id) const;

    /// What killed processes have left: half-moved messages, locks that nobody holds, and unfinished files of some age.
    /// For a queue manager that starts, before it takes anything out of active/.  False when somebody is moving one: try again.
    bool resume() const;

private:
    Transit(std::string name, UniqueFd directory, std::string queue)
        : name_(std::move(name)), directory_(std::move(directory)), queue_(std::move(queue)) {}
    Result<std::vector<std::string>> read_names() const;
    std::vector<std::string> names() const;
    bool exists(const std::string& name) const;
    UniqueFd lock_movers(int operation) const;
    bool is_in_queue(const std::string& queue_id) const;
    Result<UniqueFd> copy(std::string_view queue_id, int file, const std::string& directory, FileIo& io) const;
    bool rename(const std::string& from, const std::string& to) const;

    std::string name_;
    UniqueFd directory_;
    std::string queue_;
};

}  // namespace postern::queue
