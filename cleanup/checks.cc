#include "cleanup/checks.h"

#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern::cleanup {
namespace {

using Kind = CheckAction::Kind;

struct ActionName {
    std::string_view name;
    Kind kind;
    bool needs_text;
};
constexpr ActionName kActions[] = {
    {"BCC", Kind::bcc, true},           {"DISCARD", Kind::discard, false}, {"DUNNO", Kind::none, false},
    {"FILTER", Kind::filter, true},     {"HOLD", Kind::hold, false},       {"IGNORE", Kind::ignore, false},
    {"INFO", Kind::info, false},        {"OK", Kind::none, false},         {"PASS", Kind::pass, false},
    {"PREPEND", Kind::prepend, true},   {"REDIRECT", Kind::redirect, true}, {"REJECT", Kind::reject, false},
    {"REPLACE", Kind::replace, true},   {"STRIP", Kind::ignore, false},    {"WARN", Kind::warn, false},
};

}  // namespace

CheckAction parse_check_action(std::string_view value, std::string_view table) {
    value = trim(value);
    const std::size_t end = value.find_first_of(" \t");
    const std::string_view name = value.substr(0, end);
    const std::string_view text = end == std::string_view::npos ? std::string_view() : trim(value.substr(end));
    for (const ActionName& action : kActions) {
        if (!equals_ignoring_case(action.name, name)) {
            continue;
        }
        if (action.needs_text && text.empty()) {
            log_warning("{} map: {} action without text", table, action.name);
            return {};
        }
        return {action.kind, std::string(text)};
    }
    log_warning("unknown command in {} map: {}", table, printable(value, 100));
    return {};
}

Result<std::unique_ptr<ContentChecks>> ContentChecks::open(const Config& config, const TableContext& context) {
    auto checks = std::make_unique<ContentChecks>();
    Result<TableList> header = TableList::open("header_checks", config.header_checks(), context);
    if (!header) {
        return header.error();
    }
    Result<TableList> body = TableList::open("body_checks", config.body_checks(), context);
    if (!body) {
        return body.error();
    }
    checks->header_checks_ = std::move(*header);
    checks->body_checks_ = std::move(*body);
    return checks;
}

Result<CheckAction> ContentChecks::look_up(TableList& tables, std::string_view text) {
    const Lookup found = tables.lookup(text);
    if (!found) {
        return found.error();
    }
    return found->has_value() ? parse_check_action(**found, tables.title()) : CheckAction{};
}

Result<CheckAction> ContentChecks::header(std::string_view text) { return look_up(header_checks_, text); }
Result<CheckAction> ContentChecks::body(std::string_view text) { return look_up(body_checks_, text); }

}  // namespace postern::cleanup
