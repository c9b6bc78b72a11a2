#include "smtp/sasl_cache.h"

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/store/lmdb_file.h"
#include "lib/stream/tls.h"

namespace postern::smtp {
namespace {

constexpr std::size_t kMapSize = std::size_t{64} << 20;
constexpr std::size_t kMaxReply = 500;

/// Lengths in front, so that no two log-ins look alike.
Result<std::string> key_of(const std::string& server, const std::string& user, const std::string& password) {
    std::string all;
    for (const std::string& part : {to_lower(server), user, password}) {
        all += fmt::format("{}:{}", part.size(), part);
    }
    return fingerprint(all, "sha256");
}

Result<void> put(const store::Env& env, const std::string& key, const std::string& value, bool empty_first) {
    Result<store::Txn> txn = store::Txn::begin(env, true, store::Durable::all_but_the_last);
    if (!txn) {
        return txn.error();
    }
    if (empty_first) {
        if (Result<void> emptied = txn->del_prefix(0, ""); !emptied) {
            return emptied;
        }
    }
    if (Result<void> done = txn->put(0, key, value); !done) {
        return done;
    }
    return txn->commit();
}

}  // namespace

Result<SaslCache> SaslCache::open(const std::string& title, const std::string& name, Seconds lifetime) {
    SaslCache cache;
    if (trim(name).empty()) {
        return cache;
    }
    const Result<std::string> path = store::lmdb_file_of(title, name);
    if (!path) {
        return path.error();
    }
    const store::Env::Options options{
        .path = *path,
        .databases = {nullptr},
        .flags = MDB_NOSYNC,        // what a crash of the machine destroys is found out again
        .map_size = kMapSize,
        .may_be_replaced = false,   // the path is out of reach later
    };
    Result<std::shared_ptr<store::Env>> env = store::open_or_begin_anew(options);
    if (!env) {
        return Error(env.error().code, title + ": " + env.error().what);
    }
    cache.env_ = std::move(*env);
    cache.lifetime_ = lifetime;
    return cache;
}

std::optional<SaslCache::Refusal> SaslCache::find(const std::string& server, const std::string& user, const std::string& password,
                                                  std::int64_t now) const {
    const Result<std::string> key = env_ ? key_of(server, user, password) : Result<std::string>(std::string());
    if (!key || key->empty()) {
        return std::nullopt;
    }
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    const auto value = txn ? txn->get(0, *key) : Result<std::optional<std::string_view>>(txn.error());
    if (!value) {
        log_warning("{}", value.error().what);
        return std::nullopt;
    }
    // "time dsn reply"
    const std::string_view text = value->value_or("");
    const std::size_t time_end = text.find(' '), dsn_end = text.find(' ', time_end + 1);
    if (time_end == text.npos || dsn_end == text.npos) {
        return std::nullopt;
    }
    const auto when = parse_number(text.substr(0, time_end));
    if (!when || static_cast<std::int64_t>(*when) + lifetime_.count() <= now) {
        return std::nullopt;
    }
    return Refusal{std::string(text.substr(time_end + 1, dsn_end - time_end - 1)), std::string(text.substr(dsn_end + 1))};
}

void SaslCache::store(const std::string& server, const std::string& user, const std::string& password, const Refusal& refusal,
                      std::int64_t now) {
    const Result<std::string> key = env_ ? key_of(server, user, password) : Result<std::string>(std::string());
    if (!key || key->empty()) {
        return;
    }
    const std::string value = fmt::format("{} {} {}", now, refusal.dsn, refusal.reply.substr(0, kMaxReply));
    Result<void> done = put(*env_, *key, value, false);
    if (!done && done.error().code == Errc::no_space) {
        done = put(*env_, *key, value, true);   // what is forgotten costs one more log-in each
    }
    if (!done) {
        log_warning("{}", done.error().what);
    }
}

}  // namespace postern::smtp
