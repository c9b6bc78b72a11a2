/// cidr: tables (cidr_table(5)): networks and what they lead to, with if/endif and negation.
#include <arpa/inet.h>

#include <cstring>
#include <utility>

#include "lib/base/strings.h"
#include "lib/table/match_list.h"
#include "lib/table/pattern_rules.h"
#include "lib/table/types.h"

namespace postern::table_type {
namespace {

using CidrRule = Rule<Network>;

Result<void> parse_rule(const std::string& table, std::string_view rest, CidrRule& rule) {
    const std::size_t end = rest.find_first_of(" \t");
    Result<Network> network = parse_network(rest.substr(0, end));
    if (!network) {
        return network.error();
    }
    rule.matcher = *network;
    rule.result = end == std::string_view::npos ? std::string() : std::string(trim(rest.substr(end)));
    if (rule.is_if && !rule.result.empty()) {
        return Error(Errc::config, "text after the pattern of if: \"" + rule.result + "\"");
    }
    if (!rule.is_if && rule.result.empty()) {
        warn_about_rule(table, rule.line, "no result text after the network: using an empty string");
    }
    return {};
}

class CidrTable final : public TextTable {
public:
    explicit CidrTable(std::string name) : TextTable(std::move(name), true, false) {}

    Result<void> take(const std::string& text) override {
        rules_ = read_rules<Network>(name(), text, parse_rule);
        return {};
    }

protected:
    Lookup find(std::string_view key) override {
        follow_file();
        unsigned char bytes[16];
        const std::string text(key.substr(0, 64));
        int family = AF_INET;
        if (inet_pton(AF_INET, text.c_str(), bytes) != 1) {
            family = AF_INET6;
            if (inet_pton(AF_INET6, text.c_str(), bytes) != 1) {
                return std::optional<std::string>();   // not an address: nothing matches, nor does its negation
            }
        }
        const CidrRule* rule =
            first_match(rules_, [&](const CidrRule& one) { return one.matcher.contains(family, bytes); });
        return rule ? std::optional(rule->result) : std::nullopt;
    }

private:
    std::vector<CidrRule> rules_;
};

}  // namespace

Result<TablePtr> open_cidr(std::string_view name, const TableContext&) {
    return from_rules(std::make_unique<CidrTable>(full_name("cidr", name)), name);
}

}  // namespace postern::table_type
