#include "lib/checks/checks.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern {
namespace {

using Kind = CheckAction::Kind;

struct ActionName {
    std::string_view name;
    Kind kind;
    bool needs_text;
    bool changes_only;   ///< one of those that every program has
};
constexpr ActionName kActions[] = {
    {"BCC", Kind::bcc, true, false},         {"DISCARD", Kind::discard, false, false}, {"DUNNO", Kind::none, false, true},
    {"FILTER", Kind::filter, true, false},   {"HOLD", Kind::hold, false, false},       {"IGNORE", Kind::ignore, false, true},
    {"INFO", Kind::info, false, true},       {"OK", Kind::none, false, true},          {"PASS", Kind::pass, false, false},
    {"PREPEND", Kind::prepend, true, true},  {"REDIRECT", Kind::redirect, true, false}, {"REJECT", Kind::reject, false, false},
    {"REPLACE", Kind::replace, true, true},  {"STRIP", Kind::strip, false, true},      {"WARN", Kind::warn, false, true},
};

}  // namespace

bool is_mime_field(std::string_view name) {
    constexpr std::string_view kNames[] = {"content-description", "content-disposition", "content-id", "content-transfer-encoding",
                                           "content-type", "mime-version"};
    return std::any_of(std::begin(kNames), std::end(kNames), [name](std::string_view one) { return equals_ignoring_case(one, name); });
}

CheckAction parse_check_action(std::string_view value, std::string_view table, CheckActions allowed) {
    value = trim(value);
    const std::size_t end = value.find_first_of(" \t");
    const std::string_view name = value.substr(0, end);
    const std::string_view text = end == std::string_view::npos ? std::string_view() : trim(value.substr(end));
    for (const ActionName& action : kActions) {
        if (!equals_ignoring_case(action.name, name) || (allowed == CheckActions::changes_only && !action.changes_only)) {
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
    const Settings settings{{"header_checks", "mime_header_checks", "nested_header_checks", "body_checks"},
                            {&config.header_checks(), &config.mime_header_checks(), &config.nested_header_checks(), &config.body_checks()}};
    return open(settings, context, CheckActions::all);
}

Result<std::unique_ptr<ContentChecks>> ContentChecks::open(const Settings& settings, const TableContext& context, CheckActions allowed) {
    auto checks = std::make_unique<ContentChecks>();
    checks->allowed_ = allowed;
    for (std::size_t i = 0; i < std::size(checks->tables_); ++i) {
        Result<TableList> table = TableList::open(settings.names[i], *settings.values[i], context);
        if (!table) {
            return table.error();
        }
        checks->tables_[i] = std::move(*table);
    }
    return checks;
}

Result<CheckAction> ContentChecks::look_up(LineKind kind, std::string_view text) {
    TableList& tables = tables_[static_cast<std::size_t>(kind)];
    if (tables.empty()) {
        return CheckAction{};
    }
    const Lookup found = tables.lookup(text);
    if (!found) {
        return found.error();
    }
    return found->has_value() ? parse_check_action(**found, tables.title(), allowed_) : CheckAction{};
}

}  // namespace postern
