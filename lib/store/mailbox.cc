/// A client's snapshot of a mailbox: making it, reading it, bringing it up to date.
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "lib/base/strings.h"
#include "lib/store/shared.h"
#include "lib/store/watch.h"

namespace postern::store {
namespace {

Refresh how_to_refresh(const ViewState& view) {
    Refresh how;
    how.access = view.access;
    how.claim_recent = view.access == Access::read_write;
    how.look_closely = view.look_closely;
    return how;
}

/// All UIDs of the mailbox now, and the entries with a modseq above `since` and a UID below `below`.
Result<void> read_all(const Txn& txn, std::uint32_t mailbox, Modseq since, Uid below, UidSet& uids,
                      std::vector<Entry>& changed) {
    return for_each_block(txn, mailbox, [&](const EntriesView& block) {
        const bool any_changed = block.max_modseq() > since;
        UidRange run{0, 0};
        for (std::size_t i = 0; i < block.size(); ++i) {
            const Entry entry = block.at(i);
            if (run.last != 0 && entry.uid == run.last + 1) {
                ++run.last;
            } else {
                if (run.last != 0) {
                    uids.add(run);
                }
                run = UidRange{entry.uid, entry.uid};
            }
            if (any_changed && entry.modseq > since && entry.uid < below) {
                changed.push_back(entry);
            }
        }
        if (run.last != 0) {
            uids.add(run);
        }
        return Result<void>();
    });
}

void add_recent(ViewState& view, Uid from) {
    if (from < view.record.uidnext) {
        view.recent.add(view.within(UidSet(UidRange{from, view.record.uidnext - 1})));
    }
}

Row row_of(const ViewState& view, const Entry& entry) {
    Row row;
    row.seq = view.seq_of(entry.uid);
    row.uid = entry.uid;
    row.flags = (entry.flags & kStorableFlags) | (view.recent.contains(entry.uid) ? kRecent : 0u);
    row.keywords = entry.keywords;
    row.modseq = entry.modseq;
    return row;
}

bool was_silent(const ViewState& view, const Entry& entry) {
    return std::any_of(view.silent.begin(), view.silent.end(), [&entry](const std::pair<Modseq, UidSet>& own) {
        return own.first == entry.modseq && own.second.contains(entry.uid);
    });
}

/// Messages of the old snapshot that are no more, by descending sequence number.
void find_expunged(const ViewState& view, const UidSet& live, Changes& changes) {
    std::uint32_t seq = view.exists;
    for (auto range = view.uids.ranges().rbegin(); range != view.uids.ranges().rend(); ++range) {
        for (Uid uid = range->last;; --uid, --seq) {
            if (!live.contains(uid)) {
                changes.expunged.push_back(seq);
                changes.vanished.add(uid);
            }
            if (uid == range->first) {
                --seq;
                break;
            }
        }
    }
}

}  // namespace

namespace {

Result<std::unique_ptr<ViewState>> make_view(Shared& shared, const Folder& folder, Access access) {
    auto view = std::make_unique<ViewState>();
    view->folder = folder;
    view->access = access;
    Result<Refreshed> fresh = refresh(shared, folder, how_to_refresh(*view));
    if (!fresh) {
        return fresh.error();
    }
    view->record = std::move(fresh->record);
    Result<Txn> txn = Txn::begin(*shared.index, false);
    if (!txn) {
        return txn.error();
    }
    std::vector<Entry> none;
    if (Result<void> read = read_all(*txn, view->record.id, ~Modseq{0}, 0, view->uids, none); !read) {
        return read.error();
    }
    if (!view->uids.empty() && view->uids.ranges().back().last >= view->record.uidnext) {
        view->record.uidnext = view->uids.ranges().back().last + 1;   // another session was quicker just now
    }
    view->renumber();
    add_recent(*view, fresh->recent_from);
    return view;
}

}  // namespace

Result<std::unique_ptr<Mailbox>> Account::select(std::string_view name, Access access) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = existing_folder(*shared_, name);
    if (!folder) {
        return folder.error();
    }
    Result<std::unique_ptr<ViewState>> view = make_view(*shared_, *folder, access);
    if (!view && view.error().code == Errc::corrupt) {
        note_damage(*shared_, *folder, view.error());
        view = make_view(*shared_, *folder, access);
    }
    if (!view) {
        return view.error();
    }
    shared_->debug("Mailbox {}: Mailbox opened: {} messages, UIDVALIDITY {}, next UID {}", folder->name, (*view)->exists,
                   (*view)->record.uidvalidity, (*view)->record.uidnext);
    return std::make_unique<Mailbox>(shared_, std::move(*view));
}

Mailbox::Mailbox(std::shared_ptr<Shared> shared, std::unique_ptr<ViewState> state)
    : shared_(std::move(shared)), state_(std::move(state)) {}
Mailbox::~Mailbox() = default;

