/// Completing addresses, as trivial-rewrite(8) "STANDARDS AND REWRITING" describes it.
#pragma once

#include <string>
#include <string_view>

namespace postern {

class Config;

/// What the rules need; copies of settings, so that rewriting costs no lookups.
struct RewriteRules {
    bool swap_bangpath = true;         ///< site!user becomes user@site
    bool percent_hack = true;          ///< user%site becomes user@site
    bool append_origin = true;         ///< append_at_myorigin
    bool append_domain = true;         ///< append_dot_mydomain
    std::string origin;                ///< what follows an address without "@"; empty: nothing
    std::string domain;                ///< what follows a domain without "."; empty: nothing

    static RewriteRules local(const Config& config);
    static RewriteRules remote(const Config& config);
};

/// One address in unquoted form.  The empty address stays empty.
std::string rewrite_address(std::string_view address, const RewriteRules& rules);

}  // namespace postern
