/// smtp_generic_maps (generic(5)): addresses of this system as the rest of the world shall see them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/table/match_list.h"
#include "lib/table/table.h"
#include "smtp/settings.h"

namespace postern::smtp {

class GenericMaps {
public:
    /// `settings` outlives this.  Errors: as open_table().
    static Result<std::unique_ptr<GenericMaps>> create(const Settings& settings, const TableContext& tables);

    bool empty() const { return maps_.empty(); }
    /// An address in internal form; itself when no table has it.  Not applied to its own result.  Errors: temporary.
    Result<std::string> map(const std::string& address);
    /// All addresses of a header block.  Errors: temporary.
    Result<std::string> map_headers(std::string_view headers);

private:
    explicit GenericMaps(const Settings& settings) : settings_(settings) {}

    const Settings& settings_;
    TableList maps_;
    MatchList local_domains_;
    bool propagate_ = false;
};

}  // namespace postern::smtp
