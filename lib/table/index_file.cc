#include "lib/table/index_file.h"

#include <cdb.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "lib/base/unique_fd.h"

namespace postern {
namespace {

constexpr std::size_t kFirstMapSize = std::size_t{16} << 20;

Error lmdb_error(const std::string& what, int error) {
    if (error > 0) {
        return errno_error(what, error);
    }
    const Errc code = error == MDB_BAD_VALSIZE ? Errc::too_big : error == MDB_KEYEXIST ? Errc::exists
                      : error == MDB_MAP_FULL ? Errc::no_space : Errc::corrupt;
    return Error(code, what + ": " + mdb_strerror(error));
}

std::string ended(std::string_view text, bool with_nul) {
    std::string bytes(text);
    if (with_nul) {
        bytes += '\0';
    }
    return bytes;
}

std::string_view without_nul(const void* data, std::size_t size) {
    std::string_view text(static_cast<const char*>(data), size);
    if (!text.empty() && text.back() == '\0') {
        text.remove_suffix(1);
    }
    return text;
}

/// A directory entry is durable only when its directory has been synced.
void sync_directory(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    const UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd) {
        fsync(fd.get());
    }
}

Result<void> rename_into_place(const std::string& from, const std::string& to) {
    if (rename(from.c_str(), to.c_str()) != 0) {
        return errno_error("rename " + from + " to " + to);
    }
    sync_directory(to);
    return {};
}

/// An environment opened for writing, closed with its owner.
class Environment {
public:
    Environment() = default;
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
    ~Environment() { close(); }

    Result<void> open(const std::string& path, unsigned flags, mode_t mode, std::size_t map_size) {
        path_ = path;
        int error = mdb_env_create(&env_);
        if (error == 0) {
            error = mdb_env_set_mapsize(env_, map_size);
        }
        if (error == 0) {
            error = mdb_env_open(env_, path.c_str(), MDB_NOSUBDIR | MDB_NOLOCK | flags, mode);
        }
        if (error != 0) {
            return lmdb_error("open " + path, error);
        }
        return {};
    }

    Result<void> begin(unsigned flags) {
        int error = mdb_txn_begin(env_, nullptr, flags, &txn_);
        if (error == 0) {
            error = mdb_dbi_open(txn_, nullptr, 0, &dbi_);
        }
        return error == 0 ? Result<void>() : Result<void>(lmdb_error("open " + path_, error));
    }

    int commit() {
        MDB_txn* const txn = std::exchange(txn_, nullptr);
        return mdb_txn_commit(txn);
    }

    void close() {
        if (txn_) {
            mdb_txn_abort(std::exchange(txn_, nullptr));
        }
        if (env_) {
            mdb_env_close(std::exchange(env_, nullptr));
        }
    }

    /// The same lock as Postfix's dict_lmdb takes: an exclusive fcntl lock on the file itself.
    Result<void> lock_exclusively() {
        mdb_filehandle_t fd = -1;
        mdb_env_get_fd(env_, &fd);
        struct flock lock {};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        while (fcntl(fd, F_SETLKW, &lock) != 0) {
            if (errno != EINTR) {
                return errno_error("lock " + path_);
            }
        }
        return {};
    }

    MDB_env* env() const { return env_; }
    MDB_txn* txn() const { return txn_; }
    MDB_dbi dbi() const { return dbi_; }

private:
    std::string path_;
    MDB_env* env_ = nullptr;
    MDB_txn* txn_ = nullptr;
    MDB_dbi dbi_ = 0;
};

/// The map is address space, not disk: pages with short entries take some times what the entries do, and one
/// transaction that changes everything needs the old pages beside the new ones.
std::size_t map_size_for(const std::string& path, std::size_t expected_bytes) {
    struct stat info {};
    const std::size_t size = stat(path.c_str(), &info) == 0 ? static_cast<std::size_t>(info.st_size) : 0;
    return kFirstMapSize + size * 4 + expected_bytes * 16;
}

class LmdbWriter final : public IndexWriter {
public:
    LmdbWriter(std::string path, const IndexOptions& options) : path_(std::move(path)), options_(options) {}
    ~LmdbWriter() override {
        environment_.close();
        if (!temporary_.empty()) {
            unlink(temporary_.c_str());
        }
    }

