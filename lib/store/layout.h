/// Where mailboxes of an account lie: names to paths and back, for Maildir++ (`.A.B`), LAYOUT=fs (`A/B/`) and mbox
/// (`A/B` is a file).  Names on disk are modified UTF-7; see store.h for names in the API.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/location.h"

namespace postern::store {

/// A mailbox's place.
struct Folder {
    std::string name;               ///< canonical: "INBOX" in capitals
    std::string path;               ///< Maildir's directory, or the mbox file
    std::string control;            ///< directory of uidlist and keywords
    bool spool = false;             ///< an mbox INBOX outside of the root, as in /var/mail: in a directory that is not the user's
};

class Layout {
public:
    /// `separator` 0: the layout's own.
    Layout(Location location, char separator);

    char separator() const { return separator_; }
    const Location& location() const { return location_; }

    /// Errors: syntax (empty levels, "..", control characters, a character the layout cannot hold, too long).
    Result<Folder> folder(std::string_view name) const;
    bool exists(const Folder& folder) const;
    /// Names of all mailboxes, in no order, with INBOX when it exists.
    Result<std::vector<std::string>> names() const;

    /// Makes directories (or the file).  Errors: exists, denied, no_space.
    Result<void> create(const Folder& folder) const;
    /// INBOX is the caller's business.  Children stay.
    Result<void> remove(const Folder& folder) const;
    /// With children; INBOX is the caller's business.
    Result<void> rename(const Folder& from, const Folder& to) const;

    /// "A.B" as in the `subscriptions` file to a name, and back; empty when it cannot be said.
    std::string from_disk(std::string_view disk, char disk_separator) const;
    std::string to_disk(std::string_view name, char disk_separator) const;
    char disk_separator() const { return location_.fs_layout ? '/' : '.'; }

private:
    Result<void> names_below(const std::string& directory, const std::string& prefix, int depth,
                             std::vector<std::string>& out) const;
    Result<std::vector<std::string>> maildirpp_names() const;
    bool is_mailbox(const std::string& path) const;
    Location location_;
    char separator_;
};

/// "INBOX" in any case becomes capitals; all else stays.
std::string canonical_name(std::string_view name);
/// rm -r, symbolic links not followed; bounded depth.
void remove_tree(const std::string& path);

}  // namespace postern::store