const std::string& Mailbox::name() const { return state_->folder.name; }
bool Mailbox::read_only() const { return state_->access == Access::read_only; }
std::uint32_t Mailbox::uidvalidity() const { return state_->record.uidvalidity; }
Uid Mailbox::uidnext() const { return state_->record.uidnext; }
Modseq Mailbox::highest_modseq() const { return state_->record.highest_modseq; }
std::uint32_t Mailbox::exists() const { return state_->exists; }
std::uint32_t Mailbox::recent() const { return static_cast<std::uint32_t>(state_->recent.size()); }
const std::vector<std::string>& Mailbox::keywords() const { return state_->record.keywords; }
bool Mailbox::can_add_keywords() const { return state_->record.keywords.size() < kMaxKeywords; }
Uid Mailbox::uid_of(std::uint32_t seq) const { return state_->uid_of(seq); }
std::uint32_t Mailbox::seq_of(Uid uid) const { return state_->seq_of(uid); }
const UidSet& Mailbox::uids() const { return state_->uids; }

std::string Mailbox::mailbox_id() const {
    return hex_encode(std::string_view(state_->record.guid.data(), state_->record.guid.size()));
}

std::uint32_t Mailbox::lower_seq(Uid uid) const {
    const std::vector<UidRange>& ranges = state_->uids.ranges();
    const auto at = std::lower_bound(ranges.begin(), ranges.end(), uid,
                                     [](const UidRange& range, Uid value) { return range.last < value; });
    if (at == ranges.end()) {
        return state_->exists + 1;
    }
    return state_->first_seq[static_cast<std::size_t>(at - ranges.begin())] + (uid > at->first ? uid - at->first : 0);
}

Result<std::uint32_t> Mailbox::first_unseen() {
    Result<Txn> txn = Txn::begin(*shared_->index, false);
    if (!txn) {
        return txn.error();
    }
    std::uint32_t seq = 0;
    Result<void> read = for_each_block(*txn, state_->record.id, [&](const EntriesView& block) {
        for (std::size_t i = 0; i < block.size() && seq == 0; ++i) {
            if (const Entry entry = block.at(i); (entry.flags & kSeen) == 0) {
                seq = state_->seq_of(entry.uid);
            }
        }
        return seq == 0 ? Result<void>() : Result<void>(Errc::closed, "found");   // ends the walk
    });
    if (!read && seq == 0) {
        return read.error();
    }
    return seq;
}

namespace {

/// Brings the snapshot to what the transaction shows, and says what is different.
Result<Changes> take_changes(const Txn& txn, ViewState& view, MailboxRecord record, Uid recent_from, Expunges expunges,
                             Arrivals arrivals) {
    Changes changes;
    const Uid old_uidnext = view.record.uidnext;
    const std::size_t old_recent = view.recent.size();
    UidSet live;
    std::vector<Entry> changed;
    if (Result<void> read = read_all(txn, record.id, view.record.highest_modseq, old_uidnext, live, changed); !read) {
        return read.error();
    }
    find_expunged(view, live, changes);
    changes.expunges_pending = expunges == Expunges::hold && !changes.expunged.empty();
    view.expunges_held = changes.expunges_pending;
    const bool any_new = !live.empty() && live.ranges().back().last >= old_uidnext;
    const bool arrived = any_new && arrivals == Arrivals::show;
    recent_from = std::min(recent_from, view.arrivals_held.value_or(recent_from));
    view.arrivals_held.reset();
    if (any_new && !arrived) {
        live = old_uidnext > 1 ? intersection(live, UidSet(UidRange{1, old_uidnext - 1})) : UidSet();
        record.uidnext = old_uidnext;
        view.arrivals_held = recent_from;
    }
    if (changes.expunges_pending) {
        live.add(changes.vanished);
        changes.expunged.clear();
        changes.vanished.clear();
    }
    view.record = std::move(record);
    view.uids = std::move(live);
    view.renumber();
    view.recent = view.within(view.recent);
    add_recent(view, std::max(recent_from, old_uidnext));
    for (const Entry& entry : changed) {
        changes.flags.push_back(Changes::FlagUpdate{row_of(view, entry), was_silent(view, entry)});
    }
    view.silent.clear();
    if (arrived) {
        changes.exists = view.exists;
    }
    if (view.recent.size() != old_recent) {
        changes.recent = static_cast<std::uint32_t>(view.recent.size());
    }
    changes.highest_modseq = view.record.highest_modseq;
    return changes;
}

}  // namespace

