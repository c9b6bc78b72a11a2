/// DNS record data in wire form, as answers have it (RFC 1035 section 3.3); for lib/dns's own use and its fuzzer.
#pragma once

#include <string_view>

#include "lib/dns/dns.h"

namespace postern {

/// False for data that breaks its type's rules: such a record is left out of the answer.  Names come uncompressed.
bool decode_record(DnsType type, std::string_view wire, DnsAnswer::Record& out);

}  // namespace postern
