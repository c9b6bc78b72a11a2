#include "lib/store/index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "lib/base/unique_fd.h"
#include "lib/store/cache.h"

namespace postern::store {
namespace {

constexpr std::string_view kMetaKey = "account";
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::size_t kMapSize = sizeof(void*) == 8 ? std::size_t{32} << 30 : std::size_t{256} << 20;

struct Meta {
    std::uint32_t format = kIndexFormat;
    std::uint32_t byte_order = kByteOrder;
    std::uint32_t last_uidvalidity = 0;
    std::uint32_t last_mailbox_id = 0;
};

Result<Meta> load_meta(const Txn& txn) {
    Result<std::optional<std::string_view>> value = txn.get(kMetaDb, kMetaKey);
    if (!value) {
        return value.error();
    }
    if (!*value) {
        return Meta{};
    }
    Result<std::string_view> payload = unseal(Kind::meta, kMetaKey, **value);
    Meta meta;
    if (!payload || payload->size() < sizeof meta.format) {
        return Error(Errc::corrupt, "index: damaged account record");
    }
    std::memcpy(&meta, payload->data(), std::min(sizeof meta, payload->size()));
    if (meta.format > kIndexFormat) {
        return Error(Errc::unsupported, "index: written by a newer version (format " + std::to_string(meta.format) + ")");
    }
    if (payload->size() != sizeof meta || meta.byte_order != kByteOrder) {
        return Error(Errc::corrupt, "index: damaged account record");
    }
    return meta;
}

Result<void> save_meta(Txn& txn, const Meta& meta) {
    const std::string_view payload(reinterpret_cast<const char*>(&meta), sizeof meta);
    return txn.put(kMetaDb, kMetaKey, seal(Kind::meta, kMetaKey, payload));
}

Result<std::shared_ptr<Env>> try_open(const std::string& file) {
    Env::Options options;
    options.path = file;
    options.databases = {"meta", "mailboxes", "entries", "names", "vanished"};
    options.map_size = kMapSize;
    Result<std::shared_ptr<Env>> env = Env::open(options);
    if (!env) {
        return env;
    }
    Result<Txn> txn = Txn::begin(**env, false);
    if (!txn) {
        return txn.error();
    }
    if (Result<Meta> meta = load_meta(*txn); !meta) {
        return meta.error();
    }
    return env;
}

}  // namespace

Result<std::shared_ptr<Env>> open_index(const std::string& directory) {
    if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno_error("create " + directory);
    }
    const std::string file = directory + "/index.mdb";
    const std::string mark = directory + "/index.damaged";
    const bool marked = access(mark.c_str(), F_OK) == 0;
    struct stat status {};
    if (stat(file.c_str(), &status) != 0 || status.st_size == 0) {
        discard_cache(directory);
    }
    if (!marked) {
        Result<std::shared_ptr<Env>> env = try_open(file);
        if (env || env.error().code != Errc::corrupt) {
            return env;
        }
    }
    discard_cache(directory);
    if (rename(file.c_str(), (file + ".damaged").c_str()) != 0 && errno != ENOENT) {
        return errno_error("set aside " + file);
    }
    unlink((file + "-lock").c_str());
    unlink(mark.c_str());
    return try_open(file);
}

void mark_index_damaged(const std::string& directory) {
    UniqueFd mark(::open((directory + "/index.damaged").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

Result<std::optional<MailboxRecord>> load_mailbox(const Txn& txn, std::string_view name) {
    Result<std::optional<std::string_view>> value = txn.get(kMailboxesDb, name);
    if (!value) {
        return value.error();
    }
    if (!*value) {
        return std::optional<MailboxRecord>();
    }
    Result<std::string_view> payload = unseal(Kind::mailbox, name, **value);
    if (!payload) {
        return payload.error();
    }
    Result<MailboxRecord> record = decode_mailbox(*payload);
    if (!record) {
        return record.error();
    }
    return std::optional<MailboxRecord>(std::move(*record));
}

Result<std::vector<std::string>> indexed_mailboxes(const Txn& txn) {
    std::vector<std::string> names;
    Cursor cursor(txn, kMailboxesDb);
    Result<bool> more = cursor.seek(std::string_view("\0", 1));
    for (; more && *more; more = cursor.next()) {
        names.emplace_back(cursor.key());
    }
    if (!more) {
        return more.error();
    }
    return names;
}

Result<void> rename_record(Txn& txn, std::string_view from, std::string_view to) {
    Result<std::optional<MailboxRecord>> record = load_mailbox(txn, from);
    if (!record) {
        return record.error();
    }
    if (!*record) {
        return {};
    }
    if (Result<void> put = txn.put(kMailboxesDb, to, seal(Kind::mailbox, to, encode_mailbox(**record))); !put) {
        return put;
    }
    return txn.del(kMailboxesDb, from);
}

Result<std::uint32_t> next_uidvalidity(Txn& txn) {
    Result<Meta> meta = load_meta(txn);
    if (!meta) {
        return meta.error();
    }
    meta->last_uidvalidity = std::max(meta->last_uidvalidity + 1, static_cast<std::uint32_t>(time(nullptr)));
    if (Result<void> saved = save_meta(txn, *meta); !saved) {
        return saved.error();
    }
    return meta->last_uidvalidity;
}

Result<void> forget_mailbox(Txn& txn, std::string_view name) {
    Result<std::optional<MailboxRecord>> record = load_mailbox(txn, name);
    if (record && *record) {
        const std::string prefix = be32((*record)->id);
        for (const std::size_t db : {kEntriesDb, kNamesDb, kVanishedDb}) {
            if (Result<void> done = txn.del_prefix(db, prefix); !done) {
                return done;
            }
        }
    }
    return txn.del(kMailboxesDb, name);
}

Result<std::uint32_t> next_mailbox_id(Txn& txn) {
    Result<Meta> meta = load_meta(txn);
    if (!meta) {
        return meta.error();
    }
    ++meta->last_mailbox_id;
    if (Result<void> saved = save_meta(txn, *meta); !saved) {
        return saved.error();
    }
    return meta->last_mailbox_id;
}

}  // namespace postern::store
