#include "lib/table/text_table.h"

#include <utility>

#include "lib/log/log.h"
#include "lib/table/text_file.h"

namespace postern::table_type {

Result<void> TextTable::open(const std::string& path) {
    Result<WatchedFile> file = WatchedFile::open(path);
    if (!file) {
        return Error(file.error().code, name() + ": " + file.error().what);
    }
    file_ = std::move(*file);
    return read();
}

Result<void> TextTable::read() {
    const Result<std::string> text = read_text_fd(file_.fd(), file_.path());
    return text ? take(*text) : Result<void>(text.error());
}

void TextTable::follow_file() {
    if (file_.path().empty() || !file_.changed()) {
        return;
    }
    Result<WatchedFile> file = WatchedFile::open(file_.path());
    if (!file) {
        note_stale_table();
        file_.accept_change();
        return;
    }
    file_ = std::move(*file);
    if (const Result<void> taken = read(); !taken) {
        log_warning("{}; the old content stays in use", taken.error().what);
    }
}

Result<TablePtr> from_file(std::unique_ptr<TextTable> table, std::string_view path) {
    if (const Result<void> opened = table->open(std::string(path)); !opened) {
        return opened.error();
    }
    return TablePtr(std::move(table));
}

}  // namespace postern::table_type
