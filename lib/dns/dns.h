/// DNS lookups on the event loop, by libunbound.
///
/// Made before a process gives up its rights: /etc/resolv.conf and /etc/hosts are read then.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/dns/ascii_name.h"

namespace postern {

enum class DnsType : std::uint16_t { a = 1, ns = 2, cname = 5, ptr = 12, mx = 15, txt = 16, aaaa = 28, srv = 33, tlsa = 52 };
/// "MX", as zone files have it.
std::string_view dns_type_name(DnsType type);

/// What a lookup found.  Names come without the final dot.
struct DnsAnswer {
    bool nxdomain = false;              ///< the name does not exist
    bool secure = false;                ///< validated by DNSSEC
    std::string canonical{};            ///< the name at the end of the CNAME records; empty: there were none
    struct Record {
        std::string text;               ///< address, name, text strings joined; TLSA: the data as it is (lib/dns/tlsa.h)
        std::uint16_t preference = 0;   ///< MX; of SRV the priority
        std::uint16_t weight = 0;       ///< SRV (RFC 2782)
        std::uint16_t port = 0;         ///< SRV
    };
    std::vector<Record> records;        ///< empty with nxdomain false: the name has no such record
    std::uint32_t ttl = 0;              ///< seconds for which the answer holds
    bool from_hosts_file = false;       ///< it is not a name server's
    bool filtered = false;              ///< there were records, and a filter took them all (lib/dns/reply_filter.h)
};

/// When /etc/hosts is asked for addresses and for names of addresses.
enum class HostsUse : std::uint8_t {
    first,   ///< before the name servers, as most programs of a system do
    last,    ///< for what the name servers do not have
    never,
};

struct DnsOptions {
    std::string server{};                  ///< "192.0.2.1" or "192.0.2.1@5353"; empty: those of /etc/resolv.conf
    /// Answers are validated from these on (lib/dns/trust_anchor.h): `secure` then says whether they are signed, and those with
    /// bad signatures are failures.  Without anchors nothing is secure.
    std::vector<std::string> anchors{};
    HostsUse hosts = HostsUse::first;
    std::string hosts_file = "/etc/hosts";
    /// Its name servers, and how long to wait for them: no lookup takes longer than it says (lib/dns/resolv_conf.h).
    std::string resolv_conf = "/etc/resolv.conf";
    IdnaRules idna = IdnaRules::current;   ///< of names in UTF-8
};

class Dns {
public:
    /// Errors: config (the library does not start, or does not take the server or an anchor).
    static Result<std::unique_ptr<Dns>> create(const DnsOptions& options = {});
    virtual ~Dns() = default;

    /// `name` may be in UTF-8 (lib/dns/ascii_name.h).
    /// Errors: temporary (SERVFAIL, refused), timeout; config (lib/dns/reply_filter.h).  "Does not exist" is an answer.
    virtual Task<Result<DnsAnswer>> query(std::string name, DnsType type, Millis timeout) = 0;
};

/// The name to ask PTR for: "1.2.0.192.in-addr.arpa", or nibbles under ip6.arpa.  Empty for what is no address.
std::string reverse_name(std::string_view address);
/// The reversed address alone, as DNS lists want it ("1.2.0.192", or nibbles).
std::string reversed_labels(std::string_view address);

/// A client's name (RFC 1912 section 2.1): the PTR name, and whether that name resolves back to the address.
struct HostName {
    std::string verified = "unknown";   ///< "unknown" when there is none, or it does not resolve back
    std::string reverse = "unknown";    ///< the PTR name, when it is a valid host name
    bool temporary = false;             ///< DNS did not answer: it may be known later
    bool forged = false;                ///< the PTR name does not resolve back
    std::string problem;                ///< why `reverse` could not be looked up, when that is so
};
Task<HostName> host_name_of(Dns& dns, std::string address);

}  // namespace postern
