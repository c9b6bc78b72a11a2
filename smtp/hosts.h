/// From a next hop to the addresses that are tried, in order (RFC 5321 section 5.1, RFC 7505, RFC 2782).
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/dns/dns.h"
#include "lib/table/match_list.h"
#include "smtp/failure.h"
#include "smtp/next_hop.h"
#include "smtp/settings.h"

namespace postern::smtp {

/// One address of one host.
struct HostAddress {
    std::string host;                ///< name of the MX host, or the destination's own; an address when that was given
    std::string address;             ///< "192.0.2.1", "2001:db8::1"; the path of a Unix socket
    std::uint16_t port = 0;          ///< 0: a Unix socket
    std::uint16_t preference = 0;    ///< the MX record's; an SRV record's priority
    bool by_mx = false;              ///< an MX or SRV record names the host
    bool mx_secure = true;           ///< that record was validated by DNSSEC, or there is none
    bool address_secure = false;     ///< the address was, with all CNAME records on the way
    bool aliased = false;            ///< there were CNAME records
    std::string alias{};             ///< where these were validated, or smtp_cname_overrides_servername says so, `host` is what
                                     ///< they lead to and this what was asked for
    std::string mx_canonical{};      ///< the same for the domain whose MX record it is

    /// The name in the MX record or the next hop, whatever it is an alias of.
    const std::string& given_name() const { return alias.empty() ? host : alias; }
    bool is_unix() const { return port == 0; }
    bool is_ipv6() const { return port != 0 && address.find(':') != std::string::npos; }
    /// "mail.example.com[192.0.2.1]", as in log lines.
    std::string name_and_address() const { return host + "[" + address + "]"; }
    /// With ":25"; a Unix socket has no port.
    std::string with_port() const { return is_unix() ? name_and_address() : name_and_address() + ":" + std::to_string(port); }
};

struct HostList {
    std::vector<HostAddress> addresses;   ///< best first; empty: `failure` says why
    Failure failure;
    bool backup_mx = false;      ///< this host is an MX host of the domain: fallback relays are not asked
    bool loops = false;          ///< mail for it would come back to us
};

/// Which addresses are this host.
class SelfTest {
public:
    virtual ~SelfTest() = default;
    virtual bool is_self(const std::string& address) const = 0;
};

class HostFinder {
public:
    /// References outlive the finder.  `srv_services` is use_srv_lookup.
    HostFinder(const Settings& settings, Dns& dns, const SelfTest& self, MatchList srv_services);

    /// Never more than kMaxAddresses.  Loops are looked for on port 25 only, as in Postfix.
    Task<HostList> find(const NextHop& hop);

    static constexpr std::size_t kMaxAddresses = 1000;

private:
    struct Found {
        std::vector<HostAddress> addresses;
        Failure failure;
    };
    /// The records of a lookup, when there are some to go on with; otherwise why not.
    struct Records {
        DnsAnswer answer;
        Failure failure;             ///< without `dsn`: none
        bool unknown = false;        ///< the name servers failed
        bool missing = false;        ///< there are no such records
    };
    Task<HostList> find_by_mx(const NextHop& hop);
    Task<HostList> find_by_srv(const NextHop& hop);
    Task<HostList> find_without_srv(const NextHop& hop);
    Task<Records> records_of(std::string name, DnsType type);
    Task<Found> addresses_of_all(DnsAnswer answer, std::uint16_t port);
    Task<Found> addresses_of(std::string host, std::uint16_t port, std::uint16_t preference);
    void cut_self(HostList& list, const std::string& name, std::uint16_t best) const;
    Task<HostList> find_host(const NextHop& hop, std::string host);
    void order(std::vector<HostAddress>& addresses);
    void balance(std::vector<HostAddress>& addresses) const;
    bool loop_test(const NextHop& hop) const { return hop.port == 25 && !settings_.lmtp(); }

    const Settings& settings_;
    Dns& dns_;
    const SelfTest& self_;
    MatchList srv_services_;
    bool use_ipv4_ = true, use_ipv6_ = true;
    std::mt19937 random_;
};

}  // namespace postern::smtp
