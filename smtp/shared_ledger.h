/// What is being handed over to a server and what a server has taken, in memory that all agents of the instance share, so that
/// no recipient gets a second copy when an agent, the queue manager or master is killed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern::smtp {

/// A table in a file of data_directory, mapped into every smtp and lmtp process.  An entry is made before the final dot leaves
/// (somebody is at it), is changed with the first instructions after the server's 2xx was read (it has it), and goes when the
/// queue manager is known to have written that down.  What a killed process has left is found by the one that is asked to
/// deliver to the same recipients again.  The file outlives every process, but nothing is flushed to disk: after a power
/// failure a delivery that was in flight may be repeated, as it may when a process is killed between the moment in which the
/// server's 2xx arrives in the kernel and the moment in which it is read: nobody here knows of it then.
///
/// All agents have the same rights, so that they trust each other; still, whatever stands in the file, nothing is read or
/// written beyond it.  A process says that it lives by a lock on a byte of the file, which the kernel drops when it dies.
///
/// Threads: one.
class SharedLedger {
public:
    /// A message: its queue id and arrival time.
    using Key = std::pair<std::string, std::int64_t>;
    /// Entries of one delivery.
    using Marks = std::vector<std::uint32_t>;

    /// Makes the file when it is not there, and takes a place in it.  Before rights are given up.
    /// Errors: io, config (it is no such file).
    static Result<std::unique_ptr<SharedLedger>> open(const std::string& path);
    ~SharedLedger();
    SharedLedger(const SharedLedger&) = delete;
    SharedLedger& operator=(const SharedLedger&) = delete;

    /// The final dot for these recipients is about to leave.  `each`: the server answers for each of them (LMTP), so that each
    /// has an entry of its own; else they share entries.  In the order of `indices`; fewer than wanted when the table is full.
    Marks sending(const Key& key, const std::vector<std::uint32_t>& indices, bool each);
    /// The server has taken it.
    void taken(const Marks& marks, std::string_view dsn, std::string_view reply);
    /// The queue manager was told; whether it has written it down is not known yet.
    void told(const Marks& marks);
    /// It is known, or the server has not taken it.
    void release(const Marks& marks);

    struct Taken {
        std::string dsn;
        std::string reply;
        std::uint32_t entry = 0;
    };
    /// What a server said when it took the message for this recipient.
    std::optional<Taken> find(const Key& key, std::uint32_t index) const;
    /// Whether another process that lives waits for a server's word about one of these recipients.
    bool is_busy(const Key& key, const std::vector<std::uint32_t>& indices);

    static constexpr std::uint32_t kEntries = 4096;
    static constexpr std::uint32_t kNone = kEntries;   ///< among Marks: skipped by release()
    static constexpr std::size_t kIndices = 40;   ///< recipients of one entry

private:
    struct Entry;
    struct Table;
    SharedLedger(UniqueFd file, Table* table, std::uint32_t place);
    bool lives(std::uint32_t place) const;
    std::optional<std::uint32_t> claim(std::uint64_t print);
    bool died_sending(const Entry& entry) const;
    bool is_stale(std::uint32_t number, std::int64_t now) const;
    template <class F>
    void each_of(const Key& key, F found) const;

    UniqueFd file_;
    Table* table_;
    std::uint32_t place_;   ///< the byte that is locked
    std::uint32_t next_ = 0;
};

}  // namespace postern::smtp
