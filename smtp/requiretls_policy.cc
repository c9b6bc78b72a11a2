#include "smtp/requiretls_policy.h"

#include "lib/base/strings.h"
#include "lib/mail/address.h"

namespace postern::smtp {
namespace {

constexpr std::pair<std::string_view, RequireTlsLevel> kLevels[] = {
    {"disable", RequireTlsLevel::disable},
    {"opportunistic", RequireTlsLevel::opportunistic},
    {"opportunistic+starttls", RequireTlsLevel::opportunistic_starttls},
    {"enforce", RequireTlsLevel::enforce},
};
constexpr std::string_view kWords = "disable, opportunistic, opportunistic+starttls, enforce, error";

}  // namespace

std::optional<RequireTlsLevel> requiretls_level_named(std::string_view name) {
    for (const auto& [word, level] : kLevels) {
        if (equals_ignoring_case(name, word)) {
            return level;
        }
    }
    return std::nullopt;
}

Result<RequireTlsPolicy> RequireTlsPolicy::open(const std::string& title, std::string_view list, const TableContext& tables) {
    RequireTlsPolicy out;
    out.title_ = title;
    for (const std::string& word : split_list(list)) {
        Item item;
        item.level = requiretls_level_named(word);
        if (!item.level && word.find(':') != std::string::npos) {
            Result<TableList> table = TableList::open(title, word, tables);
            if (!table) {
                return table.error();
            }
            item.table = std::move(*table);
        } else if (!item.level && !equals_ignoring_case(word, "error")) {
            return Error(Errc::config, title + ": \"" + printable(word, 80) + "\" is neither a table nor one of " + std::string(kWords));
        }
        out.items_.push_back(std::move(item));
    }
    return out;
}

/// The name, then its parents as ".parent", as in a transport table.
Result<std::optional<RequireTlsLevel>> RequireTlsPolicy::ask(TableList& table, std::string_view destination) const {
    Lookup found = table.lookup(destination);
    std::string_view rest = valid_ip_address(destination) ? std::string_view() : destination;
    for (std::size_t dot = rest.find('.'); found && !*found && dot != rest.npos; dot = rest.find('.', 1)) {
        rest.remove_prefix(dot);
        found = table.lookup(rest, true);
    }
    if (!found) {
        return found.error();
    }
    if (!*found) {
        return std::optional<RequireTlsLevel>();
    }
    const std::optional<RequireTlsLevel> level = requiretls_level_named(**found);
    if (!level) {
        return Error(Errc::config, title_ + ": \"" + printable(**found, 80) + "\" for " + std::string(destination) + " is not one of " +
                                       std::string(kWords));
    }
    return level;
}

Result<RequireTlsLevel> RequireTlsPolicy::find(std::string_view destination) {
    for (Item& item : items_) {
        if (item.level) {
            return *item.level;
        }
        if (item.table.empty()) {
            return Error(Errc::config, title_ + ": \"error\" for " + std::string(destination));
        }
        Result<std::optional<RequireTlsLevel>> level = ask(item.table, destination);
        if (!level) {
            return level.error();
        }
        if (*level) {
            return **level;
        }
    }
    return RequireTlsLevel::enforce;
}

}  // namespace postern::smtp
