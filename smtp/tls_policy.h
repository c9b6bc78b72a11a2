/// What TLS has to be for a destination: smtp_tls_security_level, smtp_tls_policy_maps (TLS_README).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/stream/tls.h"
#include "lib/table/table.h"
#include "smtp/hosts.h"
#include "smtp/next_hop.h"
#include "smtp/settings.h"

namespace postern::smtp {

enum class TlsLevel : unsigned char { none, may, encrypt, fingerprint, verify, secure };
std::optional<TlsLevel> tls_level_named(std::string_view name);

struct TlsPolicy {
    TlsLevel level = TlsLevel::none;
    std::vector<std::string> match;      ///< as configured: "nexthop", "dot-nexthop", "hostname", names; fingerprints
    std::string protocols;               ///< as smtp_tls_protocols
    std::string grade;                   ///< medium, high
    std::string exclude;                 ///< ciphers that are not wanted
    std::string server_name;             ///< for SNI; empty: none
    bool reuse = false;                  ///< connections under TLS may be kept

    bool required() const { return level >= TlsLevel::encrypt; }
    bool authenticates() const { return level >= TlsLevel::fingerprint; }
};

class TlsPolicies {
public:
    /// Opens tables and keys, before rights are given up.  `settings` outlives this.  Errors: config.
    static Result<std::unique_ptr<TlsPolicies>> create(const Settings& settings, const TableContext& tables);

    /// Errors: temporary (a table cannot answer), config (what it says makes no sense): the mail waits.
    Result<TlsPolicy> find(const NextHop& hop);
    /// For start_tls_client().
    TlsDemand demand(const TlsPolicy& policy, const NextHop& hop, const HostAddress& host) const;
    TlsContext& context() { return *context_; }
    int log_level() const { return log_level_; }

    /// "level attribute=value ..." of smtp_tls_policy_maps on top of `policy`.  Errors: config.  Public for tests.
    Result<TlsPolicy> apply_entry(TlsPolicy policy, std::string_view entry) const;

private:
    explicit TlsPolicies(const Settings& settings) : settings_(settings) {}
    Result<void> open(const TableContext& tables);
    Result<TlsPolicy> general() const;
    Result<std::optional<std::string>> look_up(const NextHop& hop);
    TlsPolicy completed(TlsPolicy policy) const;

    const Settings& settings_;
    TableList maps_;
    TlsPolicy general_;
    std::unique_ptr<TlsContext> context_;
    int log_level_ = 0;
};

}  // namespace postern::smtp
