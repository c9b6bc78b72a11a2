/// The index of one account: what Maildir cannot say (UIDs, UIDVALIDITY, mod-sequences), in LMDB.
///
/// Messages lie in blocks of 128 UIDs: one value with their entries (flags, keywords, modseq), one with their
/// file names.  So 10,000 messages are 79 small values, and a changed flag rewrites 3 KB.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/index_format.h"
#include "lib/store/lmdb_env.h"
#include "lib/store/uidlist.h"

namespace postern::store {

/// Positions of the databases in the index environment.
enum IndexDb : std::size_t { kMetaDb, kMailboxesDb, kEntriesDb, kNamesDb, kVanishedDb };

/// Opens (or makes) the index in `directory`.  A file that is no sound LMDB file is set aside as
/// index.mdb.damaged and a new one begun.  Errors: unsupported (a newer format), denied, no_space, io.
Result<std::shared_ptr<Env>> open_index(const std::string& directory);
/// Notes that LMDB found its file damaged: the next open_index() sets it aside.
void mark_index_damaged(const std::string& directory);

/// Errors: corrupt.
Result<std::optional<MailboxRecord>> load_mailbox(const Txn& txn, std::string_view name);
/// Calls visit(EntriesView) for each block in UID order.  Errors: corrupt, or what `visit` returned.
template <class Visit>
Result<void> for_each_block(const Txn& txn, std::uint32_t mailbox, Visit&& visit) {
    Cursor cursor(txn, kEntriesDb);
    const std::string prefix = be32(mailbox);
    Result<bool> more = cursor.seek(prefix);
    for (; more && *more && cursor.key().size() == 8 && cursor.key().substr(0, 4) == prefix; more = cursor.next()) {
        Result<std::string_view> payload = unseal(Kind::entries, cursor.key(), cursor.value());
        if (!payload) {
            return payload.error();
        }
        Result<EntriesView> block = EntriesView::parse(*payload, read_be32(cursor.key().substr(4)));
        if (!block) {
            return block.error();
        }
        if (Result<void> visited = visit(*block); !visited) {
            return visited;
        }
    }
    if (!more) {
        return more.error();
    }
    return {};
}
/// The same for names: visit(NamesView&) walks it.
template <class Visit>
Result<void> for_each_names(const Txn& txn, std::uint32_t mailbox, Visit&& visit) {
    Cursor cursor(txn, kNamesDb);
    const std::string prefix = be32(mailbox);
    Result<bool> more = cursor.seek(prefix);
    for (; more && *more && cursor.key().size() == 8 && cursor.key().substr(0, 4) == prefix; more = cursor.next()) {
        Result<std::string_view> payload = unseal(Kind::names, cursor.key(), cursor.value());
        if (!payload) {
            return payload.error();
        }
        Result<NamesView> block = NamesView::parse(*payload);
        if (!block) {
            return block.error();
        }
        visit(*block);
        if (block->damaged()) {
            return Error(Errc::corrupt, "index: damaged names");
        }
    }
    if (!more) {
        return more.error();
    }
    return {};
}

/// Whether IMAP can say it: an atom (RFC 9051 section 9) of at most 255 bytes.
bool is_keyword(std::string_view text);

/// Names of mailboxes the index knows.
Result<std::vector<std::string>> indexed_mailboxes(const Txn& txn);
/// Takes `from`'s record to `to`; UIDs and cached data stay.  No record: nothing happens.
Result<void> rename_record(Txn& txn, std::string_view from, std::string_view to);

/// Changes one mailbox within a write transaction.  Nothing is written before finish(); the caller commits.
/// Pointers it returns live until the next call.
class MailboxEditor {
public:
    /// Makes the record when there is none: with `uidvalidity`, or a fresh one (never used in this account) for 0.
    static Result<MailboxEditor> open(Txn& txn, std::string_view name, std::uint32_t uidvalidity = 0);

    MailboxRecord& record() { return record_; }
    bool is_new() const { return is_new_; }
    /// The mod-sequence of this transaction; the first call takes it.
    Modseq change();
    bool changed() const { return change_ != 0 || record_dirty_; }
    void touch_record() { record_dirty_ = true; }

    /// Null when there is no such message.
    Result<const Entry*> find(Uid uid);
    Result<const StoredName*> name_of(Uid uid);
    /// Sets flags and keywords (of a message that find() knows) under change().
    Result<void> update(Uid uid, std::uint32_t flags, std::uint64_t keywords);
    /// The same without a new mod-sequence: for bits clients do not see.
    Result<void> update_quietly(Uid uid, std::uint32_t flags);
    Result<void> rename(Uid uid, std::string_view odd_suffix);
    /// For backends that cannot keep a message's base (mbox: which of several identical messages it is).
    Result<void> rebase(Uid uid, std::string_view base);
    /// Takes the next UID (or entry.uid when that is not below it) and change().
    Result<Uid> append(Entry entry, std::string base, std::string odd_suffix);
    Result<void> erase(Uid uid);
    /// Position of a keyword, made when missing.  Errors: too_big (kMaxKeywords), syntax (see is_keyword()).
    Result<std::size_t> keyword(std::string_view name);
    /// Throws away all messages (the index of this mailbox is damaged), for a scan to fill in again.
    Result<void> reset(std::uint32_t uidvalidity);

    /// Writes the blocks that are still in memory, so that the transaction's readers see them.
    Result<void> flush();
    /// Writes all; then the caller commits.
    Result<void> finish();
    /// What append() took in, for the uidlist.
    const std::vector<UidListEntry>& appended() const { return appended_; }
    Txn& txn() { return *txn_; }

private:
    MailboxEditor(Txn& txn, std::string_view name) : txn_(&txn), name_(name) {}
    Result<void> load(std::uint32_t block);
    Result<void> load_names();
    Result<void> prune_vanished();
    std::vector<Entry>::iterator position(Uid uid);
    void count(const Entry& entry, int by);

    Txn* txn_;
    std::string name_;
    MailboxRecord record_;
    bool is_new_ = false;
    bool record_dirty_ = false;
    Modseq change_ = 0;
    UidSet erased_;
    std::vector<UidListEntry> appended_;
    std::optional<std::uint32_t> block_;          ///< which one is in memory
    std::vector<Entry> entries_;
    std::vector<StoredName> names_;
    bool names_loaded_ = false;
    bool entries_dirty_ = false;
    bool names_dirty_ = false;
};

/// A UIDVALIDITY this account never used: the time, or one more than the last.
Result<std::uint32_t> next_uidvalidity(Txn& txn);
Result<std::uint32_t> next_mailbox_id(Txn& txn);
/// Removes all the index knows of a mailbox.
Result<void> forget_mailbox(Txn& txn, std::string_view name);

}  // namespace postern::store
