#include "lib/store/cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace postern::store {
namespace {

constexpr std::size_t kMapSize = sizeof(void*) == 8 ? std::size_t{64} << 30 : std::size_t{512} << 20;
constexpr std::size_t kStateSize = 64;            ///< "clean " or "dirty ", the boot's id, newline; padded

std::string boot_id() {
    char text[64] = "";
    const UniqueFd fd(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    const ssize_t n = fd ? read(fd.get(), text, sizeof text - 1) : 0;
    std::string id(text, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    while (!id.empty() && id.back() == '\n') {
        id.pop_back();
    }
    return id.empty() ? "unknown" : id;           // without /proc a cache is kept only when it was flushed
}

std::string state_text(bool clean, const std::string& boot) {
    std::string text = (clean ? "clean " : "dirty ") + boot;
    text.resize(kStateSize - 1, ' ');
    return text + "\n";
}

Result<std::shared_ptr<Env>> open_env(const std::string& file) {
    Env::Options options;
    options.path = file;
    options.databases = {"summary-1", "headers-2", "directories-1"};
    options.flags = MDB_NOSYNC;
    options.map_size = kMapSize;
    return Env::open(options);
}

}  // namespace

void discard_cache(const std::string& directory) {
    for (const char* const name : {"/cache.mdb", "/cache.mdb-lock", "/cache.state"}) {
        unlink((directory + name).c_str());
    }
}

bool Cache::was_lost() const {
    char text[kStateSize + 1] = "";
    if (pread(state_.get(), text, kStateSize, 0) <= 0) {
        return false;                             // new
    }
    const bool same_boot = boot_ != "unknown" && std::string_view(text) == state_text(false, boot_);
    return std::string_view(text).substr(0, 6) != "clean " && !same_boot;
}

Result<std::unique_ptr<Cache>> Cache::open(const std::string& directory) {
    std::unique_ptr<Cache> cache(new Cache);
    cache->directory_ = directory;
    cache->boot_ = boot_id();
    const std::string state = directory + "/cache.state";
    cache->state_.reset(::open(state.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!cache->state_) {
        return errno_error("open " + state);
    }
    const std::string file = directory + "/cache.mdb";
    auto discard = [&] {
        unlink(file.c_str());
        unlink((file + "-lock").c_str());
        if (ftruncate(cache->state_.get(), 0) != 0) {
            unlink(state.c_str());
        }
    };
    if (cache->was_lost()) {
        discard();
    }
    Result<std::shared_ptr<Env>> env = open_env(file);
    if (!env && env.error().code == Errc::corrupt) {
        discard();
        env = open_env(file);
    }
    if (!env) {
        return env.error();
    }
    cache->env_ = std::move(*env);
    return cache;
}

Cache::~Cache() {
    // Most has been written by the kernel by now.  Without this every cache would be lost with a reboot.
    if (env_ && wrote_) {
        if (Result<Txn> lock = Txn::begin(*env_, true); lock && mdb_env_sync(env_->get(), 1) == 0) {
            write_state(true);
        }
    }
}

void Cache::write_state(bool clean) {
    const std::string text = state_text(clean, boot_);
    char now[kStateSize] = "";
    if (pread(state_.get(), now, kStateSize, 0) == static_cast<ssize_t>(kStateSize) &&
        text == std::string_view(now, kStateSize)) {
        return;
    }
    if (pwrite(state_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
        unlink((directory_ + "/cache.state").c_str());
        return;
    }
    if (!clean) {
        fdatasync(state_.get());                  // must be known before the first unsynced write
    }
}

std::optional<Txn> Cache::begin_write() {
    Result<Txn> txn = Txn::begin(*env_, true);
    if (!txn) {
        return std::nullopt;
    }
    write_state(false);
    wrote_ = true;
    return std::move(*txn);
}

void Cache::finish(Txn& txn) {
    if (Result<void> done = txn.commit(); !done && done.error().code == Errc::corrupt) {
        unlink(env_->path().c_str());             // the next opening begins a new one
    }
}

std::optional<DirState> Cache::directory(std::uint32_t mailbox) const {
    Result<Txn> txn = Txn::begin(*env_, false);
    if (!txn) {
        return std::nullopt;
    }
    const std::string key = be32(mailbox);
    Result<std::optional<std::string_view>> value = txn->get(kDirsDb, key);
    if (!value || !*value) {
        return std::nullopt;
    }
    Result<std::string_view> payload = unseal(Kind::directory, key, **value);
    if (!payload || payload->size() != sizeof(DirState)) {
        return std::nullopt;
    }
    DirState state;
    std::memcpy(&state, payload->data(), sizeof state);
    return state;
}

void Cache::save_directory(std::uint32_t mailbox, const DirState& state) {
    if (std::optional<Txn> txn = begin_write()) {
        const std::string key = be32(mailbox);
        const std::string_view payload(reinterpret_cast<const char*>(&state), sizeof state);
        if (txn->put(kDirsDb, key, seal(Kind::directory, key, payload))) {
            finish(*txn);
        }
    }
}

void Cache::store(std::uint32_t mailbox, const std::vector<CacheEntry>& entries) {
    std::optional<Txn> txn = entries.empty() ? std::nullopt : begin_write();
    if (!txn) {
        return;
    }
    for (const CacheEntry& entry : entries) {
        const std::string key = key_of(mailbox, entry.uid);
        if (!txn->put(kSummaryDb, key, seal(Kind::summary, key, entry.summary), MDB_APPEND)) {
            return;
        }
    }
    for (const CacheEntry& entry : entries) {
        const std::string key = key_of(mailbox, entry.uid);
        if (!entry.headers.empty() && !txn->put(kHeadersDb, key, seal(Kind::headers, key, entry.headers), MDB_APPEND)) {
            return;
        }
    }
    finish(*txn);
}

void Cache::copy(std::uint32_t from, std::uint32_t to, const std::vector<std::pair<Uid, Uid>>& uids) {
    Result<Txn> read = Txn::begin(*env_, false);
    std::optional<Txn> txn = read ? begin_write() : std::nullopt;
    if (!txn) {
        return;
    }
    for (const auto& [db, kind] : {std::pair(kSummaryDb, Kind::summary), std::pair(kHeadersDb, Kind::headers)}) {
        Cursor cursor(*read, db);
        bool positioned = false;
        for (const auto& [old_uid, new_uid] : uids) {
            const std::string old_key = key_of(from, old_uid);
            Result<bool> there = positioned ? cursor.next() : cursor.seek(old_key);
            if (positioned && there && *there && cursor.key() != old_key) {
                there = cursor.seek(old_key);
            }
            positioned = there && *there;
            if (!positioned || cursor.key() != old_key) {
                continue;
            }
            const std::string new_key = key_of(to, new_uid);
            const Result<std::string_view> payload = unseal(kind, old_key, cursor.value());
            if (payload && !txn->put(db, new_key, seal(kind, new_key, *payload), MDB_APPEND)) {
                return;
            }
        }
    }
    finish(*txn);
}

void Cache::erase(std::uint32_t mailbox, const UidSet& uids) {
    std::optional<Txn> txn = uids.empty() ? std::nullopt : begin_write();
    if (!txn) {
        return;
    }
    for (const std::size_t db : {kSummaryDb, kHeadersDb}) {
        for (const UidRange& range : uids.ranges()) {
            for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
                if (!txn->del(db, key_of(mailbox, static_cast<std::uint32_t>(uid)))) {
                    return;
                }
            }
        }
    }
    finish(*txn);
}

void Cache::forget(std::uint32_t mailbox) {
    if (std::optional<Txn> txn = begin_write()) {
        for (const std::size_t db : {kSummaryDb, kHeadersDb, kDirsDb}) {
            if (!txn->del_prefix(db, be32(mailbox))) {
                return;
            }
        }
        finish(*txn);
    }
}

}  // namespace postern::store
