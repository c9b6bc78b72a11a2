/// Where verify(8) keeps what it has found out: an LMDB file that survives crashes, or memory.
///
/// Changes are seen at once and written a moment later, many in one transaction, off the event loop.  A crash of the process
/// may lose the last second's; a crash of the machine too, but never more.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/store/lmdb_env.h"
#include "verify/entry.h"

namespace postern::verify {

struct Cleaned {
    std::size_t retained = 0;
    std::size_t dropped = 0;
};

class Cache {
public:
    /// `map` is address_verify_map: lmdb:PATH (PATH.lmdb is the file; btree: and hash: mean the same), or empty for memory.
    /// A damaged file is set aside (store::open_or_begin_anew).  Errors: config (another type of table), denied, io.
    static Result<std::unique_ptr<Cache>> open(const std::string& map);

    /// Errors are logged; then nothing is known.
    std::optional<Entry> find(const std::string& address) const;
    void put(const std::string& address, Entry entry);

    /// Writes what put() has left, off the loop.
    Task<> write();
    /// The same at once: before the process ends.
    void write_now();

    /// When clean() last came to its end, seconds since 1970; 0: never.
    std::int64_t last_cleaned() const;
    /// Removes what has expired, and what is no entry.
    Task<Cleaned> clean(Lifetimes lifetimes, std::int64_t now);

private:
    using Changes = std::map<std::string, Entry>;
    static Result<void> store(std::shared_ptr<store::Env> env, const Changes& changes);
    static Result<Cleaned> clean_file(std::shared_ptr<store::Env> env, const Lifetimes& lifetimes, std::int64_t now);

    std::shared_ptr<store::Env> env_;     ///< null: memory only.  Also kept by work that goes on off the loop
    Changes changed_;                     ///< not written yet; all there is without a file
    Changes writing_;                     ///< on the way to the file
    bool busy_ = false;                   ///< a transaction is under way
};

}  // namespace postern::verify
