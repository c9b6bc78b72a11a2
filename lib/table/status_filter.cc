#include "lib/table/status_filter.h"

#include "lib/log/log.h"

namespace postern {

Result<StatusFilter> StatusFilter::open(std::string_view parameter, const std::string& value, const TableContext& context) {
    Result<TableList> tables = TableList::open(parameter, value, context);
    if (!tables) {
        return tables.error();
    }
    StatusFilter filter;
    filter.tables_ = std::move(*tables);
    return filter;
}

bool StatusFilter::apply(std::string& dsn, std::string& text) {
    if (tables_.empty() || dsn.empty()) {
        return false;
    }
    const Lookup found = tables_.lookup(dsn + " " + text);
    if (!found || !*found) {
        return false;
    }
    const std::size_t space = (*found)->find(' ');
    const std::string now = (*found)->substr(0, space);
    const bool was_success = dsn.front() == '2';
    if (space == std::string::npos || now.empty() || (now.front() == '2') != was_success ||
        (now.front() != '2' && now.front() != '4' && now.front() != '5')) {
        log_warning("{}: bad result \"{}\" for \"{} {}\"", tables_.title(), **found, dsn, text);
        return false;
    }
    dsn = now;
    text = (*found)->substr(space + 1);
    return true;
}

}  // namespace postern
