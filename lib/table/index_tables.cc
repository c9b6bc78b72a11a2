/// Tables in index files that postmap(1) makes: lmdb and cdb; hash and btree name one of these.
#include <cdb.h>
#include <lmdb.h>
#include <unistd.h>

#include <utility>

#include "lib/log/log.h"
#include "lib/table/types.h"
#include "lib/table/watched_file.h"

namespace postern::table_type {
namespace {

/// Postfix's tools may store a NUL after key and value; which it is shows with the first hit.
enum class Terminator : unsigned char { unknown, none, nul };

std::string without_nul(const char* data, std::size_t size) {
    if (size > 0 && data[size - 1] == '\0') {
        --size;
    }
    return std::string(data, size);
}

/// Asks `get` for the key with and without NUL, whatever has not been ruled out.
template <class Get>
Lookup find_either_way(std::string_view key, Terminator& terminator, Get get) {
    if (terminator != Terminator::none) {
        std::string with_nul(key);
        with_nul += '\0';
        Lookup answer = get(std::string_view(with_nul));
        if (!answer || *answer) {
            terminator = answer ? Terminator::nul : terminator;
            return answer;
        }
    }
    if (terminator != Terminator::nul) {
        Lookup answer = get(key);
        if (answer && *answer) {
            terminator = Terminator::none;
        }
        return answer;
    }
    return std::optional<std::string>();
}

Error open_failure(std::string_view type, std::string_view name, const Error& why) {
    std::string text = "open " + full_name(type, name) + ": " + why.what;
    if (why.code == Errc::not_found) {
        text += " (run \"postmap " + full_name(type, name) + "\", or \"newaliases\" for alias files)";
    }
    return Error(why.code, std::move(text));
}

/// One open LMDB environment with a read transaction that is renewed for each lookup.
class LmdbFile {
public:
    LmdbFile() = default;
    LmdbFile(const LmdbFile&) = delete;
    LmdbFile& operator=(const LmdbFile&) = delete;
    ~LmdbFile() { close(); }

    /// 0 or an LMDB error.  Locks are not used: readers hold a snapshot for microseconds, and one
    /// later commit never touches pages of the snapshot before it.
    int open(const std::string& path) {
        int error = mdb_env_create(&env_);
        if (error == 0) {
            error = mdb_env_open(env_, path.c_str(), MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0644);
        }
        if (error == 0) {
            error = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn_);
        }
        if (error == 0) {
            error = mdb_dbi_open(txn_, nullptr, 0, &dbi_);
        }
        if (error == 0) {
            mdb_txn_reset(txn_);
        } else {
            close();
        }
        return error;
    }

    void close() {
        if (txn_) {
            mdb_txn_abort(txn_);
        }
        if (env_) {
            mdb_env_close(env_);
        }
        txn_ = nullptr;
        env_ = nullptr;
    }

    bool is_open() const { return env_ != nullptr; }

    /// MDB_SUCCESS, MDB_NOTFOUND or an error.
    int get(std::string_view key, std::string& value) {
        if (key.empty() || key.size() > static_cast<std::size_t>(mdb_env_get_maxkeysize(env_))) {
            return MDB_NOTFOUND;
        }
        if (const int error = mdb_txn_renew(txn_); error != 0) {
            return error;
        }
        MDB_val want{key.size(), const_cast<char*>(key.data())};
        MDB_val found{};
        const int status = mdb_get(txn_, dbi_, &want, &found);
        if (status == 0) {
            value = without_nul(static_cast<const char*>(found.mv_data), found.mv_size);
        }
        mdb_txn_reset(txn_);
        return status;
    }

    /// Changes with every commit by anyone.
    std::size_t generation() const {
        MDB_envinfo info{};
        mdb_env_info(env_, &info);
        return info.me_last_txnid;
    }

private:
    MDB_env* env_ = nullptr;
    MDB_txn* txn_ = nullptr;
    MDB_dbi dbi_ = 0;
};

class LmdbTable final : public Table {
public:
    LmdbTable(std::string name, bool fold, std::string path)
        : Table(std::move(name), false, fold), path_(std::move(path)) {}

    Result<void> open() {
        Result<WatchedFile> file = WatchedFile::open(path_);
        if (!file) {
            return file.error();
        }
        file_ = std::move(*file);
        return open_environment();
    }

protected:
    Lookup find(std::string_view key) override {
        if (file_.changed()) {
            follow();
        }
        return find_either_way(key, terminator_, [this](std::string_view k) { return get(k); });
    }

private:
    Result<void> open_environment() {
        auto fresh = std::make_unique<LmdbFile>();
        if (const int error = fresh->open(path_); error != 0) {
            return Error(error > 0 ? errno_error({}, error).code : Errc::corrupt,
                         "open " + path_ + ": " + mdb_strerror(error));
        }
        environment_ = std::move(fresh);
        terminator_ = Terminator::unknown;
        return {};
    }

