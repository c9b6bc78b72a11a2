#include "smtp/hosts.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/inet_protocols.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "smtp/srv.h"

namespace postern::smtp {
namespace {

constexpr Millis kPatience = std::chrono::seconds(60);
constexpr std::size_t kMaxHosts = 100;

Failure name_service(std::string dsn, std::string_view name, std::string_view type, std::string_view why) {
    return {std::move(dsn), fmt::format("Host or domain name not found. Name service error for name={} type={}: {}",
                                        printable(name, 255), type, why)};
}

Failure lookup_failed(std::string_view name, DnsType type, const Error& error) {
    if (error.code == Errc::config) {
        return {"4.4.3", error.what};   // a filter's trouble
    }
    return name_service("4.4.3", name, dns_type_name(type), "Host not found, try again");
}

/// smtp_dns_reply_filter has taken every record.
Failure filtered_out(std::string_view name, DnsType type) {
    return {"4.7.0", fmt::format("Error looking up name={} type={}: DNS reply filter drops all results", printable(name, 255), dns_type_name(type))};
}

std::string_view absent(const DnsAnswer& answer) {
    return answer.nxdomain ? "Host not found" : "Host found but no data record of requested type";
}

/// Resolvers do not agree on what an address looks like as text: "::1" has many spellings.
std::string bare(std::string name) {
    if (!name.empty() && name.back() == '.') {
        name.pop_back();
    }
    return name;
}

}  // namespace

HostFinder::HostFinder(const Settings& settings, Dns& dns, const SelfTest& self, MatchList srv_services)
    : settings_(settings), dns_(dns), self_(self), srv_services_(std::move(srv_services)), random_(std::random_device()()) {
    const InetProtocols protocols = InetProtocols::parse(settings.config().inet_protocols());
    use_ipv4_ = protocols.ipv4;
    use_ipv6_ = protocols.ipv6;
}

Task<HostList> HostFinder::find(const NextHop& hop) {
    if (hop.literal_host || settings_.dns_disabled()) {
        co_return co_await find_host(hop, hop.domain);
    }
    if (!srv_services_.empty()) {
        Result<bool> by_srv = srv_services_.matches(hop.service);
        if (!by_srv) {
            log_warning("{}", by_srv.error().what);
            HostList out;
            out.failure = {"4.3.0", "use_srv_lookup table lookup failure"};
            co_return out;
        }
        if (*by_srv) {
            co_return co_await find_by_srv(hop);
        }
    }
    co_return co_await find_without_srv(hop);
}

Task<HostList> HostFinder::find_without_srv(const NextHop& hop) {
    if (settings_.lmtp()) {
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

Task<HostFinder::Records> HostFinder::records_of(std::string name, DnsType type) {
    Records out;
    Result<DnsAnswer> answer = co_await dns_.query(name, type, kPatience);
    if (!answer) {
        out.unknown = true;
        out.failure = lookup_failed(name, type, answer.error());
        co_return out;
    }
    out.answer = std::move(*answer);
    std::vector<DnsAnswer::Record>& records = out.answer.records;
    if (out.answer.filtered) {
        out.failure = filtered_out(name, type);
    } else if (records.empty()) {
        out.missing = true;
        out.failure = name_service("5.4.4", name, dns_type_name(type), absent(out.answer));
    } else if (records.size() == 1 && bare(records[0].text).empty()) {
        out.failure = type == DnsType::mx ? Failure{"5.1.10", fmt::format("Domain {} does not accept mail (nullMX)", name)}   // RFC 7505
                                          : Failure{"5.1.0", fmt::format("Domain {} does not support SRV requests", name)};   // RFC 2782
    }
    co_return out;
}

/// What MX or SRV records name, in their order.  `port` is 0 for that of an SRV record.
Task<HostFinder::Found> HostFinder::addresses_of_all(DnsAnswer answer, std::uint16_t port) {
    Found out;
    answer.records.resize(std::min(answer.records.size(), kMaxHosts));
    for (const DnsAnswer::Record& record : answer.records) {
        const std::uint16_t here = port == 0 ? record.port : port;
        Found found = co_await addresses_of(bare(record.text), here, record.preference);
        for (HostAddress& one : found.addresses) {
            one.by_mx = true;
            one.mx_secure = answer.secure;
            one.mx_canonical = answer.canonical;
            out.addresses.push_back(std::move(one));
        }
        if (found.addresses.empty() && (out.failure.dsn.empty() || out.failure.hard())) {
            out.failure = std::move(found.failure);   // one host that may be known later keeps the mail from bouncing
        }
    }
    co_return out;
}

/// Leaves the hosts that are better than this one, where that is among them.  `best` is the best preference of all records, of which
/// some may have no address.
void HostFinder::cut_self(HostList& list, const std::string& name, std::uint16_t best) const {
    std::uint32_t self = 0x10000;
    for (const HostAddress& one : list.addresses) {
        if (one.preference < self && self_.is_self(one.address)) {
            self = one.preference;
        }
    }
    if (self == 0x10000) {
        return;
    }
    const std::uint16_t best_found = list.addresses.front().preference;
    list.backup_mx = true;
    std::erase_if(list.addresses, [self](const HostAddress& one) { return one.preference >= self; });
    if (list.addresses.empty() && best != best_found) {
        list.failure = {"4.4.4", fmt::format("unable to find primary relay for {}", name)};
    } else if (list.addresses.empty()) {
        list.loops = true;
        list.failure = {"5.4.6", fmt::format("mail for {} loops back to myself", name)};
    }
}

Task<HostList> HostFinder::find_by_mx(const NextHop& hop) {
    HostList out;
    Records found = co_await records_of(hop.domain, DnsType::mx);
    if (found.missing || (found.unknown && settings_.config().ignore_mx_lookup_error())) {
        co_return co_await find_host(hop, hop.domain);   // RFC 5321 section 5.1: the implicit MX
    }
    if (!found.failure.dsn.empty()) {
        out.failure = std::move(found.failure);
        co_return out;
    }
    std::stable_sort(found.answer.records.begin(), found.answer.records.end(),
                     [](const auto& a, const auto& b) { return a.preference < b.preference; });
    const std::uint16_t best = found.answer.records.front().preference;
    Found hosts = co_await addresses_of_all(std::move(found.answer), hop.port);
    out.addresses = std::move(hosts.addresses);
    if (out.addresses.empty()) {
        out.failure = std::move(hosts.failure);
        if (settings_.defer_if_no_mx_address_found()) {
            out.failure.soften();
        }
        log_warning("no MX host for {} has a valid address record", hop.domain);
        co_return out;
    }
    if (loop_test(hop)) {
        cut_self(out, hop.domain, best);
    }
    order(out.addresses);
    balance(out.addresses);
    co_return out;
}

/// The order is the records': neither shuffled nor sorted by protocol.
Task<HostList> HostFinder::find_by_srv(const NextHop& hop) {
    HostList out;
    const std::string name = srv_name(hop.service, hop.domain);
    Records found = co_await records_of(name, DnsType::srv);
    bool fall_back = settings_.config().allow_srv_lookup_fallback() || (found.unknown && settings_.config().ignore_srv_lookup_error());
    if (found.failure.dsn.empty()) {
        order_srv(found.answer.records, random_);
        const std::uint16_t best = found.answer.records.front().preference;
        Found hosts = co_await addresses_of_all(std::move(found.answer), 0);
        out.addresses = std::move(hosts.addresses);
        if (out.addresses.empty()) {
            log_warning("no SRV host for {} has a valid address record", name);
            out.failure = std::move(hosts.failure);
        } else if (loop_test(hop)) {
            cut_self(out, name, best);
        }
    } else {
        out.failure = std::move(found.failure);
    }
    fall_back = fall_back && out.addresses.empty();
    if (fall_back) {
        log_info("skipping SRV lookup for {}: {}", name, out.failure.text);
        co_return co_await find_without_srv(hop);
    }
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
    const std::pair<bool, DnsType> types[] = {{use_ipv4_, DnsType::a}, {use_ipv6_, DnsType::aaaa}};
    for (const auto& [use, type] : types) {
        if (!use) {
            continue;
        }
        Result<DnsAnswer> answer = co_await dns_.query(host, type, kPatience);
        if (!answer) {
            out.failure = lookup_failed(host, type, answer.error());
            continue;
        }
        for (const DnsAnswer::Record& record : answer->records) {
            if (out.addresses.size() >= kMaxAddresses) {
                break;
            }
            HostAddress one{host, record.text, port, preference};
            one.address_secure = answer->secure;
            one.aliased = !answer->canonical.empty() && !equals_ignoring_case(answer->canonical, host);
            // A name that can be believed counts in policies and in the log.
            if (one.aliased && (one.address_secure || settings_.cname_overrides_servername())) {
                one.alias = std::exchange(one.host, answer->canonical);
            }
            out.addresses.push_back(std::move(one));
        }
        if (answer->records.empty() && (out.failure.dsn.empty() || out.failure.hard())) {
            out.failure = answer->filtered ? filtered_out(host, type) : name_service("5.4.4", host, dns_type_name(type), absent(*answer));
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