    Result<void> open() {
        unsigned flags = 0;
        std::string file = path_;
        if (!options_.incremental) {
            temporary_ = path_ + ".tmp" + std::to_string(getpid());
            unlink(temporary_.c_str());
            file = temporary_;
            flags = MDB_NOSYNC;   // nobody can see the file before it is complete and synced
        }
        Result<void> done = environment_.open(file, flags, options_.mode, map_size_for(file, options_.expected_bytes));
        if (done && options_.incremental) {
            done = environment_.lock_exclusively();
        }
        if (done) {
            done = environment_.begin(0);
        }
        return done;
    }

    Result<void> put(std::string_view key, std::string_view value) override {
        const bool with_nul = options_.with_nul.value_or(true);
        const std::string stored_key = ended(key, with_nul);
        const std::string stored_value = ended(value, with_nul);
        MDB_val k{stored_key.size(), const_cast<char*>(stored_key.data())};
        MDB_val v{stored_value.size(), const_cast<char*>(stored_value.data())};
        const unsigned flags = options_.duplicates == Duplicates::replace ? 0 : MDB_NOOVERWRITE;
        const int error = mdb_put(environment_.txn(), environment_.dbi(), &k, &v, flags);
        if (error == MDB_KEYEXIST && options_.duplicates == Duplicates::ignore) {
            return {};
        }
        return error == 0 ? Result<void>() : Result<void>(lmdb_error("write " + path_, error));
    }

    Result<void> commit() override {
        if (const int error = environment_.commit(); error != 0) {
            return lmdb_error("write " + path_, error);
        }
        if (options_.incremental) {
            return {};
        }
        if (const int error = mdb_env_sync(environment_.env(), 1); error != 0) {
            return lmdb_error("sync " + temporary_, error);
        }
        environment_.close();
        Result<void> renamed = rename_into_place(temporary_, path_);
        if (renamed) {
            temporary_.clear();
        }
        return renamed;
    }

private:
    std::string path_;
    std::string temporary_;
    IndexOptions options_;
    Environment environment_;
};

class CdbWriter final : public IndexWriter {
public:
    CdbWriter(std::string path, const IndexOptions& options) : path_(std::move(path)), options_(options) {}
    ~CdbWriter() override {
        if (fd_) {
            unlink(temporary_.c_str());
        }
    }

    Result<void> open() {
        temporary_ = path_ + ".tmp" + std::to_string(getpid());
        fd_.reset(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, options_.mode));
        if (!fd_) {
            return errno_error("open " + temporary_);
        }
        if (cdb_make_start(&maker_, fd_.get()) != 0) {
            return errno_error("write " + temporary_);
        }
        return {};
    }

    Result<void> put(std::string_view key, std::string_view value) override {
        const bool with_nul = options_.with_nul.value_or(false);
        const std::string stored_key = ended(key, with_nul);
        const std::string stored_value = ended(value, with_nul);
        const cdb_put_mode mode = options_.duplicates == Duplicates::replace ? CDB_PUT_REPLACE : CDB_PUT_INSERT;
        const int status = cdb_make_put(&maker_, stored_key.data(), static_cast<unsigned>(stored_key.size()),
                                        stored_value.data(), static_cast<unsigned>(stored_value.size()), mode);
        if (status < 0) {
            return errno_error("write " + temporary_);
        }
        if (status > 0 && options_.duplicates == Duplicates::warn) {
            return Error(Errc::exists, "duplicate key");
        }
        return {};
    }

    Result<void> commit() override {
        if (cdb_make_finish(&maker_) != 0 || fsync(fd_.get()) != 0) {
            return errno_error("write " + temporary_);
        }
        Result<void> renamed = rename_into_place(temporary_, path_);
        if (renamed) {
            fd_.reset();
        }
        return renamed;
    }

private:
    std::string path_;
    std::string temporary_;
    IndexOptions options_;
    UniqueFd fd_;
    struct cdb_make maker_ {};
};

