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
    std::string damage;             ///< "line 4: UIDs not ordered (11 >= 12)", where the list ends that can be believed
};

/// As Dovecot reads it: of a file that is named twice the later line counts; from the first line on that makes no sense or has no
/// higher UID than those before it, nothing does.  The UIDs there are not given to anything else, though: uidnext is above them.
/// Errors: syntax (the first line is not understood).
Result<UidList> parse_uidlist(std::string_view text);

/// Reads `directory`/dovecot-uidlist, or courierimapuiddb.  Errors: not_found, syntax, io, too_big.
Result<UidList> read_uidlist(const std::string& directory);

/// Writes a whole new list (temporary file, rename).
Result<void> write_uidlist(const std::string& directory, const UidList& list);
/// Adds lines.  When that fails the file is removed: a list that lies would give UIDs twice.
Result<void> append_uidlist(const std::string& directory, const std::vector<UidListEntry>& entries);

}  // namespace postern::store
