/// Changes a client makes to messages of its mailbox.
#include <algorithm>

#include "lib/store/shared.h"
#include "lib/store/uid_arithmetic.h"

namespace postern::store {
namespace {

Error read_only_error(const Folder& folder) { return Error(Errc::denied, "mailbox " + folder.name + " is open read-only"); }

/// A write transaction on the view's mailbox, if it is still the same one.
Result<std::unique_ptr<Change>> begin_change(Shared& shared, const ViewState& view) {
    Result<std::unique_ptr<Change>> change = Change::begin(shared, view.folder);
    if (change && ((*change)->editor().is_new() || (*change)->editor().record().id != view.record.id ||
                   (*change)->editor().record().uidvalidity != view.record.uidvalidity)) {
        return Error(Errc::corrupt, "mailbox " + view.folder.name + " was replaced by another");
    }
    return change;
}

/// Turns a STORE command into the flags each message shall have.
class StorePlan {
public:
    /// `seen` is the newest mod-sequence that the client has been told of.
    StorePlan(const FlagChange& change, std::uint64_t keywords, Modseq seen)
        : change_(change), keywords_(keywords), seen_(seen) {}

    Result<void> plan(MailboxEditor& editor, const UidSet& uids, StoreResult& result) {
        edits_.clear();
        return for_each_uid(uids, [&](Uid uid) -> Result<void> {
            Result<const Entry*> entry = editor.find(uid);
            if (!entry) {
                return entry.error();
            }
            if (*entry == nullptr) {
                result.gone.add(uid);
            } else if (change_.unchanged_since && (*entry)->modseq > *change_.unchanged_since) {
                result.modified.add(uid);
            } else {
                add(**entry);
            }
            return {};
        });
    }
    const std::vector<FlagEdit>& edits() const { return edits_; }
    /// What others have changed and the client does not know yet: a silent store must not hide that (RFC 9051 section 6.4.6).
    const UidSet& news() const { return news_; }

private:
    void add(const Entry& entry) {
        if (entry.modseq > seen_) {
            news_.add(entry.uid);
        }
        FlagEdit edit{entry.uid, entry.flags & kStorableFlags, entry.keywords};
        const std::uint32_t flags = change_.flags & kStorableFlags;
        switch (change_.how) {
            case FlagChange::How::replace: edit.flags = flags; edit.keywords = keywords_; break;
            case FlagChange::How::add: edit.flags |= flags; edit.keywords |= keywords_; break;
            case FlagChange::How::remove: edit.flags &= ~flags; edit.keywords &= ~keywords_; break;
        }
        if (edit.flags != (entry.flags & kStorableFlags) || edit.keywords != entry.keywords) {
            edits_.push_back(edit);
        }
    }
    const FlagChange& change_;
    std::uint64_t keywords_;
    Modseq seen_;
    std::vector<FlagEdit> edits_;
    UidSet news_;
};

Result<std::uint64_t> keyword_bits(MailboxEditor& editor, const FlagChange& change) {
    std::uint64_t bits = 0;
    for (const std::string& keyword : change.keywords) {
        const std::vector<std::string>& known = editor.record().keywords;
        if (change.how == FlagChange::How::remove && std::find(known.begin(), known.end(), keyword) == known.end() &&
            known.size() == kMaxKeywords) {
            continue;
        }
        Result<std::size_t> position = editor.keyword(keyword);
        if (!position) {
            return position.error();
        }
        bits |= std::uint64_t{1} << *position;
    }
    return bits;
}

}  // namespace

Result<StoreResult> Mailbox::store(const UidSet& uids, const FlagChange& change) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    if (read_only()) {
        return read_only_error(state_->folder);
    }
    Result<std::unique_ptr<Change>> begun = begin_change(*shared_, *state_);
    if (!begun) {
        return begun.error();
    }
    Change& transaction = **begun;
    MailboxEditor& editor = transaction.editor();
    Result<std::uint64_t> bits = keyword_bits(editor, change);
    if (!bits) {
        return bits.error();
    }
    StoreResult result;
    StorePlan plan(change, *bits, state_->record.highest_modseq);
    UidSet missing;
    UidSet changed;
    const Modseq before = editor.record().highest_modseq;
    Result<void> done = plan.plan(editor, state_->within(uids), result);
    for (int attempt = 0; done && attempt < 2; ++attempt) {
        missing.clear();
        done = shared_->backend->set_flags(transaction.place(), plan.edits(), missing);
        for (const FlagEdit& edit : plan.edits()) {
            changed.add(edit.uid);
        }
        if (!done || missing.empty() || attempt == 1) {
            break;
        }
        done = transaction.rescan(transaction.place());
        if (done) {
            done = plan.plan(editor, missing, result);
        }
    }
    if (!done) {
        note_damage(*shared_, state_->folder, done.error());
        return done.error();
    }
    result.gone.add(missing);
    if (Result<void> committed = transaction.commit(); !committed) {
        return committed.error();
    }
    if (editor.record().highest_modseq != before && !changed.empty()) {
        shared_->debug("Mailbox {}: UIDs {}: Flags changed", state_->folder.name, changed.text());
        result.modseq = editor.record().highest_modseq;
        if (change.silent) {
            for (const UidRange& range : plan.news().ranges()) {
                changed.remove(range);
            }
            state_->silent.emplace_back(result.modseq, std::move(changed));
        }
    }
    return result;
}

