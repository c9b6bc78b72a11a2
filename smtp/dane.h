/// TLS by DANE (RFC 7672): what the TLSA records of a host ask for.
#pragma once

#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/dns/dns.h"
#include "smtp/failure.h"
#include "smtp/hosts.h"
#include "smtp/next_hop.h"
#include "smtp/settings.h"
#include "smtp/tls_policy.h"

namespace postern::smtp {

/// What a destination's policy comes to for one of its hosts.
struct HostPolicy {
    TlsPolicy policy;
    Failure failure{};                 ///< not empty: the host cannot be used now
    std::vector<std::string> found{};  ///< for people: records, usable or not, and why there are none
};

class DaneFinder {
public:
    /// All outlive the finder.
    DaneFinder(const Settings& settings, Dns& dns, TlsPolicies& policies);

    /// For a level of DANE (TlsPolicy::is_dane()):
    /// - usable records: level dane, dane-only or half_dane, with records, names and SNI;
    /// - unusable ones alone: encrypt (section 2.2);
    /// - securely none, or a host that is not secure: dane comes to may, dane-only to a failure;
    /// - records that cannot be looked up: a failure, never less security (section 2.1.1).
    /// Any other policy comes back as it is.
    Task<HostPolicy> find(TlsPolicy policy, NextHop hop, HostAddress host);

private:
    struct Records {
        std::vector<TlsaRecord> usable;
        bool any = false;              ///< there are records, usable or not
        bool failed = false;
        std::string base_domain;
    };
    Task<Records> records_of(const HostAddress& host, std::vector<std::string>& found);
    Task<Records> look_up(std::string name, std::uint16_t port, std::vector<std::string>& found);
    Task<Result<bool>> alias_is_secure(std::string name);
    HostPolicy without(TlsPolicy policy, TlsLevel instead, std::string why) const;
    HostPolicy misconfigured(TlsPolicy policy, const NextHop& hop, const std::string& why) const;
    std::string obstacle() const;

    const Settings& settings_;
    Dns& dns_;
    TlsPolicies& policies_;
};

}  // namespace postern::smtp
