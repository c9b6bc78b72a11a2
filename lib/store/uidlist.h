/// dovecot-uidlist (versions 1 and 3) and courierimapuiddb: which UID each Maildir file has.
///
/// Read once, when a mailbox is first indexed or its index was lost, so that clients do not download everything
/// again; kept up to date afterwards (new lines appended), so that a lost index comes back with the same UIDs and
/// Dovecot could take over again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/uid_set.h"

namespace postern::store {

struct UidListEntry {
    Uid uid = 0;
    std::string base;               ///< file name up to its colon
};

struct UidList {
    std::uint32_t uidvalidity = 0;
    Uid uidnext = 1;                ///< above all entries
    std::string guid;               ///< 32 hex digits, or empty
    std::vector<UidListEntry> entries;            ///< by ascending UID; no base twice
};

/// Lines that make no sense are left out.  Errors: syntax (the first line is not understood).
Result<UidList> parse_uidlist(std::string_view text);

/// Reads `directory`/dovecot-uidlist, or courierimapuiddb.  Errors: not_found, syntax, io, too_big.
Result<UidList> read_uidlist(const std::string& directory);

/// Writes a whole new list (temporary file, rename).
Result<void> write_uidlist(const std::string& directory, const UidList& list);
/// Adds lines.  When that fails the file is removed: a list that lies would give UIDs twice.
Result<void> append_uidlist(const std::string& directory, const std::vector<UidListEntry>& entries);

}  // namespace postern::store
