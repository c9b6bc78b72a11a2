/// What TLS has to be for a destination: smtp_tls_security_level, smtp_tls_policy_maps (TLS_README).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/mta_sts/messages.h"
#include "lib/stream/tls.h"
#include "lib/table/table.h"
#include "lib/tls/log_level.h"
#include "smtp/hosts.h"
#include "smtp/next_hop.h"
#include "smtp/settings.h"

namespace postern::smtp {

/// In the order of what they ask for, as in Postfix.  half_dane is dane behind an MX record that anybody may have forged; it is
/// found for a host (smtp/dane.h), never configured.
enum class TlsLevel : unsigned char { none, may, encrypt, fingerprint, half_dane, dane, dane_only, verify, secure };
std::optional<TlsLevel> tls_level_named(std::string_view name);
std::string_view tls_level_name(TlsLevel level);

/// What MTA-STS (RFC 8461) says about a destination; from mta-sts(8), or from a table that a policy plug-in fills.
struct StsRule {
    bool found = false;                  ///< there is a policy; false: only `problem` counts
    StsMode mode = StsMode::none;
    std::string domain;                  ///< the policy domain
    std::vector<std::string> patterns;   ///< of MX hosts
    std::vector<std::string> lines;      ///< the policy as written, for reports
    StsProblem problem = StsProblem::none;
    std::string problem_text;

    /// Section 4.1.  Without a policy every host will do.
    bool allows(std::string_view host) const;
};

struct TlsPolicy {
    TlsLevel level = TlsLevel::none;
    std::vector<std::string> match;      ///< as configured: "nexthop", "dot-nexthop", "hostname", names; fingerprints
    std::vector<TlsaRecord> tlsa;        ///< what alone is trusted: the host's TLSA records, or the files of trust anchors
    std::string protocols;               ///< as smtp_tls_protocols
    std::string grade;                   ///< medium, high
    std::string exclude;                 ///< ciphers that are not wanted
    std::string server_name;             ///< for SNI; empty: none
    bool reuse = false;                  ///< connections under TLS may be kept
    bool from_table = false;             ///< smtp_tls_policy_maps has an entry for the destination
    std::shared_ptr<const StsRule> sts{};   ///< null: none; copies of the policy share it
    std::shared_ptr<const TlsPolicy> without_dane{};   ///< level dane: what holds for a host without TLSA records; null: may

    bool required() const { return level >= TlsLevel::encrypt; }
    bool authenticates() const { return level >= TlsLevel::fingerprint; }
    /// Its meaning depends on the host's TLSA records.
    bool is_dane() const { return level >= TlsLevel::half_dane && level <= TlsLevel::dane_only; }
    /// The same for policies that ask for the same, and only for them: connections are kept by it.
    std::string signature() const;
};

/// An attribute of smtp_tls_policy_maps with which a policy plug-in describes an MTA-STS policy (Postfix's TLS_README):
/// policy_type, policy_domain, policy_ttl, policy_string, policy_failure, mx_host_pattern.  False for others and for bad values.
bool take_sts_attribute(StsRule& rule, std::string_view name, const std::string& value);

class TlsPolicies {
public:
    /// Opens tables and keys, before rights are given up.  `settings` outlives this.  Errors: config.
    static Result<std::unique_ptr<TlsPolicies>> create(const Settings& settings, const TableContext& tables);

    /// Errors: temporary (a table cannot answer), config (what it says makes no sense): the mail waits.
    Result<TlsPolicy> find(const NextHop& hop);
    /// `policy` for a level that was found later than by find(): protocols and ciphers that go with it.
    TlsPolicy completed(TlsPolicy policy) const;
    /// The same with level may at most: nothing is demanded of the server.
    TlsPolicy opportunistic(TlsPolicy policy) const;
    const std::vector<DaneDigest>& dane_digests() const { return dane_digests_; }
    /// For start_tls_client().
    TlsDemand demand(const TlsPolicy& policy, const NextHop& hop, const HostAddress& host) const;
    TlsContext& context(const TlsPolicy& policy) { return policy.sts && sts_context_ ? *sts_context_ : *context_; }
    /// smtp_tls_loglevel_maps for the server's name, its address, or the next hop; else smtp_tls_loglevel.
    int log_level(const HostAddress& host, const NextHop& hop) { return log_level_.of({host.host, host.address, hop.domain}); }

    /// Whether mta-sts(8) is to be asked about `hop`, for which find() gave `policy`: not where a table or brackets around
    /// the host have decided.  With level dane it has a say for hosts without TLSA records (RFC 8461 section 2).
    bool wants_sts(const NextHop& hop, const TlsPolicy& policy) const;
    /// What becomes of `policy`, which wants_sts(), under the domain's own (RFC 8461 sections 4 and 5).
    TlsPolicy under_sts(TlsPolicy policy, const std::string& domain, StsAnswer answer) const;
    /// Whether the policy keeps mail from the MX host; yields the reason.
    std::optional<std::string> forbids(const TlsPolicy& policy, const HostAddress& host) const;

    /// "level attribute=value ..." of smtp_tls_policy_maps on top of `policy`.  Errors: config.  Public for tests.
    Result<TlsPolicy> apply_entry(TlsPolicy policy, std::string_view entry) const;

private:
    explicit TlsPolicies(const Settings& settings) : settings_(settings) {}
    Result<void> open(const TableContext& tables);
    Result<TlsPolicy> general() const;
    Result<void> check_words() const;
    Result<void> read_trust_anchors();
    Result<std::vector<TlsaRecord>> trust_anchors(const std::string& file) const;
    Result<std::optional<std::string>> look_up(const NextHop& hop);
    Result<void> open_contexts();
    TlsPolicy plain_under_sts(TlsPolicy policy, const std::string& domain, StsAnswer answer) const;
    void adopt_sts_attributes(TlsPolicy& policy, StsRule sts) const;
    bool sts_enabled() const;
    Result<void> apply_attribute(TlsPolicy& policy, const std::string& name, const std::string& value) const;

    const Settings& settings_;
    TableList maps_;
    TlsPolicy general_;
    std::map<std::string, std::vector<TlsaRecord>> trust_anchors_;   ///< by file
    std::vector<DaneDigest> dane_digests_;
    std::unique_ptr<TlsContext> context_;
    std::unique_ptr<TlsContext> sts_context_;   ///< with the system's authorities; null when context_ has enough of its own
    TlsLogLevel log_level_;
};

}  // namespace postern::smtp
