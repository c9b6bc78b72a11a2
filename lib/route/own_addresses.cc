#include "lib/route/own_addresses.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>
#include <memory>

#include "lib/base/strings.h"
#include "lib/config/config.h"

namespace postern {
namespace {

/// The address inside a socket address; nullptr for other families.
const void* address_bytes(const sockaddr* address) {
    if (address && address->sa_family == AF_INET) {
        return &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
    }
    if (address && address->sa_family == AF_INET6) {
        return &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    }
    return nullptr;
}

}  // namespace

void OwnAddresses::add(int family, const void* bytes) {
    Network one;
    one.family = family;
    one.prefix_bits = family == AF_INET ? 32 : 128;
    std::memcpy(one.address, bytes, family == AF_INET ? 4 : 16);
    addresses_.push_back(one);
}

void OwnAddresses::add_interfaces() {
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) != 0) {
        return;
    }
    const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
    for (const ifaddrs* one = list; one; one = one->ifa_next) {
        if (const void* bytes = address_bytes(one->ifa_addr)) {
            add(one->ifa_addr->sa_family, bytes);
        }
    }
}

Result<void> OwnAddresses::add_host(std::string_view parameter, const std::string& host) {
    if (const Result<Network> address = parse_network(host); address) {
        addresses_.push_back(*address);
        return {};
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list); error != 0) {
        return Error(Errc::config, std::string(parameter) + ": host not found: " + host + ": " + gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);
    for (const addrinfo* one = list; one; one = one->ai_next) {
        if (const void* bytes = address_bytes(one->ai_addr)) {
            add(one->ai_family, bytes);
        }
    }
    return {};
}

Result<void> OwnAddresses::add_list(std::string_view parameter, std::string_view value) {
    for (const std::string& entry : split_list(value)) {
        if (equals_ignoring_case(entry, "all")) {
            add_interfaces();
            continue;
        }
        if (equals_ignoring_case(entry, "loopback-only")) {
            const in_addr_t loopback = htonl(INADDR_LOOPBACK);
            add(AF_INET, &loopback);
            add(AF_INET6, &in6addr_loopback);
            continue;
        }
        if (Result<void> added = add_host(parameter, entry); !added) {
            return added;
        }
    }
    return {};
}

Result<OwnAddresses> OwnAddresses::find(const Config& config) {
    OwnAddresses own;
    if (const Result<void> added = own.add_list("inet_interfaces", config.inet_interfaces()); !added) {
        return added.error();
    }
    if (const Result<void> added = own.add_list("proxy_interfaces", config.proxy_interfaces()); !added) {
        return added.error();
    }
    return own;
}

bool OwnAddresses::contains(std::string_view ip) const {
    unsigned char bytes[16];
    const std::string text(ip.substr(0, 64));
    const int family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
    if (inet_pton(family, text.c_str(), bytes) != 1) {
        return false;
    }
    for (const Network& one : addresses_) {
        if (one.contains(family, bytes)) {
            return true;
        }
    }
    return false;
}

bool OwnAddresses::contains_literal(std::string_view literal) const {
    if (literal.size() < 3 || literal.front() != '[' || literal.back() != ']') {
        return false;
    }
    std::string_view ip = literal.substr(1, literal.size() - 2);
    if (starts_with_ignoring_case(ip, "IPv6:")) {
        ip.remove_prefix(5);
    }
    return contains(ip);
}

}  // namespace postern
