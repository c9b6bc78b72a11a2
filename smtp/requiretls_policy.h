/// How much of REQUIRETLS (RFC 8689) is insisted on, by destination: smtp_requiretls_policy.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/table.h"

namespace postern::smtp {

/// In the order of what they ask for.
enum class RequireTlsLevel : unsigned char {
    disable,                  ///< as if the sender had not asked
    opportunistic,            ///< passed on where server and TLS allow it
    opportunistic_starttls,   ///< the same, but never in the clear
    enforce,                  ///< RFC 8689 section 4.2.1: a server known for certain that offers REQUIRETLS, or none
};
/// Null for other words; case does not count.
std::optional<RequireTlsLevel> requiretls_level_named(std::string_view name);

/// A list of levels and "type:table"s that have levels; the first that says something decides.
class RequireTlsPolicy {
public:
    /// `title` is the parameter's name.  Errors: config, for other words; what opening tables says.
    static Result<RequireTlsPolicy> open(const std::string& title, std::string_view list, const TableContext& tables);

    /// For a destination: domain or host as the next hop has it, without brackets and port.  Tables are asked for the name,
    /// and all but pattern tables for ".parent" too.  Without an answer: enforce.
    /// Errors: temporary (a table cannot answer), config (what it says is no level, or "error" was reached).
    Result<RequireTlsLevel> find(std::string_view destination);

private:
    struct Item {
        std::optional<RequireTlsLevel> level;   ///< null, and no table: "error"
        TableList table{};
    };
    Result<std::optional<RequireTlsLevel>> ask(TableList& table, std::string_view destination) const;

    std::string title_;
    std::vector<Item> items_;
};

}  // namespace postern::smtp