Result<Changes> Mailbox::sync(Expunges expunges, Arrivals arrivals) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    ViewState& view = *state_;
    Result<Refreshed> fresh = refresh(*shared_, view.folder, how_to_refresh(view));
    if (!fresh) {
        return fresh.error();
    }
    view.look_closely = false;
    if (fresh->record.uidvalidity != view.record.uidvalidity || fresh->record.id != view.record.id) {
        return Error(Errc::corrupt, "mailbox " + view.folder.name + " was replaced by another (UIDVALIDITY changed)");
    }
    Changes changes;
    changes.keywords_changed = fresh->record.keywords != view.record.keywords;
    const Modseq since = view.record.highest_modseq;
    const bool release = (view.expunges_held && expunges == Expunges::show) || (view.arrivals_held && arrivals == Arrivals::show);
    if (fresh->record.highest_modseq == since && !release) {
        view.record.keywords = std::move(fresh->record.keywords);
        changes.highest_modseq = since;
        changes.expunges_pending = view.expunges_held;
        return changes;
    }
    Result<Txn> txn = Txn::begin(*shared_->index, false);
    if (!txn) {
        return txn.error();
    }
    // Another session may have committed since; the record and the blocks must be of one moment.
    Result<std::optional<MailboxRecord>> record = load_mailbox(*txn, view.folder.name);
    if (!record || !*record) {
        return record ? Error(Errc::corrupt, "mailbox " + view.folder.name + " is gone") : record.error();
    }
    Result<Changes> found = take_changes(*txn, view, std::move(**record), fresh->recent_from, expunges, arrivals);
    if (!found) {
        note_damage(*shared_, view.folder, found.error());
        return found;
    }
    found->keywords_changed = changes.keywords_changed;
    return found;
}

Result<UidSet> Mailbox::deleted(const UidSet* among) {
    Result<Txn> txn = Txn::begin(*shared_->index, false);
    if (!txn) {
        return txn.error();
    }
    UidSet out;
    Result<void> read = for_each_block(*txn, state_->record.id, [&](const EntriesView& block) {
        for (std::size_t i = 0; i < block.size(); ++i) {
            const Entry entry = block.at(i);
            if ((entry.flags & kDeleted) != 0 && state_->uids.contains(entry.uid) &&
                (among == nullptr || among->contains(entry.uid))) {
                out.add(entry.uid);
            }
        }
        return Result<void>();
    });
    return read ? Result<UidSet>(std::move(out)) : Result<UidSet>(read.error());
}

Result<UidSet> Mailbox::changed_since(Modseq since) {
    Result<Txn> txn = Txn::begin(*shared_->index, false);
    if (!txn) {
        return txn.error();
    }
    UidSet all;
    std::vector<Entry> changed;
    if (Result<void> read = read_all(*txn, state_->record.id, since, 0xffffffffu, all, changed); !read) {
        return read.error();
    }
    UidSet out;
    for (const Entry& entry : changed) {
        if (state_->uids.contains(entry.uid)) {
            out.add(entry.uid);
        }
    }
    return out;
}

namespace {

/// All UIDs that were given and are not there: what may be said when the log does not reach back far enough.
UidSet all_absent(const ViewState& view) {
    UidSet out;
    Uid next = 1;
    for (const UidRange& range : view.uids.ranges()) {
        if (range.first > next) {
            out.add(UidRange{next, range.first - 1});
        }
        next = range.last + 1;
    }
    if (next < view.record.uidnext) {
        out.add(UidRange{next, view.record.uidnext - 1});
    }
    return out;
}

}  // namespace

Result<UidSet> Mailbox::vanished_since(Modseq since) {
    Result<Txn> txn = Txn::begin(*shared_->index, false);
    if (!txn) {
        return txn.error();
    }
    if (since < state_->record.vanished_floor) {
        return all_absent(*state_);
    }
    UidSet out;
    Cursor cursor(*txn, kVanishedDb);
    const std::string prefix = be32(state_->record.id);
    Result<bool> more = cursor.seek(key_of(state_->record.id, since + 1));
    for (; more && *more && cursor.key().size() == 12 && cursor.key().substr(0, 4) == prefix; more = cursor.next()) {
        Result<std::string_view> payload = unseal(Kind::vanished, cursor.key(), cursor.value());
        Result<UidSet> ranges = payload ? decode_ranges(*payload) : payload.error();
        if (!ranges) {
            return all_absent(*state_);
        }
        out.add(*ranges);
    }
    if (!more) {
        return more.error();
    }
    if (state_->expunges_held) {
        for (const UidRange& range : state_->uids.ranges()) {
            out.remove(range);
        }
    }
    return out;
}

Result<std::unique_ptr<Watch>> Mailbox::watch() {
    std::vector<std::string> directories = shared_->backend->watched(state_->folder);
    return make_watch(directories, shared_->index->path(), *state_);
}

Result<void> Mailbox::lock_exclusively() {
    const std::string path = state_->folder.control + "/.postern-pop3.lock";
    state_->pop3_lock.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!state_->pop3_lock) {
        return errno_error("open " + path);
    }
    if (flock(state_->pop3_lock.get(), LOCK_EX | LOCK_NB) != 0) {
        state_->pop3_lock.reset();
        return errno == EWOULDBLOCK ? Error(Errc::temporary, "mailbox is in use by another session") : errno_error("lock " + path);
    }
    return {};
}

}  // namespace postern::store
