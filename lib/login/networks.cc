#include "lib/login/networks.h"

#include <arpa/inet.h>

#include <array>
#include <cstdint>
#include <optional>

#include "lib/base/strings.h"

namespace postern {

namespace {

struct Address {
    std::array<unsigned char, 16> bytes{};
    unsigned bits = 0;   ///< 32 or 128
};

std::optional<Address> parse_address(std::string_view text) {
    Address address;
    const std::string terminated(text);
    if (inet_pton(AF_INET, terminated.c_str(), address.bytes.data()) == 1) {
        address.bits = 32;
        return address;
    }
    if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) {
        address.bits = 128;
        return address;
    }
    return std::nullopt;
}

bool in_network(const Address& ip, std::string_view network) {
    const std::size_t slash = network.find('/');
    const std::optional<Address> base = parse_address(network.substr(0, slash));
    if (!base || base->bits != ip.bits) {
        return false;
    }
    std::uint64_t length = base->bits;
    if (slash != std::string_view::npos) {
        const auto number = parse_number(network.substr(slash + 1));
        if (!number || *number > base->bits) {
            return false;
        }
        length = *number;
    }
    for (std::size_t bit = 0; bit < length; ++bit) {
        const unsigned char mask = static_cast<unsigned char>(0x80 >> (bit % 8));
        if ((ip.bytes[bit / 8] & mask) != (base->bytes[bit / 8] & mask)) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool in_networks(std::string_view ip, const std::vector<std::string>& networks) {
    const std::optional<Address> address = parse_address(ip);
    for (const std::string& network : networks) {
        if (network == "local" ? ip.empty() : address && in_network(*address, network)) {
            return true;
        }
    }
    return false;
}

}  // namespace postern
