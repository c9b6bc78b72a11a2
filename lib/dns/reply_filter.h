/// smtp_dns_reply_filter and its siblings: tables that take records out of answers.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/dns/dns.h"
#include "lib/table/table.h"

namespace postern {

/// What the tables are asked for each record: "name. ttl IN type value", as postconf(5) describes it; MX and SRV have their numbers
/// in front of the host.  Bytes that are no printable ASCII are '?'.
std::string filter_key(std::string_view name, DnsType type, const DnsAnswer& answer, const DnsAnswer::Record& record);

/// `dns`, which outlives what comes back, with answers as the tables in `value` leave them.  Records for which a table says "IGNORE" are
/// left out; an answer that has lost all of them is `filtered`.  What came from the hosts file is not looked at.  Where a table
/// fails or says anything else, the lookup fails (config).  `parameter` is the setting's name.  Errors: as TableList::open().
Result<std::unique_ptr<Dns>> with_reply_filter(Dns& dns, std::string_view parameter, const std::string& value, const TableContext& context);

}  // namespace postern
