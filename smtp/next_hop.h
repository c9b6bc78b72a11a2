/// Next hops as transport(5) writes them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "smtp/settings.h"

namespace postern::smtp {

/// One destination: "example.com", "[mail.example.com]:587", "[192.0.2.1]", "inet:host:port", "unix:path".
struct NextHop {
    std::string text;            ///< as written, for messages and policies
    std::string domain;          ///< domain or host, without brackets, as the DNS has it (lib/dns/ascii_name.h); empty for a Unix socket
    bool literal_host = false;   ///< was in [ ]: no MX lookup
    std::uint16_t port = 0;
    std::string service{};       ///< as the port was written, or smtp_tcp_port: the name or number of a service
    std::string socket_path;     ///< of a Unix socket
    std::string listed_as{};     ///< in lists of destinations: domain or host as written, without brackets and port, or the socket's path
};

/// Service names and their TCP ports, read once from /etc/services, before that is out of reach.
class Services {
public:
    Services();
    /// A port number or a service name.  Errors: config.
    Result<std::uint16_t> port(std::string_view text) const;

private:
    std::map<std::string, std::uint16_t, std::less<>> ports_;
};

/// Errors: config, for what is no destination.
Result<NextHop> parse_next_hop(std::string_view text, const Settings& settings, const Services& services);

/// "a, b c": one destination after another, as relayhost may list them.
std::vector<std::string> next_hop_list(std::string_view text);

}  // namespace postern::smtp
