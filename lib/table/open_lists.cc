#include "lib/table/open_lists.h"

#include <utility>

namespace postern {

Result<void> open_lists(std::initializer_list<WantedList> wanted, const TableContext& context) {
    for (const WantedList& one : wanted) {
        Result<TableList> opened = TableList::open(one.title, one.specs, context);
        if (!opened) {
            return opened.error();
        }
        one.list = std::move(*opened);
    }
    return {};
}

}  // namespace postern
