#include "tlspolicy/tlsrpt_book.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/store/lmdb_file.h"
#include "tlspolicy/sealed.h"

namespace postern::tlspolicy {

template <class A>
void fields(A& a, FailureDetail& m) {
    a(m.result, m.sending_ip, m.receiving_host, m.receiving_helo, m.receiving_ip, m.reason, m.count);
}
template <class A>
void fields(A& a, PolicyCounts& m) {
    a(m.policy, m.strings, m.mx_patterns, m.success, m.failure, m.details);
}
template <class A>
void fields(A& a, DomainDay& m) {
    a(m.policies);
}
template <class A>
void fields(A& a, ReportState& m) {
    a(m.done, m.attempts, m.next, m.delivered, m.note);
}

namespace {

constexpr char kVersion = 1;
constexpr std::size_t kMapSize = std::size_t{1} << 30;
constexpr std::size_t kCounts = 0, kStates = 1;   ///< the databases
constexpr std::size_t kDay = 10;                  ///< length of "2026-11-22"

std::string text_of(const BookKey& key) { return key.day + " " + key.domain; }

BookKey key_of(std::string_view text) {
    return {std::string(text.substr(0, kDay)), std::string(text.substr(std::min(kDay + 1, text.size())))};
}

bool same_kind(const FailureDetail& a, const FailureDetail& b) {
    return a.result == b.result && a.sending_ip == b.sending_ip && a.receiving_host == b.receiving_host &&
           a.receiving_helo == b.receiving_helo && a.receiving_ip == b.receiving_ip && a.reason == b.reason;
}

void merge_policy(PolicyCounts& into, const PolicyCounts& more) {
    into.success += more.success;
    into.failure += more.failure;
    for (const FailureDetail& detail : more.details) {
        const auto same = std::find_if(into.details.begin(), into.details.end(),
                                       [&detail](const FailureDetail& each) { return same_kind(each, detail); });
        if (same != into.details.end()) {
            same->count += detail.count;
        } else if (into.details.size() < kMaxDetails) {
            into.details.push_back(detail);
        }
    }
}

void shorten(std::vector<std::string>& texts) {
    texts.resize(std::min(texts.size(), kMaxStrings));
    for (std::string& text : texts) {
        text = printable(text, kMaxText);
    }
}

}  // namespace

void merge(DomainDay& into, const DomainDay& more) {
    for (const PolicyCounts& policy : more.policies) {
        const auto same = std::find_if(into.policies.begin(), into.policies.end(), [&policy](const PolicyCounts& each) {
            return each.policy == policy.policy && each.strings == policy.strings && each.mx_patterns == policy.mx_patterns;
        });
        if (same != into.policies.end()) {
            merge_policy(*same, policy);
        } else if (into.policies.size() < kMaxPolicies) {
            into.policies.push_back(policy);
        }
    }
}

bool add_outcome(Counts& counts, const std::string& day, const TlsrptOutcome& outcome) {
    if (outcome.policy > static_cast<std::uint8_t>(TlsrptPolicy::tlsa) || outcome.result >= kTlsrptResults ||
        !valid_hostname(outcome.domain)) {
        return false;
    }
    PolicyCounts policy;
    policy.policy = outcome.policy;
    policy.strings = outcome.policy_strings;
    policy.mx_patterns = outcome.mx_patterns;
    shorten(policy.strings);
    shorten(policy.mx_patterns);
    if (outcome.result == static_cast<std::uint8_t>(TlsrptResult::success)) {
        policy.success = 1;
    } else {
        policy.failure = 1;
        policy.details.push_back({outcome.result, printable(outcome.sending_ip, kMaxText), printable(outcome.receiving_host, kMaxText),
                                  printable(outcome.receiving_helo, kMaxText), printable(outcome.receiving_ip, kMaxText),
                                  printable(outcome.reason, kMaxText), 1});
    }
    DomainDay day_counts;
    day_counts.policies.push_back(std::move(policy));
    merge(counts[{day, to_lower(outcome.domain)}], day_counts);
    return true;
}

Result<std::unique_ptr<TlsrptBook>> TlsrptBook::open(const std::string& path) {
    const store::Env::Options options{.path = path, .databases = {"counts", "states"}, .map_size = kMapSize, .may_be_replaced = false};
    Result<std::shared_ptr<store::Env>> env = store::open_or_begin_anew(options);
    if (!env) {
        return env.error();
    }
    return std::unique_ptr<TlsrptBook>(new TlsrptBook(std::move(*env)));
}

Result<void> TlsrptBook::add(const Counts& counts) {
    Result<store::Txn> txn = store::Txn::begin(*env_, true);
    if (!txn) {
        return txn.error();
    }
    for (const auto& [key, more] : counts) {
        const std::string name = text_of(key);
        const Result<std::optional<std::string_view>> bytes = txn->get(kCounts, name);
        if (!bytes) {
            return bytes.error();
        }
        DomainDay whole;
        if (*bytes) {
            whole = unseal<DomainDay>(kVersion, **bytes).value_or(DomainDay());
        }
        merge(whole, more);
        if (Result<void> put = txn->put(kCounts, name, seal(kVersion, whole)); !put) {
            return put;
        }
    }
    return txn->commit();
}

std::vector<BookKey> TlsrptBook::keys() const {
    std::vector<BookKey> out;
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    if (!txn) {
        return out;
    }
    store::Cursor cursor(*txn, kCounts);
    for (Result<bool> more = cursor.seek("0"); more && *more; more = cursor.next()) {
        out.push_back(key_of(cursor.key()));
    }
    return out;
}

Counts TlsrptBook::read(std::string_view day, std::string_view domain) const {
    Counts out;
    for (BookKey& key : keys()) {
        if ((day.empty() || key.day == day) && (domain.empty() || equals_ignoring_case(key.domain, domain))) {
            DomainDay counts = counts_of(key);
            out.emplace(std::move(key), std::move(counts));
        }
    }
    return out;
}

DomainDay TlsrptBook::counts_of(const BookKey& key) const {
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    if (!txn) {
        return {};
    }
    const Result<std::optional<std::string_view>> bytes = txn->get(kCounts, text_of(key));
    return bytes && *bytes ? unseal<DomainDay>(kVersion, **bytes).value_or(DomainDay()) : DomainDay();
}

ReportState TlsrptBook::state(const BookKey& key) const {
    const Result<store::Txn> txn = store::Txn::begin(*env_, false);
    if (!txn) {
        return {};
    }
    const Result<std::optional<std::string_view>> bytes = txn->get(kStates, text_of(key));
    return bytes && *bytes ? unseal<ReportState>(kVersion, **bytes).value_or(ReportState()) : ReportState();
}

Result<void> TlsrptBook::set_state(const BookKey& key, const ReportState& state) {
    Result<store::Txn> txn = store::Txn::begin(*env_, true);
    if (!txn) {
        return txn.error();
    }
    if (Result<void> put = txn->put(kStates, text_of(key), seal(kVersion, state)); !put) {
        return put;
    }
    return txn->commit();
}

Result<void> TlsrptBook::forget_before(std::string_view day) {
    Result<store::Txn> txn = store::Txn::begin(*env_, true);
    if (!txn) {
        return txn.error();
    }
    for (const BookKey& key : keys()) {
        if (key.day >= day) {
            break;
        }
        for (const std::size_t database : {kCounts, kStates}) {
            if (Result<void> gone = txn->del(database, text_of(key)); !gone) {
                return gone;
            }
        }
    }
    return txn->commit();
}

}  // namespace postern::tlspolicy
