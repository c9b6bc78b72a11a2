/// The counts of TLS sessions that reports are made of, by UTC day and policy domain, and how far the reports have got.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/lmdb_env.h"
#include "lib/tlsrpt/messages.h"

namespace postern::tlspolicy {

/// Sessions that failed in the same way (RFC 8460 section 4.4, "failure-details").
struct FailureDetail {
    std::uint8_t result = 0;          ///< a TlsrptResult
    std::string sending_ip, receiving_host, receiving_helo, receiving_ip;
    std::string reason;
    std::uint64_t count = 0;
};
/// One policy of a domain on one day.
struct PolicyCounts {
    std::uint8_t policy = 0;          ///< a TlsrptPolicy
    std::vector<std::string> strings, mx_patterns;
    std::uint64_t success = 0, failure = 0;
    std::vector<FailureDetail> details;
};
struct DomainDay {
    std::vector<PolicyCounts> policies;
};
/// How far a report has got.
struct ReportState {
    bool done = false;
    std::uint32_t attempts = 0;
    std::int64_t next = 0;                ///< not before, seconds since 1970
    std::vector<std::string> delivered;   ///< URIs that have it
    std::string note;                     ///< what happened, for people
};

/// "2026-11-22", and a domain in lower case.
struct BookKey {
    std::string day, domain;
    bool operator<(const BookKey& other) const { return day != other.day ? day < other.day : domain < other.domain; }
};
using Counts = std::map<BookKey, DomainDay>;

/// Bounds of what is told apart; what goes beyond is counted in the totals only.
inline constexpr std::size_t kMaxPolicies = 20, kMaxDetails = 100, kMaxStrings = 100, kMaxText = 255;

/// Adds one session.  False, and nothing counted, when it makes no sense.
bool add_outcome(Counts& counts, const std::string& day, const TlsrptOutcome& outcome);
void merge(DomainDay& into, const DomainDay& more);

/// An LMDB file with two databases, keyed "DAY DOMAIN"; entries as sealed.h writes them, version 1.  What has another version
/// or fails its check counts as not there.  Thread-safe.
class TlsrptBook {
public:
    /// As StsCache::open().
    static Result<std::unique_ptr<TlsrptBook>> open(const std::string& path);

    /// Adds all to what is there, in one step; on stable storage when it returns.  Blocks.  Errors: no_space, io.
    Result<void> add(const Counts& counts);
    /// Empty `day` or `domain`: all.
    Counts read(std::string_view day, std::string_view domain) const;
    std::vector<BookKey> keys() const;
    DomainDay counts_of(const BookKey& key) const;
    ReportState state(const BookKey& key) const;
    Result<void> set_state(const BookKey& key, const ReportState& state);
    /// Forgets the days before `day`.
    Result<void> forget_before(std::string_view day);

private:
    explicit TlsrptBook(std::shared_ptr<store::Env> env) : env_(std::move(env)) {}
    std::shared_ptr<store::Env> env_;   ///< LMDB's registry of open files has the other reference
};

}  // namespace postern::tlspolicy
