#include "lib/config/computed.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "lib/base/strings.h"

namespace postern {
namespace {

/// An address with the length of its network's prefix.
struct Network {
    int family = AF_INET;
    unsigned char bytes[16] = {};
    unsigned prefix = 0;
};

std::size_t size_of(int family) { return family == AF_INET ? 4 : 16; }

unsigned prefix_length(const unsigned char* mask, std::size_t size) {
    unsigned bits = 0;
    for (std::size_t i = 0; i < size * 8 && (mask[i / 8] >> (7 - i % 8) & 1) != 0; ++i) {
        ++bits;
    }
    return bits;
}

const unsigned char* address_bytes(const sockaddr* address) {
    return address->sa_family == AF_INET
               ? reinterpret_cast<const unsigned char*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
               : reinterpret_cast<const unsigned char*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

/// The prefix of the address's historic class (A, B, C); IPv6 has none and counts as its subnet.
unsigned class_prefix(const Network& network) {
    if (network.family == AF_INET6) {
        return network.prefix;
    }
    const unsigned char first = network.bytes[0];
    return first < 128 ? 8 : (first < 192 ? 16 : 24);
}

std::string to_text(Network network) {
    const std::size_t size = size_of(network.family);
    for (std::size_t bit = network.prefix; bit < size * 8; ++bit) {
        network.bytes[bit / 8] = static_cast<unsigned char>(network.bytes[bit / 8] & ~(0x80 >> (bit % 8)));
    }
    char text[INET6_ADDRSTRLEN] = "";
    ::inet_ntop(network.family, network.bytes, text, sizeof(text));
    return network.family == AF_INET ? fmt::format("{}/{}", text, network.prefix)
                                     : fmt::format("[{}]/{}", text, network.prefix);
}

bool wanted(const Network& network, const ifaddrs& interface, const std::vector<std::string>& interfaces) {
    char text[INET6_ADDRSTRLEN] = "";
    ::inet_ntop(network.family, network.bytes, text, sizeof(text));
    for (const std::string& word : interfaces) {
        if (equals_ignoring_case(word, "all") || trim(word) == text || word == "[" + std::string(text) + "]") {
            return true;
        }
        const bool loopback_word = equals_ignoring_case(word, "loopback-only") || equals_ignoring_case(word, "localhost");
        if (loopback_word && (interface.ifa_flags & IFF_LOOPBACK) != 0) {
            return true;
        }
    }
    return false;
}

std::vector<Network> own_networks(const std::vector<std::string>& interfaces, bool ipv4, bool ipv6) {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) {
        return {};
    }
    const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, ::freeifaddrs);
    std::vector<Network> networks;
    for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
        const int family = one->ifa_addr == nullptr ? AF_UNSPEC : one->ifa_addr->sa_family;
        const bool usable = (family == AF_INET && ipv4) || (family == AF_INET6 && ipv6);
        if (!usable || (one->ifa_flags & IFF_UP) == 0 || one->ifa_netmask == nullptr) {
            continue;
        }
        Network network;
        network.family = family;
        std::memcpy(network.bytes, address_bytes(one->ifa_addr), size_of(family));
        network.prefix = prefix_length(address_bytes(one->ifa_netmask), size_of(family));
        if (wanted(network, *one, interfaces)) {
            networks.push_back(network);
        }
    }
    return networks;
}

}  // namespace

std::string default_myhostname(std::string_view domain) {
    char name[256] = "";
    if (::gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') {
        std::strcpy(name, "localhost");
    }
    if (std::strchr(name, '.') != nullptr) {
        return name;
    }
    return fmt::format("{}.{}", name, domain.empty() ? std::string_view("localdomain") : domain);
}

std::string default_mydomain(std::string_view hostname) {
    const std::size_t dot = hostname.find('.');
    return dot == std::string_view::npos || dot + 1 == hostname.size() ? "localdomain" : std::string(hostname.substr(dot + 1));
}

std::string default_mynetworks(std::string_view style, std::string_view inet_interfaces, std::string_view inet_protocols) {
    const std::vector<std::string> interfaces = split(inet_interfaces, ", \t\r\n");
    bool ipv4 = false;
    bool ipv6 = false;
    for (const std::string& word : split(inet_protocols, ", \t\r\n")) {
        ipv4 = ipv4 || equals_ignoring_case(word, "all") || equals_ignoring_case(word, "ipv4");
        ipv6 = ipv6 || equals_ignoring_case(word, "all") || equals_ignoring_case(word, "ipv6");
    }
    std::string text;
    std::vector<std::string> seen;
    for (Network network : own_networks(interfaces, ipv4, ipv6)) {
        if (equals_ignoring_case(style, "host")) {
            network.prefix = static_cast<unsigned>(size_of(network.family) * 8);
        } else if (equals_ignoring_case(style, "class")) {
            network.prefix = class_prefix(network);
        }
        const std::string one = to_text(network);
        bool known = false;
        for (const std::string& before : seen) {
            known = known || before == one;
        }
        if (!known) {
            seen.push_back(one);
            text += text.empty() ? one : " " + one;
        }
    }
    return text;
}

}  // namespace postern
