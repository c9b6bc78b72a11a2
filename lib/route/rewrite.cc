#include "lib/route/rewrite.h"

#include "lib/config/config.h"

namespace postern {
namespace {

/// "@a,@b:user@c" is user@c (RFC 5321 appendix C).
std::string_view without_source_route(std::string_view address) {
    if (address.front() != '@') {
        return address;
    }
    const std::size_t colon = address.find(':');
    if (colon == std::string_view::npos || colon + 1 == address.size()) {
        return address;
    }
    return address.substr(colon + 1);
}

/// Gives an address without "@" one, by the first rule that applies.
void add_domain(std::string& address, const RewriteRules& rules) {
    const std::size_t bang = rules.swap_bangpath ? address.find('!') : std::string::npos;
    if (bang != std::string::npos) {
        address = address.substr(bang + 1) + "@" + address.substr(0, bang);
        return;
    }
    const std::size_t percent = rules.percent_hack ? address.rfind('%') : std::string::npos;
    if (percent != std::string::npos) {
        address[percent] = '@';
    } else if (rules.append_origin && !rules.origin.empty()) {
        address += "@" + rules.origin;
    }
}

}  // namespace

RewriteRules RewriteRules::local(const Config& config) {
    RewriteRules rules;
    rules.swap_bangpath = config.swap_bangpath();
    rules.percent_hack = config.allow_percent_hack();
    rules.append_origin = config.append_at_myorigin();
    rules.append_domain = config.append_dot_mydomain();
    rules.origin = config.myorigin();
    rules.domain = config.mydomain();
    return rules;
}

RewriteRules RewriteRules::remote(const Config& config) {
    RewriteRules rules = local(config);
    rules.origin = config.remote_header_rewrite_domain();
    rules.domain = rules.origin;
    return rules;
}

std::string rewrite_address(std::string_view given, const RewriteRules& rules) {
    if (given.empty() || given == "@") {
        return {};
    }
    std::string address(without_source_route(given));
    if (address.find('@') == std::string::npos) {
        add_domain(address, rules);
    }
    const std::size_t at = address.rfind('@');
    if (rules.append_domain && !rules.domain.empty() && at != std::string::npos && at + 1 < address.size() &&
        address.find_first_of(".[", at + 1) == std::string::npos) {
        address += "." + rules.domain;
    }
    if (address.size() > 1 && address.back() == '.' && at != std::string::npos) {
        const char before = address[address.size() - 2];
        if (before != '.' && before != '@') {
            address.pop_back();
        }
    }
    return address;
}

}  // namespace postern