    /// The file was written to in place (nothing to do: snapshots follow) or replaced.
    void follow() {
        Result<WatchedFile> file = WatchedFile::open(path_);
        if (!file) {
            note_stale_table();
            file_.accept_change();
            return;
        }
        file_ = std::move(*file);
        if (const Result<void> opened = open_environment(); !opened) {
            log_warning("{}: {}; the old content stays in use", name(), opened.error().what);
        }
    }

    Lookup get(std::string_view key) {
        constexpr int kAttempts = 5;
        int status = 0;
        std::string value;
        for (int attempt = 0; attempt < kAttempts; ++attempt) {
            const std::size_t before = environment_->generation();
            status = environment_->get(key, value);
            if (status == MDB_MAP_RESIZED) {
                if (const Result<void> opened = open_environment(); !opened) {
                    return Error(Errc::temporary, name() + ": " + opened.error().what);
                }
                continue;
            }
            if (environment_->generation() != before) {
                continue;   // somebody committed meanwhile: what was read may be mixed
            }
            if (status == 0) {
                return std::optional(std::move(value));
            }
            if (status == MDB_NOTFOUND) {
                return std::optional<std::string>();
            }
            break;
        }
        return Error(Errc::temporary, name() + ": lookup of " + std::string(key) + ": " +
                                          (status ? mdb_strerror(status) : "table is being rewritten"));
    }

    std::string path_;
    WatchedFile file_;
    std::unique_ptr<LmdbFile> environment_;
    Terminator terminator_ = Terminator::unknown;
};

class CdbTable final : public Table {
public:
    CdbTable(std::string name, bool fold, std::string path)
        : Table(std::move(name), false, fold), path_(std::move(path)) {}
    ~CdbTable() override { release(); }

    Result<void> open() {
        Result<WatchedFile> file = WatchedFile::open(path_);
        if (!file) {
            return file.error();
        }
        struct cdb fresh {};
        if (cdb_init(&fresh, file->fd()) != 0) {
            return Error(Errc::corrupt, "open " + path_ + ": not a cdb file");
        }
        release();
        file_ = std::move(*file);
        cdb_ = fresh;
        open_ = true;
        terminator_ = Terminator::unknown;
        return {};
    }

protected:
    Lookup find(std::string_view key) override {
        if (file_.changed()) {
            follow();
        }
        return find_either_way(key, terminator_, [this](std::string_view k) { return get(k); });
    }

private:
    void release() {
        if (open_) {
            cdb_free(&cdb_);
            open_ = false;
        }
    }

    void follow() {
        const Result<void> opened = open();
        if (!opened && opened.error().code == Errc::not_found) {
            note_stale_table();
        } else if (!opened) {
            log_warning("{}: {}; the old content stays in use", name(), opened.error().what);
        }
        if (!opened) {
            file_.accept_change();
        }
    }

    Lookup get(std::string_view key) {
        const int status = cdb_find(&cdb_, key.data(), static_cast<unsigned>(key.size()));
        if (status < 0) {
            return Error(Errc::temporary, name() + ": lookup of " + std::string(key) + ": file is damaged");
        }
        if (status == 0) {
            return std::optional<std::string>();
        }
        const unsigned size = cdb_datalen(&cdb_);
        const void* data = cdb_get(&cdb_, size, cdb_datapos(&cdb_));
        if (!data && size > 0) {
            return Error(Errc::temporary, name() + ": lookup of " + std::string(key) + ": file is damaged");
        }
        return std::optional(without_nul(static_cast<const char*>(data), size));
    }

    std::string path_;
    WatchedFile file_;
    struct cdb cdb_ {};
    bool open_ = false;
    Terminator terminator_ = Terminator::unknown;
};

template <class T>
Result<TablePtr> open_as(std::string_view type, std::string_view name, std::string_view suffix,
                         const TableContext& context) {
    std::string path(name);
    path += suffix;
    auto table = std::make_unique<T>(full_name(type, name), context.fold_case, std::move(path));
    if (const Result<void> opened = table->open(); !opened) {
        return open_failure(type, name, opened.error());
    }
    return TablePtr(std::move(table));
}

/// hash: and btree: mean NAME.lmdb, or NAME.cdb where that is what there is.
Result<TablePtr> open_default(std::string_view type, std::string_view name, const TableContext& context) {
    Result<TablePtr> table = open_as<LmdbTable>(type, name, ".lmdb", context);
    if (!table && table.error().code == Errc::not_found && access((std::string(name) + ".cdb").c_str(), F_OK) == 0) {
        return open_as<CdbTable>(type, name, ".cdb", context);
    }
    return table;
}

}  // namespace

Result<TablePtr> open_lmdb(std::string_view name, const TableContext& context) {
    return open_as<LmdbTable>("lmdb", name, ".lmdb", context);
}

Result<TablePtr> open_cdb(std::string_view name, const TableContext& context) {
    return open_as<CdbTable>("cdb", name, ".cdb", context);
}

Result<TablePtr> open_hash(std::string_view name, const TableContext& context) {
    return open_default("hash", name, context);
}

Result<TablePtr> open_btree(std::string_view name, const TableContext& context) {
    return open_default("btree", name, context);
}

}  // namespace postern::table_type
