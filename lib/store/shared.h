/// What an Account and everything made from it have in common, and the steps that several of them take.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/log/log.h"
#include "lib/store/backend.h"
#include "lib/store/cache.h"
#include "lib/store/index.h"
#include "lib/store/layout.h"
#include "lib/store/store.h"
#include "lib/store/uid_arithmetic.h"

namespace postern::store {

struct Shared {
    Shared(AccountOptions account_options, Layout account_layout)
        : options(std::move(account_options)), layout(std::move(account_layout)) {}

    std::mutex mutex;               ///< held by every public call that touches what follows
    AccountOptions options;
    Layout layout;
    std::unique_ptr<Backend> backend;
    std::string index_directory;
    std::shared_ptr<Env> index;     ///< other owners: other accounts on the same files (Env::open)
    std::unique_ptr<Cache> cache;
    std::set<std::uint32_t> compared;             ///< mailboxes whose files were looked at once since this object began
    /// A line of the log, when AccountOptions::debug_as asks for such.
    template <class... Arguments>
    void debug(fmt::format_string<Arguments...> text, Arguments&&... arguments) const {
        if (!options.debug_as.empty()) {
            log_info("{}: {}", options.debug_as, fmt::format(text, std::forward<Arguments>(arguments)...));
        }
    }

    std::set<std::string> damaged;  ///< mailboxes whose index refresh() shall build anew
};

/// Remembers a mailbox whose index turned out to be damaged (`error.code` is corrupt; else nothing happens).
/// Needs the mutex.
void note_damage(Shared& shared, const Folder& folder, const Error& error);

/// One client's snapshot (see Mailbox).
struct ViewState {
    Folder folder;
    Access access = Access::read_only;
    MailboxRecord record;           ///< as of the last sync
    UidSet uids;
    std::vector<std::uint32_t> first_seq;         ///< of each range in `uids`
    std::uint32_t exists = 0;
    UidSet recent;
    bool expunges_held = false;     ///< `uids` has messages that are gone
    std::optional<Uid> arrivals_held;             ///< `uids` lacks messages; those from here on are \Recent to this client
    std::vector<std::pair<Modseq, UidSet>> silent;              ///< own silent changes not yet synced
    bool look_closely = false;      ///< the watch saw the directories change
    UniqueFd pop3_lock;

    void renumber();
    std::uint32_t seq_of(Uid uid) const;
    Uid uid_of(std::uint32_t seq) const;
    UidSet within(const UidSet& asked) const { return intersection(uids, asked); }   ///< those of `asked` that are in the snapshot
};

/// Folder of an existing mailbox.  Errors: syntax, not_found.
Result<Folder> existing_folder(const Shared& shared, std::string_view name);

struct Refresh {
    Access access = Access::read_only;
    bool claim_recent = false;
    bool look_closely = false;      ///< do not trust that the last change was ours alone
};
struct Refreshed {
    MailboxRecord record;
    Uid recent_from = 1;            ///< messages from here on are recent to the caller
};
/// Scans if files may have changed, claims \Recent if asked, commits.  A damaged index of the mailbox is rebuilt.
Result<Refreshed> refresh(Shared& shared, const Folder& folder, const Refresh& how);

/// A write transaction on one mailbox, or on two of one account.
class Change {
public:
    static Result<std::unique_ptr<Change>> begin(Shared& shared, const Folder& folder, Durable durable = Durable::all);
    /// The second mailbox; the same one again gives the same editor.
    Result<Placed> also(const Folder& folder);
    const Placed& place() const { return first_.place; }
    MailboxEditor& editor() { return *first_.editor; }
    Backend& backend() { return *shared_.backend; }
    /// Before UIDs are given: what a crash of the machine made the index forget is found again (once in a process's life
    /// is enough), and a mailbox the index does not know is taken in.
    Result<void> look_first(const Placed& place);
    /// Looks at the files again, after a name in the index turned out to be old.
    Result<void> rescan(const Placed& place);
    /// Commits if anything changed, then saves what is soft.
    Result<void> commit();
    /// The two steps of commit(), for whoever has to wait for more before what is soft may say that the files are known.
    Result<void> commit_index();
    void save_soft();

private:
    struct Side {
        std::optional<MailboxEditor> editor;
        DirState state;
        Placed place;
    };
    Change(Shared& shared, Txn txn) : shared_(shared), txn_(std::move(txn)) {}
    Result<void> open(Side& side, const Folder& folder);
    Shared& shared_;
    Txn txn_;
    Side first_, second_;
};

}  // namespace postern::store
