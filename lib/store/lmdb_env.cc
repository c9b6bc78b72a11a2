#include "lib/store/lmdb_env.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <utility>

#include "lib/base/unique_fd.h"

namespace postern::store {
namespace {

constexpr unsigned kMaxReaders = 512;
constexpr int kMapBlocksFrom = 512 * 1024;
constexpr std::size_t kSmallestMap = std::size_t{64} << 20;

struct Registry {
    std::mutex mutex;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::weak_ptr<Env>> open;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

MDB_val to_val(std::string_view text) {
    MDB_val value;
    value.mv_size = text.size();
    value.mv_data = const_cast<char*>(text.data());   // LMDB does not write through keys and values it is given
    return value;
}

/// A data file that lost its end would kill us with SIGBUS when its pages are touched.
bool is_truncated(MDB_env* env, int fd) {
    MDB_envinfo info{};
    MDB_stat page{};
    struct stat file {};
    if (mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &page) != 0 || fstat(fd, &file) != 0) {
        return true;
    }
    const std::uint64_t needed = (static_cast<std::uint64_t>(info.me_last_pgno) + 1) * page.ms_psize;
    return static_cast<std::uint64_t>(file.st_size) < needed && info.me_last_pgno > 1;
}

}  // namespace

Error lmdb_error(int code, std::string what) {
    if (code > 0) {
        return errno_error(std::move(what), code);
    }
    what += ": ";
    what += mdb_strerror(code);
    switch (code) {
        case MDB_MAP_FULL: return Error(Errc::no_space, std::move(what));
        case MDB_READERS_FULL: return Error(Errc::temporary, std::move(what));
        case MDB_NOTFOUND: return Error(Errc::not_found, std::move(what));
        case MDB_KEYEXIST: return Error(Errc::exists, std::move(what));
        case MDB_CORRUPTED: case MDB_PAGE_NOTFOUND: case MDB_INVALID: case MDB_VERSION_MISMATCH:
        case MDB_INCOMPATIBLE: case MDB_BAD_DBI:
            return Error(Errc::corrupt, std::move(what));
        default: return Error(Errc::io, std::move(what));
    }
}

Result<std::shared_ptr<Env>> Env::open(const Options& options) {
    struct stat status {};
    if (stat(options.path.c_str(), &status) != 0) {
        const UniqueFd made(::open(options.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (!made || fstat(made.get(), &status) != 0) {
            return errno_error("open " + options.path);
        }
    }
    const std::pair<std::uint64_t, std::uint64_t> id{status.st_dev, status.st_ino};
    Registry& known = registry();
    const std::lock_guard<std::mutex> lock(known.mutex);
    if (const auto found = known.open.find(id); found != known.open.end()) {
        std::shared_ptr<Env> env = found->second.lock();
        if (env && env->pid_ == getpid() && !env->unusable_) {
            return env;
        }
    }
    std::shared_ptr<Env> env(new Env);
    env->path_ = options.path;
    env->device_ = id.first;
    env->inode_ = id.second;
    env->pid_ = getpid();
    env->may_be_replaced_ = options.may_be_replaced;
    if (Result<void> opened = env->open_files(options); !opened) {
        return opened.error();
    }
    if (Result<void> opened = env->open_databases(options); !opened) {
        return opened.error();
    }
    known.open[id] = env;
    return env;
}

Result<void> Env::open_files(const Options& options) {
#ifdef __GLIBC__
    // LMDB asks for 3 MB of zeroed memory that it hardly ever uses.  As a mapping of its own it costs nothing; from
    // glibc's heap, where it comes from once a block of that size was freed, all of it is touched.
    mallopt(M_MMAP_THRESHOLD, kMapBlocksFrom);
#endif
    // Address space is limited in some places (setrlimit, valgrind): what is there will do.
    for (std::size_t map_size = options.map_size;; map_size /= 8) {
        const int rc = open_files(options, map_size);
        if (rc == 0) {
            break;
        }
        if ((rc != ENOMEM && rc != EINVAL) || map_size < kSmallestMap) {
            return lmdb_error(rc, "open " + options.path);
        }
        mdb_env_close(std::exchange(env_, nullptr));
    }
    int fd = -1;
    mdb_env_get_fd(env_, &fd);
    if (is_truncated(env_, fd)) {
        return Error(Errc::corrupt, "open " + options.path + ": the file has lost its end");
    }
    int dead = 0;
    mdb_reader_check(env_, &dead);
    return {};
}

int Env::open_files(const Options& options, std::size_t map_size) {
    int rc = mdb_env_create(&env_);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(env_, static_cast<MDB_dbi>(options.databases.size()));
    }
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(env_, kMaxReaders);
    }
    if (rc == 0) {
        rc = mdb_env_set_mapsize(env_, map_size);
    }
    if (rc == 0) {
        rc = mdb_env_open(env_, options.path.c_str(), options.flags | MDB_NOSUBDIR | MDB_NOTLS, 0600);
    }
    return rc;
}

Result<void> Env::open_databases(const Options& options) {
    // A read transaction finds them when they exist already: no write lock for the usual opening.
    for (const bool write : {false, true}) {
        MDB_txn* txn = nullptr;
        int rc = mdb_txn_begin(env_, nullptr, write ? 0 : MDB_RDONLY, &txn);
        if (rc != 0) {
            return lmdb_error(rc, "open " + path_);
        }
        dbis_.clear();
        for (const char* name : options.databases) {
            MDB_dbi dbi = 0;
            rc = mdb_dbi_open(txn, name, write ? MDB_CREATE : 0, &dbi);
            if (rc != 0) {
                break;
            }
            dbis_.push_back(dbi);
        }
        if (rc != 0) {
            mdb_txn_abort(txn);
        } else {
            rc = mdb_txn_commit(txn);
        }
        if (rc == 0) {
            return {};
        }
        if (write || rc != MDB_NOTFOUND) {
            return lmdb_error(rc, "open " + path_);
        }
    }
    return {};
}

Env::~Env() {
    if (env_ != nullptr && pid_ == getpid()) {
        mdb_env_close(env_);
    }
}

bool Env::is_current() const {
    struct stat status {};
    return !may_be_replaced_ || (stat(path_.c_str(), &status) == 0 && status.st_ino == inode_ && status.st_dev == device_);
}

Result<void> Env::sync() {
    if (const int rc = mdb_env_sync(env_, 1); rc != 0) {
        return lmdb_error(rc, "sync " + path_);
    }
    return {};
}

Result<Txn> Txn::begin(const Env& env, bool write, Durable durable) {
    MDB_txn* txn = nullptr;
    const unsigned flags = !write ? MDB_RDONLY : durable == Durable::all ? 0 : MDB_NOMETASYNC;
    if (const int rc = mdb_txn_begin(env.get(), nullptr, flags, &txn); rc != 0) {
        env.unusable_ = env.unusable_ || rc == MDB_PANIC;
        return lmdb_error(rc, (write ? "write " : "read ") + env.path());
    }
    Txn made(env, txn);
    if (write && !env.is_current()) {
        return Error(Errc::corrupt, "write " + env.path() + ": the file was replaced");
    }
    return made;
}

Txn::Txn(Txn&& other) noexcept : env_(other.env_), txn_(std::exchange(other.txn_, nullptr)) {}

Txn& Txn::operator=(Txn&& other) noexcept {
    if (this != &other) {
        abort();
        env_ = other.env_;
        txn_ = std::exchange(other.txn_, nullptr);
    }
    return *this;
}

Txn::~Txn() { abort(); }

void Txn::abort() {
    if (txn_ != nullptr) {
        mdb_txn_abort(std::exchange(txn_, nullptr));
    }
}

Result<void> Txn::commit() {
    if (const int rc = mdb_txn_commit(std::exchange(txn_, nullptr)); rc != 0) {
        return lmdb_error(rc, "write " + env_->path());
    }
    return {};
}

void Txn::reset() { mdb_txn_reset(txn_); }

Result<void> Txn::renew() {
    if (const int rc = mdb_txn_renew(txn_); rc != 0) {
        return lmdb_error(rc, "read " + env_->path());
    }
    return {};
}

Result<std::optional<std::string_view>> Txn::get(std::size_t db, std::string_view key) const {
    MDB_val k = to_val(key);
    MDB_val v{};
    const int rc = mdb_get(txn_, env_->dbi(db), &k, &v);
    if (rc == MDB_NOTFOUND) {
        return std::optional<std::string_view>();
    }
    if (rc != 0) {
        return lmdb_error(rc, "read " + env_->path());
    }
    return std::optional<std::string_view>(std::string_view(static_cast<const char*>(v.mv_data), v.mv_size));
}

Result<void> Txn::put(std::size_t db, std::string_view key, std::string_view value, unsigned flags) {
    MDB_val k = to_val(key);
    MDB_val v = to_val(value);
    int rc = mdb_put(txn_, env_->dbi(db), &k, &v, flags);
    if (rc == MDB_KEYEXIST && (flags & MDB_APPEND) != 0) {
        rc = mdb_put(txn_, env_->dbi(db), &k, &v, 0);   // not at the end after all
    }
    if (rc != 0) {
        return lmdb_error(rc, "write " + env_->path());
    }
    return {};
}

Result<void> Txn::del(std::size_t db, std::string_view key) {
    MDB_val k = to_val(key);
    if (const int rc = mdb_del(txn_, env_->dbi(db), &k, nullptr); rc != 0 && rc != MDB_NOTFOUND) {
        return lmdb_error(rc, "write " + env_->path());
    }
    return {};
}

Result<void> Txn::del_prefix(std::size_t db, std::string_view prefix) {
    MDB_cursor* cursor = nullptr;
    int rc = mdb_cursor_open(txn_, env_->dbi(db), &cursor);
    if (rc != 0) {
        return lmdb_error(rc, "write " + env_->path());
    }
    MDB_val k = to_val(prefix);
    MDB_val v{};
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && k.mv_size >= prefix.size() &&
           std::string_view(static_cast<const char*>(k.mv_data), prefix.size()) == prefix) {
        rc = mdb_cursor_del(cursor, 0);
        if (rc == 0) {
            rc = mdb_cursor_get(cursor, &k, &v, MDB_GET_CURRENT);
            if (rc == EINVAL) {
                rc = MDB_NOTFOUND;                         // how LMDB 0.9 says that the last key is gone
            }
        }
    }
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return lmdb_error(rc, "write " + env_->path());
    }
    return {};
}

Cursor::Cursor(const Txn& txn, std::size_t db) {
    open_error_ = mdb_cursor_open(txn.get(), txn.env().dbi(db), &cursor_);
}

Cursor::~Cursor() {
    if (cursor_ != nullptr) {
        mdb_cursor_close(cursor_);
    }
}

Result<bool> Cursor::move(MDB_cursor_op op) {
    const int rc = open_error_ != 0 ? open_error_ : mdb_cursor_get(cursor_, &key_, &value_, op);
    positioned_ = rc == 0;
    if (rc == MDB_NOTFOUND) {
        return false;
    }
    if (rc != 0) {
        return lmdb_error(rc, "read index");
    }
    return true;
}

Result<bool> Cursor::seek(std::string_view key) {
    key_ = to_val(key);
    return move(MDB_SET_RANGE);
}

Result<bool> Cursor::next() {
    if (!positioned_) {
        return false;
    }
    return move(MDB_NEXT);
}

}  // namespace postern::store
