/// Opening the table lists of several settings.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "lib/table/table.h"

namespace postern {

struct WantedList {
    TableList& list;
    std::string_view title;       ///< the setting's name
    const std::string& specs;     ///< its value
};

/// TableList::open() for each.  Errors: of the first that cannot be opened.
Result<void> open_lists(std::initializer_list<WantedList> wanted, const TableContext& context);

}  // namespace postern
