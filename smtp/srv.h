/// Hosts by SRV records (RFC 2782): use_srv_lookup.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "lib/dns/dns.h"

namespace postern::smtp {

/// "_submission._tcp.example.com".
std::string srv_name(const std::string& service, const std::string& domain);

/// Lowest priority first; within a priority at random, each time with the chances that the weights of those that are left give
/// (RFC 2782, "Weight").
void order_srv(std::vector<DnsAnswer::Record>& records, std::mt19937& random);

}  // namespace postern::smtp
