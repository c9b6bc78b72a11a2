/// default_delivery_status_filter and its siblings: "X.Y.Z text" of a delivery may be replaced.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/table/table.h"

namespace postern {

class StatusFilter {
public:
    StatusFilter() = default;
    /// `parameter` is the setting's name, `value` its value.  Errors: as open_table().
    static Result<StatusFilter> open(std::string_view parameter, const std::string& value, const TableContext& context);

    /// Replaces `dsn` and `text` when a table says so; true when it did.  A result that would turn success into
    /// failure, or the other way round, is logged and not used.
    bool apply(std::string& dsn, std::string& text);

private:
    TableList tables_;
};

}  // namespace postern
