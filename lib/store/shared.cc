#include "lib/store/shared.h"

#include <algorithm>

namespace postern::store {
namespace {

/// Nothing but the record and the directory's times: what most calls find.
Result<std::optional<Refreshed>> nothing_to_do(Shared& shared, const Folder& folder, const Refresh& how) {
    Result<Txn> txn = Txn::begin(*shared.index, false);
    if (!txn) {
        return txn.error();
    }
    Result<std::optional<MailboxRecord>> record = load_mailbox(*txn, folder.name);
    if (!record || !*record) {
        return record ? Result<std::optional<Refreshed>>(std::optional<Refreshed>()) : record.error();
    }
    txn->abort();
    const DirState state = shared.cache->directory((*record)->id).value_or(DirState());
    if ((how.claim_recent && (*record)->recent_from < (*record)->uidnext) || (how.look_closely && state.own_change != 0)) {
        return std::optional<Refreshed>();
    }
    Result<bool> needed = shared.backend->needs_scan(folder, state, **record, how.access);
    if (!needed) {
        return needed.error();
    }
    if (*needed) {
        return std::optional<Refreshed>();
    }
    shared.compared.insert((*record)->id);
    Refreshed out;
    out.recent_from = (*record)->recent_from;
    out.record = std::move(**record);
    return std::optional<Refreshed>(std::move(out));
}

Result<Refreshed> scan_and_commit(Shared& shared, const Folder& folder, const Refresh& how) {
    Result<std::unique_ptr<Change>> change = Change::begin(shared, folder);
    if (!change) {
        return change.error();
    }
    const Placed& place = (*change)->place();
    if (how.look_closely && place.state->own_change != 0) {
        place.state->own_change = 0;
        place.state->cur_checked = 0;             // too near to the last change to be trusted
    }
    Result<bool> needed = shared.backend->needs_scan(folder, *place.state, place.editor->record(), how.access);
    if (!needed) {
        return needed.error();
    }
    if (*needed) {
        if (Result<void> scanned = shared.backend->scan(place, how.access); !scanned) {
            return scanned.error();
        }
    }
    shared.compared.insert(place.editor->record().id);
    Refreshed out;
    MailboxRecord& record = place.editor->record();
    out.recent_from = record.recent_from;
    if (how.claim_recent && record.recent_from != record.uidnext) {
        record.recent_from = record.uidnext;
        place.editor->touch_record();
    }
    if (Result<void> committed = (*change)->commit(); !committed) {
        return committed.error();
    }
    out.record = record;
    return out;
}

/// Begins again with the files and, where there is one, the uidlist.
Result<void> drop_mailbox_index(Shared& shared, const Folder& folder) {
    Result<Txn> txn = Txn::begin(*shared.index, true);
    if (!txn) {
        return txn.error();
    }
    if (Result<std::optional<MailboxRecord>> record = load_mailbox(*txn, folder.name); record && *record) {
        shared.cache->forget((*record)->id);
    }
    Result<void> done = forget_mailbox(*txn, folder.name);
    return done ? txn->commit() : done;
}

}  // namespace

void ViewState::renumber() {
    first_seq.clear();
    std::uint32_t seq = 1;
    for (const UidRange& range : uids.ranges()) {
        first_seq.push_back(seq);
        seq += range.last - range.first + 1;
    }
    exists = seq - 1;
}

std::uint32_t ViewState::seq_of(Uid uid) const {
    const std::vector<UidRange>& ranges = uids.ranges();
    const auto at = std::lower_bound(ranges.begin(), ranges.end(), uid,
                                     [](const UidRange& range, Uid value) { return range.last < value; });
    if (at == ranges.end() || at->first > uid) {
        return 0;
    }
    return first_seq[static_cast<std::size_t>(at - ranges.begin())] + (uid - at->first);
}

Uid ViewState::uid_of(std::uint32_t seq) const {
    if (seq == 0 || seq > exists) {
        return 0;
    }
    const auto after = std::upper_bound(first_seq.begin(), first_seq.end(), seq);
    const auto n = static_cast<std::size_t>(after - first_seq.begin()) - 1;
    return uids.ranges()[n].first + (seq - first_seq[n]);
}

Result<Folder> existing_folder(const Shared& shared, std::string_view name) {
    Result<Folder> folder = shared.layout.folder(name);
    if (folder && !shared.layout.exists(*folder)) {
        return Error(Errc::not_found, "mailbox " + folder->name + " does not exist");
    }
    return folder;
}

Result<Refreshed> refresh(Shared& shared, const Folder& folder, const Refresh& how) {
    bool damaged = shared.damaged.erase(folder.name) != 0;
    if (damaged) {
        // Noted by note_damage(): straight to the rebuilding.
    } else if (Result<std::optional<Refreshed>> quick = nothing_to_do(shared, folder, how); quick && *quick) {
        return std::move(**quick);
    } else if (!quick && quick.error().code != Errc::corrupt) {
        return quick.error();
    } else {
        damaged = !quick;
    }
    if (!damaged) {
        Result<Refreshed> done = scan_and_commit(shared, folder, how);
        if (done || done.error().code != Errc::corrupt) {
            return done;
        }
    }
    Result<void> dropped = drop_mailbox_index(shared, folder);
    Result<Refreshed> rebuilt = dropped ? scan_and_commit(shared, folder, how) : dropped.error();
    // An index that was replaced under us is not ours to judge.
    if (!rebuilt && rebuilt.error().code == Errc::corrupt && shared.index->is_current()) {
        mark_index_damaged(shared.index_directory);
    }
    return rebuilt;
}

void note_damage(Shared& shared, const Folder& folder, const Error& error) {
    if (error.code == Errc::corrupt) {
        shared.damaged.insert(folder.name);
    }
}

Result<void> Change::open(Side& side, const Folder& folder) {
    Result<MailboxEditor> editor = MailboxEditor::open(txn_, folder.name);
    if (!editor) {
        return editor.error();
    }
    side.editor.emplace(std::move(*editor));
    side.state = shared_.cache->directory(side.editor->record().id).value_or(DirState());
    side.place = Placed{folder, &*side.editor, &side.state};
    return {};
}

Result<std::unique_ptr<Change>> Change::begin(Shared& shared, const Folder& folder, Durable durable) {
    Result<Txn> txn = Txn::begin(*shared.index, true, durable);
    if (!txn) {
        return txn.error();
    }
    std::unique_ptr<Change> change(new Change(shared, std::move(*txn)));
    if (Result<void> opened = change->open(change->first_, folder); !opened) {
        return opened.error();
    }
    return change;
}

Result<Placed> Change::also(const Folder& folder) {
    if (folder.name == first_.place.folder.name) {
        return first_.place;
    }
    if (Result<void> opened = open(second_, folder); !opened) {
        return opened.error();
    }
    return second_.place;
}

Result<void> Change::look_first(const Placed& place) {
    const MailboxRecord& record = place.editor->record();
    if (place.editor->is_new()) {
        return rescan(place);
    }
    if (!shared_.compared.insert(record.id).second) {
        return {};
    }
    Result<bool> needed = shared_.backend->needs_scan(place.folder, *place.state, record, Access::read_only);
    Result<void> done = needed ? Result<void>() : needed.error();
    if (needed && *needed) {
        done = shared_.backend->scan(place, Access::read_only);
    }
    if (!done) {
        shared_.compared.erase(record.id);
    }
    return done;
}

Result<void> Change::rescan(const Placed& place) {
    *place.state = DirState();
    return shared_.backend->scan(place, Access::read_only);
}

Result<void> Change::commit() {
    Result<void> done = commit_index();
    if (done) {
        save_soft();
    }
    return done;
}

Result<void> Change::commit_index() {
    bool changed = false;
    for (Side* const side : {&first_, &second_}) {
        if (side->editor) {
            if (Result<void> finished = side->editor->finish(); !finished) {
                return finished;
            }
            changed = changed || side->editor->changed();
        }
    }
    if (changed) {
        if (Result<void> committed = txn_.commit(); !committed) {
            return committed;
        }
    } else {
        txn_.abort();
    }
    return {};
}

void Change::save_soft() {
    for (Side* const side : {&first_, &second_}) {
        if (side->editor) {
            shared_.cache->save_directory(side->editor->record().id, side->state);
            shared_.backend->committed(side->place.folder, *side->editor);
        }
    }
}

}  // namespace postern::store
