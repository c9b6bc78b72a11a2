/// One way of keeping messages (Maildir, mbox), below the index: what differs between them, and nothing else.
///
/// All calls come with the account's mutex held; those with a MailboxEditor within its write transaction, which
/// the caller commits.  Backends change files first and the index second, so that after a crash in between the
/// next scan() finds the truth.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/store/index.h"
#include "lib/store/layout.h"
#include "lib/store/store.h"

namespace postern::store {

/// The flags a message shall have from now on.
struct FlagEdit {
    Uid uid = 0;
    std::uint32_t flags = 0;        ///< of Flag, without kRecent
    std::uint64_t keywords = 0;
};

struct Placed {
    Folder folder;
    MailboxEditor* editor = nullptr;
    DirState* state = nullptr;      ///< updated by the call; the caller saves it after the commit
};

/// (old, new) UIDs.
using UidPairs = std::vector<std::pair<Uid, Uid>>;

/// Takes changes of files back when the index could not be committed.
class Undo {
public:
    virtual ~Undo() = default;
    virtual void run() = 0;
};
struct Copied {
    UidPairs pairs;
    std::unique_ptr<Undo> undo;     ///< may be null
};

/// Messages that were put in place.
struct Appended {
    std::vector<Uid> uids;
    UniqueFd unsynced;              ///< a directory that must be synced before the messages are certain to be there; or none
    bool named = false;             ///< file names say all that the index will: scan() finds it again if the index forgets
};

class Backend {
public:
    virtual ~Backend() = default;

    /// Whether scan() may find something: cheap, a stat() or two.  Errors: not_found, denied, io.
    virtual Result<bool> needs_scan(const Folder& folder, const DirState& state, const MailboxRecord& record,
                                    Access access) = 0;
    /// Brings the index in line with the files; read_write also moves new/ to cur/.
    virtual Result<void> scan(const Placed& mailbox, Access access) = 0;

    /// not_found: the file is not where the index says (renamed or removed by others: scan, try again).
    virtual Result<Message> open(const Folder& folder, const Entry& entry, const StoredName& name) = 0;
    /// The file's size and time, without opening it.  Errors: as open().
    virtual Result<Summary> stat(const Folder& folder, const Entry& entry, const StoredName& name) = 0;

    virtual Result<std::unique_ptr<Appender>> append(const Folder& folder) = 0;
    /// Puts finished messages in place and into the index; `cached` gets what was parsed.  The appenders themselves
    /// take their files back unless they are told to keep().
    virtual Result<Appended> commit(const Placed& mailbox, std::span<const std::unique_ptr<Appender>> messages,
                                    std::vector<std::pair<std::string, std::string>>& cached) = 0;

    // The next three leave out messages whose file is not where the index says and name them in `missing`: others
    // renamed or removed it.  The caller scans and tries those again.

    /// Writes flags to files and index.
    virtual Result<void> set_flags(const Placed& mailbox, std::span<const FlagEdit> edits, UidSet& missing) = 0;
    virtual Result<void> expunge(const Placed& mailbox, const UidSet& uids, UidSet& missing) = 0;
    /// `from` and `to` may be one mailbox (then one editor and one state).  After an error nothing was copied.
    virtual Result<Copied> copy(const Placed& from, const Placed& to, const UidSet& uids, bool move,
                                UidSet& missing) = 0;

    /// After the commit of an editor that was used here: side files such as the uidlist.
    virtual void committed(const Folder& folder, MailboxEditor& editor) = 0;

    /// Directories and files whose change means that messages may have changed (for inotify).
    virtual std::vector<std::string> watched(const Folder& folder) const = 0;
};

/// `hard_links`: copies of a message share its file where they can.
std::unique_ptr<Backend> make_maildir_backend(bool hard_links);
std::unique_ptr<Backend> make_mbox_backend(MboxLocking locking);

/// Bit positions of `from`'s keywords in `to`, made where missing; -1 where there is no room.
Result<std::vector<int>> map_keywords(const MailboxRecord& from, MailboxEditor& to);
std::uint64_t mapped_keywords(std::uint64_t keywords, const std::vector<int>& map);

/// What cache and IMAP want to know of a message's text (LF or CRLF): encoded summary and header fields.
std::pair<std::string, std::string> summarise(std::string_view text, std::int64_t internal_date);

}  // namespace postern::store
