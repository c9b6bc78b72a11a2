/// cidr: tables (cidr_table(5)): networks and what they lead to, with if/endif and negation.
#include <arpa/inet.h>

#include <cstring>
#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/match_list.h"
#include "lib/table/pattern_rules.h"
#include "lib/table/types.h"
#include "lib/table/watched_file.h"

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

class CidrTable final : public Table {
public:
    CidrTable(std::string name, WatchedFile file) : Table(std::move(name), true, false), file_(std::move(file)) {}

    Result<void> load() {
        const Result<std::string> text = read_text_fd(file_.fd(), file_.path());
        if (!text) {
            return text.error();
        }
        load(*text);
        return {};
    }

    void load(const std::string& text) { rules_ = read_rules<Network>(name(), text, parse_rule); }

protected:
    Lookup find(std::string_view key) override {
        if (!file_.path().empty() && file_.changed()) {
            reload();
        }
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
    void reload() {
        Result<WatchedFile> file = WatchedFile::open(file_.path());
        if (!file) {
            note_stale_table();
            file_.accept_change();
            return;
        }
        file_ = std::move(*file);
        if (const Result<void> loaded = load(); !loaded) {
            log_warning("{}; the old content stays in use", loaded.error().what);
        }
    }

    WatchedFile file_;   ///< none when the rules are in the table's name
    std::vector<CidrRule> rules_;
};

}  // namespace

Result<TablePtr> open_cidr(std::string_view name, const TableContext&) {
    if (const std::optional<std::string> rules = inline_rules(name)) {
        auto table = std::make_unique<CidrTable>(full_name("cidr", name), WatchedFile());
        table->load(*rules);
        return TablePtr(std::move(table));
    }
    Result<WatchedFile> file = WatchedFile::open(std::string(name));
    if (!file) {
        return Error(file.error().code, full_name("cidr", name) + ": " + file.error().what);
    }
    auto table = std::make_unique<CidrTable>(full_name("cidr", name), std::move(*file));
    if (const Result<void> loaded = table->load(); !loaded) {
        return loaded.error();
    }
    return TablePtr(std::move(table));
}

}  // namespace postern::table_type
