/// Short host names, as the C library's resolver completes them: smtp_dns_resolver_options.
#pragma once

#include <memory>
#include <string_view>

#include "lib/dns/dns.h"
#include "lib/dns/resolv_conf.h"

namespace postern {

struct SearchRules {
    bool defnames = false;   ///< res_defnames: names without a dot get the current domain
    bool dnsrch = false;     ///< res_dnsrch: names are looked for in each domain of the search list

    /// "res_defnames, res_dnsrch".  Errors: config, for any other word.
    static Result<SearchRules> parse(std::string_view options);
};

/// The names to ask for, in order, when `name` is given.
std::vector<std::string> candidates(const std::string& name, const SearchRules& rules, const ResolvConf& where);

/// `dns` asked for one candidate after another until one has records.  Otherwise the answer is: the name exists, if one of them does;
/// an error, if one failed; else that of `name` itself.  A name that was completed is `canonical` in the answer.  `dns` outlives
/// what comes back.
std::unique_ptr<Dns> with_search(Dns& dns, const SearchRules& rules, ResolvConf where);

}  // namespace postern
