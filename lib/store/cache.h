/// What can be computed again: ENVELOPE, BODYSTRUCTURE, sizes, common header fields, and when directories were last
/// looked at.  In an LMDB file of its own that is written without fsync.
///
/// LMDB without sync can be left unsound by a crash of the machine (not of processes).  So the file `cache.state`
/// names the boot during which the cache was last written and whether it was flushed since; after another boot an
/// unflushed cache is thrown away.  Errors here never reach a client: what is not found is computed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/store/index_format.h"
#include "lib/store/lmdb_env.h"

namespace postern::store {

enum CacheDb : std::size_t { kSummaryDb, kHeadersDb, kDirsDb };

/// Removes the cache of an index that begins anew: its mailboxes get the numbers that others had, and what is kept under
/// them belongs to those.  To be called before the new index is there.
void discard_cache(const std::string& directory);

/// Values for one message, already encoded (not sealed).
struct CacheEntry {
    Uid uid = 0;
    std::string summary;
    std::string headers;
};

/// Thread-safe only under the account's mutex, except for read transactions.
class Cache {
public:
    /// Errors: denied, no_space, io.
    static Result<std::unique_ptr<Cache>> open(const std::string& directory);
    ~Cache();

    const Env& env() const { return *env_; }

    std::optional<DirState> directory(std::uint32_t mailbox) const;
    void save_directory(std::uint32_t mailbox, const DirState& state);

    void store(std::uint32_t mailbox, const std::vector<CacheEntry>& entries);
    /// Copies what is there for (old, new) pairs.
    void copy(std::uint32_t from, std::uint32_t to, const std::vector<std::pair<Uid, Uid>>& uids);
    void erase(std::uint32_t mailbox, const UidSet& uids);
    void forget(std::uint32_t mailbox);

private:
    Cache() = default;
    std::optional<Txn> begin_write();
    void finish(Txn& txn);
    bool was_lost() const;
    void write_state(bool clean);

    std::string directory_;
    std::shared_ptr<Env> env_;      ///< other owners: accounts of the same files in this process (Env::open)
    UniqueFd state_;
    std::string boot_;              ///< this boot's id
    bool wrote_ = false;
};

}  // namespace postern::store
