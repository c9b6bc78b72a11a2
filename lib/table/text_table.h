/// Tables that are a text file: texthash:, regexp:, pcre:, cidr:.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/table/table.h"
#include "lib/table/watched_file.h"

namespace postern::table_type {

/// The file is read whole when the table is opened, and again, at a lookup, when it has changed.
class TextTable : public Table {
public:
    /// Makes `text` the content; a wrong line is left out, with a warning.  Errors, with which the old content stays: config.
    virtual Result<void> take(const std::string& text) = 0;
    /// take() of what is in `path`, which is watched from now on.  Errors: as open(2), read(2), take().
    Result<void> open(const std::string& path);

protected:
    using Table::Table;
    /// To be called first thing in find().  A file that is being edited, or is wrong, leaves the old content in use.
    void follow_file();

private:
    Result<void> read();

    WatchedFile file_;   ///< none when the content does not come from a file
};

/// `table`, whose name is "type:" and `path`, with the content of that file.  Errors: as TextTable::open().
Result<TablePtr> from_file(std::unique_ptr<TextTable> table, std::string_view path);

}  // namespace postern::table_type
