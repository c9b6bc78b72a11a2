/// Which tables proxymap(8) may be asked for: those that main.cf names with "proxy:".
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace postern::proxymap {

/// The tables of `proxy_read_maps` (expanded), without their "proxy:"; words without it are other settings'
/// values and do not count.  { } groups are looked into.
std::set<std::string, std::less<>> allowed_tables(std::string_view proxy_read_maps);

}  // namespace postern::proxymap
