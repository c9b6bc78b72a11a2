#include "verify/cache.h"

#include <vector>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/store/lmdb_file.h"

namespace postern::verify {
namespace {

constexpr std::size_t kMapSize = std::size_t{1} << 30;
/// Entries looked at in one transaction of clean(): others want to write meanwhile.
constexpr std::size_t kAtOnce = 5000;
/// Postfix's name for the time of the last cleanup.
constexpr std::string_view kCleanedKey = "_LAST_CACHE_CLEANUP_COMPLETED_";
/// Which format the entries have.  Without it they have the only one there is so far.
constexpr std::string_view kFormatKey = "_POSTERN_FORMAT_", kFormat = "1";

bool is_address(std::string_view key) {
    return !key.starts_with(kCleanedKey) && !key.starts_with(kFormatKey);
}

/// A file of a later format is emptied: its entries can be found out again.
Result<void> check_format(const store::Env& env) {
    Result<store::Txn> txn = store::Txn::begin(env, true);
    if (!txn) {
        return txn.error();
    }
    const auto format = txn->get(0, kFormatKey);
    if (!format) {
        return format.error();
    }
    if (!*format || **format == kFormat) {
        return {};
    }
    log_warning("{}: format \"{}\" is not known here: starting with an empty cache", env.path(), printable(**format, 20));
    const Result<void> emptied = txn->del_prefix(0, "");
    return emptied ? txn->commit() : emptied;
}

}  // namespace

Result<std::unique_ptr<Cache>> Cache::open(const std::string& map) {
    auto cache = std::make_unique<Cache>();
    if (trim(map).empty()) {
        return cache;
    }
    const Result<std::string> path = store::lmdb_file_of("address_verify_map", map);
    if (!path) {
        return path.error();
    }
    const store::Env::Options options{.path = *path, .databases = {nullptr}, .map_size = kMapSize};   // the file's only database, as Postfix has it
    Result<std::shared_ptr<store::Env>> env = store::open_or_begin_anew(options);
    if (!env) {
        return env.error();
    }
    if (Result<void> checked = check_format(**env); !checked) {
        return checked.error();
    }
    cache->env_ = std::move(*env);
    return cache;
}

std::optional<Entry> Cache::find(const std::string& address) const {
    for (const Changes* changes : {&changed_, &writing_}) {
        if (const auto found = changes->find(address); found != changes->end()) {
            return found->second;
        }
    }
    if (!env_) {
        return std::nullopt;
    }
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    const auto value = txn ? txn->get(0, address) : Result<std::optional<std::string_view>>(txn.error());
    if (!value) {
        log_warning("{}", value.error().what);
        return std::nullopt;
    }
    return *value ? parse_entry(**value) : std::nullopt;
}

void Cache::put(const std::string& address, Entry entry) { changed_[address] = std::move(entry); }

Result<void> Cache::store(std::shared_ptr<store::Env> env, const Changes& changes) {
    Result<store::Txn> txn = store::Txn::begin(*env, true);
    if (!txn) {
        return txn.error();
    }
    for (const auto& [address, entry] : changes) {
        const Result<void> put = txn->put(0, address, format_entry(entry));
        if (!put) {
            return put;
        }
    }
    return txn->commit();
}

Task<> Cache::write() {
    if (!env_ || busy_ || changed_.empty()) {
        co_return;
    }
    busy_ = true;
    writing_.swap(changed_);
    auto work = [env = env_, changes = &writing_] { return store(env, *changes); };
    const Result<void> written = co_await offload(std::move(work));
    if (!written) {
        log_warning("{}", written.error().what);
    }
    writing_.clear();
    busy_ = false;
}

void Cache::write_now() {
    if (!env_ || changed_.empty()) {
        return;
    }
    if (const Result<void> written = store(env_, changed_); !written) {
        log_warning("{}", written.error().what);
    }
    changed_.clear();
}

std::int64_t Cache::last_cleaned() const {
    if (!env_) {
        return 0;
    }
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    const auto value = txn ? txn->get(0, kCleanedKey) : Result<std::optional<std::string_view>>(txn.error());
    if (!value || !*value) {
        return 0;
    }
    std::string_view text = **value;
    text = text.substr(0, text.find('\0'));
    return text.size() > 18 ? 0 : static_cast<std::int64_t>(parse_number(text).value_or(0));
}

Result<Cleaned> Cache::clean_file(std::shared_ptr<store::Env> env, const Lifetimes& lifetimes, std::int64_t now) {
    Cleaned out;
    std::string from(1, '\0');
    for (bool more = true; more;) {
        Result<store::Txn> txn = store::Txn::begin(*env, true);
        if (!txn) {
            return txn.error();
        }
        std::vector<std::string> old;
        {
            store::Cursor cursor(*txn, 0);
            Result<bool> here = cursor.seek(from);
            for (std::size_t seen = 0; here && *here && seen < kAtOnce; ++seen, here = cursor.next()) {
                const std::optional<Entry> entry = parse_entry(cursor.value());
                if (is_address(cursor.key()) && (!entry || lifetimes.is_expired(*entry, now))) {
                    old.emplace_back(cursor.key());
                } else {
                    out.retained += is_address(cursor.key()) ? 1 : 0;
                }
            }
            if (!here) {
                return here.error();
            }
            more = *here;
            from = more ? std::string(cursor.key()) : from;
        }
        for (const std::string& key : old) {
            if (Result<void> gone = txn->del(0, key); !gone) {
                return gone.error();
            }
        }
        out.dropped += old.size();
        const Result<void> marked = more ? Result<void>() : txn->put(0, kCleanedKey, std::to_string(now));
        const Result<void> done = marked ? txn->commit() : marked;
        if (!done) {
            return done.error();
        }
    }
    return out;
}

Task<Cleaned> Cache::clean(Lifetimes lifetimes, std::int64_t now) {
    Cleaned out;
    if (!env_) {
        const std::size_t before = changed_.size();
        std::erase_if(changed_, [&](const auto& known) { return lifetimes.is_expired(known.second, now); });
        out.retained = changed_.size();
        out.dropped = before - changed_.size();
        co_return out;
    }
    auto work = [env = env_, lifetimes, now] { return clean_file(env, lifetimes, now); };
    const Result<Cleaned> cleaned = co_await offload(std::move(work));
    if (!cleaned) {
        log_warning("{}", cleaned.error().what);
        co_return out;
    }
    co_return *cleaned;
}

}  // namespace postern::verify
