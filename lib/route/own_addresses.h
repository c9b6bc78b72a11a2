/// The IP addresses that are this host: inet_interfaces and proxy_interfaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/match_list.h"

namespace postern {

class Config;

class OwnAddresses {
public:
    /// Asks the kernel for its interfaces, and the resolver for host names that are listed.
    /// Errors: config (an entry that is no address and does not resolve).
    static Result<OwnAddresses> find(const Config& config);

    /// `ip` in text form, without brackets.
    bool contains(std::string_view ip) const;
    /// A domain literal as in an address: "[192.0.2.1]", "[IPv6:2001:db8::1]".
    bool contains_literal(std::string_view literal) const;

private:
    Result<void> add_list(std::string_view parameter, std::string_view value);
    Result<void> add_host(std::string_view parameter, const std::string& host);
    void add_interfaces();
    void add(int family, const void* bytes);

    std::vector<Network> addresses_;
};

}  // namespace postern
