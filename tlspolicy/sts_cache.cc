#include "tlspolicy/sts_cache.h"

#include "lib/store/lmdb_file.h"
#include "tlspolicy/sealed.h"

namespace postern {

template <class A>
void fields(A& a, StsPolicy& m) {
    a(m.mode, m.mx, m.max_age, m.lines);
}

namespace tlspolicy {

template <class A>
void fields(A& a, StoredPolicy& m) {
    a(m.id, m.fetched, m.used, m.policy);
}

namespace {

constexpr char kVersion = 1;
constexpr std::size_t kMapSize = std::size_t{256} << 20;
constexpr std::size_t kPolicies = 0;   ///< the only database

}  // namespace

std::string StsCache::encode(const StoredPolicy& entry) { return seal(kVersion, entry); }

std::optional<StoredPolicy> StsCache::decode(std::string_view bytes) {
    std::optional<StoredPolicy> entry = unseal<StoredPolicy>(kVersion, bytes);
    if (entry && (entry->policy.mode > StsMode::enforce || entry->policy.max_age > kMaxStsAge)) {
        return std::nullopt;
    }
    return entry;
}

Result<std::unique_ptr<StsCache>> StsCache::open(const std::string& path) {
    const store::Env::Options options{.path = path, .databases = {"policies"}, .map_size = kMapSize, .may_be_replaced = false};
    Result<std::shared_ptr<store::Env>> env = store::open_or_begin_anew(options);
    if (!env) {
        return env.error();
    }
    return std::unique_ptr<StsCache>(new StsCache(std::move(*env)));
}

std::optional<StoredPolicy> StsCache::find(const std::string& domain) const {
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    if (!txn) {
        return std::nullopt;
    }
    const Result<std::optional<std::string_view>> bytes = txn->get(kPolicies, domain);
    return bytes && *bytes ? decode(**bytes) : std::nullopt;
}

Result<void> StsCache::store(const std::string& domain, const StoredPolicy& entry) {
    Result<store::Txn> txn = store::Txn::begin(*env_, true);
    if (!txn) {
        return txn.error();
    }
    if (Result<void> put = txn->put(kPolicies, domain, encode(entry)); !put) {
        return put;
    }
    return txn->commit();
}

Result<void> StsCache::remove(const std::string& domain) {
    Result<store::Txn> txn = store::Txn::begin(*env_, true);
    if (!txn) {
        return txn.error();
    }
    if (Result<void> gone = txn->del(kPolicies, domain); !gone) {
        return gone;
    }
    return txn->commit();
}

std::vector<std::pair<std::string, StoredPolicy>> StsCache::all() const {
    std::vector<std::pair<std::string, StoredPolicy>> out;
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    if (!txn) {
        return out;
    }
    store::Cursor cursor(*txn, kPolicies);
    // LMDB has no empty keys; no domain begins with anything below "-".
    for (Result<bool> more = cursor.seek("-"); more && *more; more = cursor.next()) {
        if (std::optional<StoredPolicy> entry = decode(cursor.value())) {
            out.emplace_back(cursor.key(), std::move(*entry));
        }
    }
    return out;
}

}  // namespace tlspolicy
}  // namespace postern
