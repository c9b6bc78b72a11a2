/// IP addresses in lists of networks, as login_trusted_networks and allow_nets write them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace postern {

/// Whether `ip` ("192.0.2.1", "2001:db8::1") is in one of `networks` ("192.0.2.0/24", "::1", "local" for no address at
/// all: a Unix socket).  Malformed elements match nothing.
bool in_networks(std::string_view ip, const std::vector<std::string>& networks);

}  // namespace postern
