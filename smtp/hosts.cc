#include "smtp/hosts.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"

namespace postern::smtp {
namespace {

constexpr Millis kPatience = std::chrono::seconds(60);
constexpr std::size_t kMaxHosts = 100;

Failure name_service(std::string dsn, std::string_view name, std::string_view type, std::string_view why) {
    return {std::move(dsn), fmt::format("Host or domain name not found. Name service error for name={} type={}: {}",
                                        printable(name, 255), type, why)};
}

std::string_view absent(const DnsAnswer& answer) {
    return answer.nxdomain ? "Host not found" : "Host found but no data record of requested type";
}

bool wants(std::string_view protocols, std::string_view name) {
    for (const std::string& word : split(protocols, ", \t")) {
        if (word == "all" || word == name) {
            return true;
        }
    }
    return false;
}

/// Resolvers do not agree on what an address looks like as text: "::1" has many spellings.
std::string bare(std::string name) {
    if (!name.empty() && name.back() == '.') {
        name.pop_back();
    }
    return name;
}

}  // namespace

HostFinder::HostFinder(const Settings& settings, Dns& dns, const SelfTest& self)
    : settings_(settings), dns_(dns), self_(self), random_(std::random_device()()) {
    const std::string& protocols = settings.config().inet_protocols();
    use_ipv4_ = wants(protocols, "ipv4");
    use_ipv6_ = wants(protocols, "ipv6");
}

Task<HostList> HostFinder::find(const NextHop& hop) {
    const std::string& level = settings_.dns_support_level();
    const bool disabled = level == "disabled" || (level.empty() && settings_.config().disable_dns_lookups());
    if (hop.literal_host || settings_.lmtp() || disabled) {
        co_return co_await find_host(hop, hop.domain);
    }
    co_return co_await find_by_mx(hop);
}

/// Without MX: the host's own addresses.
Task<HostList> HostFinder::find_host(const NextHop& hop, std::string host) {
    Found found = co_await addresses_of(host, hop.port, 0);
    HostList out;
    out.addresses = std::move(found.addresses);
    out.failure = std::move(found.failure);
    const bool self = loop_test(hop) && std::any_of(out.addresses.begin(), out.addresses.end(),
                                                    [&](const HostAddress& one) { return self_.is_self(one.address); });
    if (self) {
        out.addresses.clear();
        out.loops = true;
        out.failure = {"5.4.6", fmt::format("mail for {} loops back to myself", host)};
    }
    order(out.addresses);
    balance(out.addresses);
    co_return out;
}

Task<HostList> HostFinder::find_by_mx(const NextHop& hop) {
    HostList out;
    const std::string& domain = hop.domain;
    Result<DnsAnswer> answer = co_await dns_.query(domain, DnsType::mx, kPatience);
    if (!answer) {
        if (settings_.config().ignore_mx_lookup_error()) {
            co_return co_await find_host(hop, domain);
        }
        out.failure = name_service("4.4.3", domain, "MX", "Host not found, try again");
        co_return out;
    }
    std::vector<DnsAnswer::Record>& records = answer->records;
    if (records.empty()) {
        co_return co_await find_host(hop, domain);   // RFC 5321 section 5.1: the implicit MX
    }
    if (records.size() == 1 && bare(records[0].text).empty()) {   // RFC 7505
        out.failure = {"5.1.10", fmt::format("Domain {} does not accept mail (nullMX)", domain)};
        co_return out;
    }
    std::stable_sort(records.begin(), records.end(),
                     [](const auto& a, const auto& b) { return a.preference < b.preference; });
    records.resize(std::min(records.size(), kMaxHosts));
    const std::uint16_t best = records.front().preference;
    Failure soft;
    for (const DnsAnswer::Record& record : records) {
        Found found = co_await addresses_of(bare(record.text), hop.port, record.preference);
        for (HostAddress& one : found.addresses) {
            one.by_mx = true;
            one.mx_secure = answer->secure;
            one.mx_canonical = answer->canonical;
            out.addresses.push_back(std::move(one));
        }
        if (found.addresses.empty() && (soft.dsn.empty() || soft.hard())) {
            soft = std::move(found.failure);   // one host that may be known later keeps the mail from bouncing
        }
    }
    if (out.addresses.empty()) {
        out.failure = std::move(soft);
        if (settings_.defer_if_no_mx_address_found()) {
            out.failure.soften();
        }
        log_warning("no MX host for {} has a valid address record", domain);
        co_return out;
    }
    if (loop_test(hop)) {
        std::uint32_t self = 0x10000;
        for (const HostAddress& one : out.addresses) {
            if (one.preference < self && self_.is_self(one.address)) {
                self = one.preference;
            }
        }
        const std::uint16_t best_found = out.addresses.front().preference;
        if (self < 0x10000) {
            out.backup_mx = true;
            std::erase_if(out.addresses, [self](const HostAddress& one) { return one.preference >= self; });
        }
        if (out.addresses.empty() && best != best_found) {
            out.failure = {"4.4.4", fmt::format("unable to find primary relay for {}", domain)};
            co_return out;
        }
        if (out.addresses.empty()) {
            out.loops = true;
            out.failure = {"5.4.6", fmt::format("mail for {} loops back to myself", domain)};
            co_return out;
        }
    }
    order(out.addresses);
    balance(out.addresses);
    co_return out;
}

/// A and AAAA, or what /etc/hosts has (smtp_host_lookup).
Task<HostFinder::Found> HostFinder::addresses_of(std::string host, std::uint16_t port, std::uint16_t preference) {
    Found out;
    if (valid_ip_address(host)) {
        HostAddress one{host, host, port, preference};
        out.addresses.push_back(std::move(one));
        co_return out;
    }
    struct Kind {
        bool use;
        DnsType type;
        std::string_view name;
    };
    const Kind kinds[] = {{use_ipv4_, DnsType::a, "A"}, {use_ipv6_, DnsType::aaaa, "AAAA"}};
    for (const Kind& kind : kinds) {
        if (!kind.use) {
            continue;
        }
        Result<DnsAnswer> answer = co_await dns_.query(host, kind.type, kPatience);
        if (!answer) {
            out.failure = name_service("4.4.3", host, kind.name, "Host not found, try again");
            continue;
        }
        for (const DnsAnswer::Record& record : answer->records) {
            if (out.addresses.size() >= kMaxAddresses) {
                break;
            }
            HostAddress one{host, record.text, port, preference};
            one.address_secure = answer->secure;
            one.aliased = !answer->canonical.empty() && !equals_ignoring_case(answer->canonical, host);
            if (one.aliased && one.address_secure) {   // a name that can be believed counts in policies and in the log
                one.alias = std::exchange(one.host, answer->canonical);
            }
            out.addresses.push_back(std::move(one));
        }
        if (answer->records.empty() && (out.failure.dsn.empty() || out.failure.hard())) {
            out.failure = name_service("5.4.4", host, kind.name, absent(*answer));
        }
    }
    co_return out;
}

/// smtp_randomize_addresses and smtp_address_preference among equal preferences.
void HostFinder::order(std::vector<HostAddress>& addresses) {
    if (settings_.randomize_addresses()) {
        std::shuffle(addresses.begin(), addresses.end(), random_);
    }
    const std::string& first = settings_.address_preference();
    const auto rank = [&](const HostAddress& one) {
        return first == "any" || first.empty() ? 0 : (one.is_ipv6() == (first == "ipv6") ? 0 : 1);
    };
    std::stable_sort(addresses.begin(), addresses.end(), [&](const HostAddress& a, const HostAddress& b) {
        return a.preference != b.preference ? a.preference < b.preference : rank(a) < rank(b);
    });
}

/// smtp_balance_inet_protocols: when all the addresses that would be tried are of one protocol, the last of them
/// gives its place to the best one of the other.
void HostFinder::balance(std::vector<HostAddress>& addresses) const {
    const auto limit = static_cast<std::size_t>(settings_.mx_address_limit());
    if (!settings_.balance_inet_protocols() || limit < 2 || addresses.size() <= limit) {
        return;
    }
    const auto tried_end = addresses.begin() + static_cast<std::ptrdiff_t>(limit);
    const bool ipv6 = addresses.front().is_ipv6();
    const auto other = std::find_if(addresses.begin(), addresses.end(),
                                    [ipv6](const HostAddress& one) { return one.is_ipv6() != ipv6; });
    if (other != addresses.end() && other >= tried_end) {
        std::rotate(tried_end - 1, other, other + 1);
    }
}

}  // namespace postern::smtp