Result<void> each_in_lmdb(const std::string& path,
                          const std::function<void(std::string_view, std::string_view)>& visit) {
    Environment environment;
    Result<void> opened = environment.open(path, MDB_RDONLY, 0644, kFirstMapSize);
    if (opened) {
        opened = environment.begin(MDB_RDONLY);
    }
    if (!opened) {
        return opened;
    }
    MDB_cursor* cursor = nullptr;
    if (const int error = mdb_cursor_open(environment.txn(), environment.dbi(), &cursor); error != 0) {
        return lmdb_error("read " + path, error);
    }
    MDB_val key{};
    MDB_val value{};
    int status = 0;
    while ((status = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        visit(without_nul(key.mv_data, key.mv_size), without_nul(value.mv_data, value.mv_size));
    }
    mdb_cursor_close(cursor);
    return status == MDB_NOTFOUND ? Result<void>() : Result<void>(lmdb_error("read " + path, status));
}

Result<void> each_in_cdb(const std::string& path,
                         const std::function<void(std::string_view, std::string_view)>& visit) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        return errno_error("open " + path);
    }
    struct cdb file {};
    if (cdb_init(&file, fd.get()) != 0) {
        return Error(Errc::corrupt, "open " + path + ": not a cdb file");
    }
    unsigned position = 0;
    cdb_seqinit(&position, &file);
    int status = 0;
    while ((status = cdb_seqnext(&position, &file)) > 0) {
        const unsigned key_size = cdb_keylen(&file);
        const unsigned value_size = cdb_datalen(&file);
        const void* key = cdb_get(&file, key_size, cdb_keypos(&file));
        const void* value = cdb_get(&file, value_size, cdb_datapos(&file));
        if (!key || !value) {
            status = -1;
            break;
        }
        visit(without_nul(key, key_size), without_nul(value, value_size));
    }
    cdb_free(&file);
    return status < 0 ? Result<void>(Errc::corrupt, "read " + path + ": file is damaged") : Result<void>();
}

}  // namespace

std::string_view index_suffix(IndexType type) {
    return type == IndexType::lmdb ? ".lmdb" : ".cdb";
}

Result<std::unique_ptr<IndexWriter>> open_index_writer(const std::string& path, const IndexOptions& options) {
    if (options.type == IndexType::cdb) {
        if (options.incremental) {
            return Error(Errc::unsupported, "a cdb file cannot be changed, only made anew");
        }
        auto writer = std::make_unique<CdbWriter>(path, options);
        const Result<void> opened = writer->open();
        return opened ? Result<std::unique_ptr<IndexWriter>>(std::move(writer)) : opened.error();
    }
    auto writer = std::make_unique<LmdbWriter>(path, options);
    const Result<void> opened = writer->open();
    return opened ? Result<std::unique_ptr<IndexWriter>>(std::move(writer)) : opened.error();
}

Result<bool> remove_from_index(const std::string& path, IndexType type, std::string_view key) {
    if (type == IndexType::cdb) {
        return Error(Errc::unsupported, "a cdb file cannot be changed, only made anew");
    }
    if (access(path.c_str(), F_OK) != 0) {
        return errno_error("open " + path);
    }
    Environment environment;
    Result<void> opened = environment.open(path, 0, 0644, map_size_for(path, 0));
    if (opened) {
        opened = environment.lock_exclusively();
    }
    if (opened) {
        opened = environment.begin(0);
    }
    if (!opened) {
        return opened.error();
    }
    bool removed = false;
    for (const bool with_nul : {true, false}) {
        const std::string stored = ended(key, with_nul);
        MDB_val k{stored.size(), const_cast<char*>(stored.data())};
        const int error = mdb_del(environment.txn(), environment.dbi(), &k, nullptr);
        if (error != 0 && error != MDB_NOTFOUND) {
            return lmdb_error("write " + path, error);
        }
        removed = removed || error == 0;
    }
    if (const int error = environment.commit(); error != 0) {
        return lmdb_error("write " + path, error);
    }
    return removed;
}

Result<void> for_each_in_index(const std::string& path, IndexType type,
                               const std::function<void(std::string_view, std::string_view)>& visit) {
    return type == IndexType::lmdb ? each_in_lmdb(path, visit) : each_in_cdb(path, visit);
}

}  // namespace postern
