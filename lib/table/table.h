/// Lookup tables: one interface over files, patterns, wrappers and services (postfix DATABASE_README).
///
/// A table is named "type:name" ("lmdb:/etc/postern/virtual", "inline:{a=b}").  A table is used by one
/// thread.  A lookup in a table that is a server ("proxy:", "socketmap:", "tcp:", or made of such) lets other coroutines of that
/// thread run while it waits (lib/async/wait_here.h), which may ask the same table.  Files are opened by open_table(), which therefore runs before chroot(2); a file that is
/// replaced or edited later is noticed within a second and read again where its path can still be seen.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern {

class Config;

/// What a table needs to know about the suite.
struct TableContext {
    /// default_database_type: for names without "type:".
    std::string default_type = "lmdb";
    /// The socket of proxymap(8); empty means that "proxy:" tables are opened in this process, as
    /// proxymap itself does it.
    std::string proxymap_socket;
    /// Fixed-string tables lower-case the key (ASCII letters).  postmap -f turns it off.
    bool fold_case = true;
    /// POSIX account databases may be asked ("unix:").
    bool allow_unix = true;
    /// Results of regexp: and pcre: may have $1.  Not so in tables whose results are commands or say with whose rights:
    /// what a stranger wrote does not become part of them.  A rule with $1 is left out, with a warning.
    bool allow_substitution = true;
    /// daemon_table_open_error_is_fatal: a file that is missing or closed to us fails open_table().  Otherwise it is logged, and
    /// the table's lookups fail for now.
    bool open_error_is_fatal = true;
    /// socketmap_max_query_size, socketmap_max_reply_size.
    std::size_t socketmap_max_query = 10000, socketmap_max_reply = 100000;
    /// How long one lookup may wait for the server of a "socketmap:" or "tcp:" table.
    int server_timeout_seconds = 100;

    /// The same, for such a table.
    TableContext without_substitution() const {
        TableContext strict = *this;
        strict.allow_substitution = false;
        return strict;
    }
};

/// As main.cf says for daemons.
TableContext table_context(const Config& config);
/// The same for commands, which have no use for a table that cannot be opened.
TableContext command_table_context(const Config& config);

/// One lookup table.
class Table {
public:
    virtual ~Table() = default;
    Table(const Table&) = delete;
    Table& operator=(const Table&) = delete;

    /// The value for `key`, or nothing.  Keys longer than kMaxKey are not found, but in pattern tables.
    /// Errors: temporary (the table cannot answer now; names the table).
    Result<std::optional<std::string>> lookup(std::string_view key);

    /// Calls `visit` for every entry (postmap -s).  Errors: unsupported, as for all tables but those whose content is in memory;
    /// for those with an index file there is for_each_in_index().
    using Visit = std::function<void(std::string_view key, std::string_view value)>;
    virtual Result<void> for_each(const Visit& visit) const;

    /// "type:name", as configured.
    const std::string& name() const { return name_; }

    /// A pattern table (regexp, pcre, cidr, tcp) sees only whole keys: callers that would ask for parts of
    /// an address or for parent domains leave it out (regexp_table(5), "TABLE SEARCH ORDER").
    bool is_pattern() const { return pattern_; }

    static constexpr std::size_t kMaxKey = 64 * 1024;

protected:
    Table(std::string name, bool pattern, bool fold_case)
        : name_(std::move(name)), pattern_(pattern), fold_case_(fold_case) {}
    /// The lookup itself, with the key already in its final case.
    virtual Result<std::optional<std::string>> find(std::string_view key) = 0;
    bool fold_case() const { return fold_case_; }

private:
    std::string name_;
    bool pattern_;
    bool fold_case_;
};

using TablePtr = std::unique_ptr<Table>;
using Lookup = Result<std::optional<std::string>>;

/// Opens the table `spec`.  Errors: config (bad syntax, naming file and line), not_found (no such file, with
/// the postmap command that makes it), unsupported (unknown type), denied.
Result<TablePtr> open_table(std::string_view spec, const TableContext& context);

/// The types open_table() knows, sorted (postconf -m).
std::vector<std::string> table_types();

/// True after a table file changed in a way this process cannot follow (it is gone from sight, as after
/// chroot): a service that sees this ends when it is idle, and a fresh process opens the new file.
bool tables_are_stale();

/// Sees what the lists of tables and of patterns of this thread are asked, and what they answer.  It is how a command
/// explains what a daemon would do, with the daemon's own code.
class LookupWatch {
public:
    virtual ~LookupWatch() = default;
    /// `title` is the parameter's name, `table` "type:name".
    virtual void looked_up(const std::string& title, const std::string& table, std::string_view key, const Lookup& answer) = 0;
    /// A pattern in a list, not a table, stands for `text`.
    virtual void listed(const std::string& title, const std::string& pattern, std::string_view text) = 0;
};
/// The watch of this thread from now on; nullptr, as at first: none.  Gives back the one before.
LookupWatch* watch_lookups(LookupWatch* watch);
LookupWatch* lookup_watch();

/// Postfix "maps": tables that are asked one after another.
class TableList {
public:
    TableList() = default;
    TableList(TableList&&) noexcept = default;
    TableList& operator=(TableList&&) noexcept = default;

    /// `title` (the parameter's name) is for messages; `specs` is the parameter's value: "type:name"
    /// separated by comma or white space, { } groups kept whole.  Errors: as open_table().
    static Result<TableList> open(std::string_view title, std::string_view specs, const TableContext& context);

    /// The first hit.  `key` empty finds nothing.  With `partial`, pattern tables are left out.
    /// Errors: temporary, also for an empty value, which no table may have.
    Lookup lookup(std::string_view key, bool partial = false);

    /// The same; `from` is set to the name of the table that answered or failed.
    Lookup lookup(std::string_view key, bool partial, std::string* from);

    bool empty() const { return tables_.empty(); }
    const std::string& title() const { return title_; }
    const std::vector<TablePtr>& tables() const { return tables_; }

private:
    std::string title_;
    std::vector<TablePtr> tables_;
};

}  // namespace postern