Result<void> Mailbox::expunge(const UidSet& uids) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    if (read_only()) {
        return read_only_error(state_->folder);
    }
    const UidSet targets = state_->within(uids);
    if (targets.empty()) {
        return {};
    }
    Result<std::unique_ptr<Change>> begun = begin_change(*shared_, *state_);
    if (!begun) {
        return begun.error();
    }
    Change& transaction = **begun;
    UidSet missing;
    Result<void> done = shared_->backend->expunge(transaction.place(), targets, missing);
    if (done && !missing.empty()) {
        const UidSet again = missing;
        missing.clear();
        done = transaction.rescan(transaction.place());
        if (done) {
            done = shared_->backend->expunge(transaction.place(), again, missing);
        }
    }
    if (!done) {
        note_damage(*shared_, state_->folder, done.error());
    }
    // Also after an error: what is gone from the disk must be gone from the index, and those are on record.
    Result<void> committed = transaction.commit();
    if (committed) {
        shared_->debug("Mailbox {}: UIDs {}: Expunged", state_->folder.name, targets.text());
        shared_->cache->erase(state_->record.id, targets);
    }
    return done ? committed : done;
}

namespace {

void run_undo(Copied& copied) {
    if (copied.undo) {
        copied.undo->run();
    }
}

/// What was copied at once, and what after another look at the files.
struct CopiedTwice {
    Copied first, second;
};

Result<CopiedTwice> copy_messages(Shared& shared, Change& transaction, const Placed& to, const UidSet& uids, bool move) {
    UidSet missing;
    Result<Copied> first = shared.backend->copy(transaction.place(), to, uids, move, missing);
    if (!first) {
        return first.error();
    }
    CopiedTwice out;
    out.first = std::move(*first);
    if (!missing.empty()) {
        const UidSet again = missing;
        missing.clear();
        Result<void> scanned = transaction.rescan(transaction.place());
        Result<Copied> second = scanned ? shared.backend->copy(transaction.place(), to, again, move, missing) : scanned.error();
        if (!second) {
            run_undo(out.first);
            return second.error();
        }
        out.second = std::move(*second);
    }
    return out;
}

Result<Assigned> transfer(Shared& shared, const ViewState& view, const UidSet& uids, std::string_view mailbox, bool move) {
    Result<Folder> target = existing_folder(shared, mailbox);
    if (!target) {
        return target.error();
    }
    Result<std::unique_ptr<Change>> begun = begin_change(shared, view);
    if (!begun) {
        return begun.error();
    }
    Change& transaction = **begun;
    Result<Placed> to = transaction.also(*target);
    if (!to) {
        return to.error();
    }
    if (Result<void> looked = transaction.look_first(*to); !looked) {
        return looked.error();
    }
    Result<CopiedTwice> copied = copy_messages(shared, transaction, *to, view.within(uids), move);
    if (!copied) {
        note_damage(shared, view.folder, copied.error());
        return copied.error();
    }
    if (Result<void> committed = transaction.commit(); !committed) {
        run_undo(copied->first);
        run_undo(copied->second);
        return committed.error();
    }
    copied->first.pairs.insert(copied->first.pairs.end(), copied->second.pairs.begin(), copied->second.pairs.end());
    const UidPairs* const pairs = &copied->first.pairs;
    shared.cache->copy(transaction.editor().record().id, to->editor->record().id, *pairs);
    Assigned assigned;
    assigned.uidvalidity = to->editor->record().uidvalidity;
    UidSet moved;
    for (const auto& [source, uid] : *pairs) {
        assigned.source.push_back(source);
        assigned.uids.push_back(uid);
        moved.add(source);
    }
    shared.debug("Mailbox {}: UIDs {}: {} to {}", view.folder.name, moved.text(), move ? "Moved" : "Copied", target->name);
    if (move) {
        shared.cache->erase(transaction.editor().record().id, moved);
    }
    return assigned;
}

}  // namespace

Result<Assigned> Mailbox::copy_to(const UidSet& uids, std::string_view mailbox) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    return transfer(*shared_, *state_, uids, mailbox, false);
}

Result<Assigned> Mailbox::move_to(const UidSet& uids, std::string_view mailbox) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    if (read_only()) {
        return read_only_error(state_->folder);
    }
    return transfer(*shared_, *state_, uids, mailbox, true);
}

}  // namespace postern::store
