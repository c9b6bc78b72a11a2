#include "lib/table/types.h"

#include <chrono>

#include "lib/log/log.h"
#include "lib/table/watched_file.h"

namespace postern::table_type {
namespace {

using std::chrono::steady_clock;
constexpr auto kPause = std::chrono::seconds(1);

/// Stands for a table that could not be opened: tries that again from time to time, and fails lookups for now until it is open.
class UnavailableTable final : public Table {
public:
    UnavailableTable(std::string spec, bool pattern, TableContext context, std::string why)
        : Table(std::move(spec), pattern, false), context_(std::move(context)), why_(std::move(why)) {}

protected:
    Lookup find(std::string_view key) override {
        if (!table_ && steady_clock::now() >= next_try_) {
            next_try_ = steady_clock::now() + kPause;
            context_.open_error_is_fatal = true;   // once is enough
            Result<TablePtr> table = open_table(name(), context_);
            if (table) {
                table_ = std::move(*table);
            } else {
                why_ = table.error().what;
                note_stale_table();   // a fresh process may see what this one, with less rights by now, cannot
            }
        }
        if (!table_) {
            return Error(Errc::temporary, name() + " is unavailable. " + why_);
        }
        return table_->lookup(key);
    }

private:
    TableContext context_;
    std::string why_;
    TablePtr table_;
    steady_clock::time_point next_try_ = steady_clock::now() + kPause;
};

}  // namespace

TablePtr unavailable(std::string_view spec, const TableContext& context, const Error& why) {
    log_error("{}", why.what);
    const std::string_view type = spec.substr(0, spec.find(':'));
    const bool pattern = type == "regexp" || type == "pcre" || type == "cidr" || type == "tcp";
    return std::make_unique<UnavailableTable>(std::string(spec), pattern, context, why.what);
}

}  // namespace postern::table_type
