/// LMDB (lmdb.h) with ownership in the types and errors as Results.
///
/// One process must open a data file only once (closing a second handle would drop the first one's locks), so
/// environments are shared through a registry by device and inode.
#pragma once

#include <lmdb.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern::store {

/// An open data file with its named databases.  Thread-safe.
class Env {
public:
    struct Options {
        std::string path;                         ///< of the data file
        std::vector<const char*> databases;       ///< made when missing; used by position
        unsigned flags = 0;                       ///< of mdb_env_open; NOSUBDIR and NOTLS are added
        std::size_t map_size = std::size_t{1} << 30;
        bool may_be_replaced = true;              ///< false: the path is not looked at again, is_current() always says yes
    };
    /// Errors: corrupt (not a sound LMDB file: the caller may set it aside), denied, no_space, io.
    static Result<std::shared_ptr<Env>> open(const Options& options);
    ~Env();

    MDB_env* get() const { return env_; }
    MDB_dbi dbi(std::size_t n) const { return dbis_[n]; }
    const std::string& path() const { return path_; }
    /// False when the data file was replaced or removed under us: nothing may be written then.
    bool is_current() const;
    /// Puts on stable storage what transactions have left behind (Durable::all_but_the_last).
    Result<void> sync();

    Env(const Env&) = delete;
    Env& operator=(const Env&) = delete;

private:
    friend class Txn;
    Env() = default;
    Result<void> open_files(const Options& options);
    int open_files(const Options& options, std::size_t map_size);
    Result<void> open_databases(const Options& options);

    MDB_env* env_ = nullptr;
    std::vector<MDB_dbi> dbis_;
    std::string path_;
    std::uint64_t device_ = 0;
    std::uint64_t inode_ = 0;
    mutable std::atomic<bool> unusable_ = false;  ///< LMDB could not write its meta page and refuses all since
    bool may_be_replaced_ = true;
    int pid_ = 0;                   ///< a forked child must not touch the environment, not even close it
};

Error lmdb_error(int code, std::string what);

/// What commit() waits for.
enum class Durable : unsigned char {
    all,                            ///< the transaction is on stable storage
    all_but_the_last,               ///< a crash of the machine may undo this transaction, until the next one or Env::sync()
};

/// A transaction; aborted unless commit() succeeded.  Values returned live until the next write in it or its end.
class Txn {
public:
    static Result<Txn> begin(const Env& env, bool write, Durable durable = Durable::all);
    Txn(Txn&& other) noexcept;
    Txn& operator=(Txn&& other) noexcept;
    ~Txn();

    Result<std::optional<std::string_view>> get(std::size_t db, std::string_view key) const;
    Result<void> put(std::size_t db, std::string_view key, std::string_view value, unsigned flags = 0);
    /// Nothing to delete is no error.
    Result<void> del(std::size_t db, std::string_view key);
    /// Deletes all keys that begin with `prefix`.
    Result<void> del_prefix(std::size_t db, std::string_view prefix);
    /// As durable as begin() and the environment say when it returns.
    Result<void> commit();
    void abort();

    /// Read transactions: lets go of the snapshot, and takes the newest one.
    void reset();
    Result<void> renew();

    MDB_txn* get() const { return txn_; }
    const Env& env() const { return *env_; }

private:
    Txn(const Env& env, MDB_txn* txn) : env_(&env), txn_(txn) {}
    const Env* env_ = nullptr;
    MDB_txn* txn_ = nullptr;
};

/// Walks over keys in order.  Must not outlive its transaction.
class Cursor {
public:
    Cursor(const Txn& txn, std::size_t db);
    ~Cursor();
    /// To the first key >= `key`; false at the end.
    Result<bool> seek(std::string_view key);
    Result<bool> next();
    /// Whether it stands on `key` now.
    bool at(std::string_view wanted) const { return positioned_ && key() == wanted; }
    std::string_view key() const { return {static_cast<const char*>(key_.mv_data), key_.mv_size}; }
    std::string_view value() const { return {static_cast<const char*>(value_.mv_data), value_.mv_size}; }

    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;

private:
    Result<bool> move(MDB_cursor_op op);
    MDB_cursor* cursor_ = nullptr;
    MDB_val key_{};
    MDB_val value_{};
    int open_error_ = 0;
    bool positioned_ = false;
};

}  // namespace postern::store
