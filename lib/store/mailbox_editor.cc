#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/store/index.h"

namespace postern::store {
namespace {

constexpr std::size_t kMaxKeywordBytes = 255;
constexpr std::string_view kNotInAtoms = "(){%*\"\\]";
constexpr std::uint32_t kMaxVanishedRecords = 2048;

}  // namespace

bool is_keyword(std::string_view text) {
    return !text.empty() && text.size() <= kMaxKeywordBytes && std::all_of(text.begin(), text.end(), [](char c) {
        return c > ' ' && c < 127 && kNotInAtoms.find(c) == std::string_view::npos;
    });
}

Result<MailboxEditor> MailboxEditor::open(Txn& txn, std::string_view name, std::uint32_t uidvalidity) {
    MailboxEditor editor(txn, name);
    Result<std::optional<MailboxRecord>> record = load_mailbox(txn, name);
    if (!record && record.error().code != Errc::corrupt) {
        return record.error();
    }
    if (record && *record) {
        editor.record_ = std::move(**record);
        return editor;
    }
    // Made now.  A damaged record comes here too: its number is lost, its blocks are never looked at again.
    if (uidvalidity == 0) {
        Result<std::uint32_t> fresh = next_uidvalidity(txn);
        if (!fresh) {
            return fresh.error();
        }
        uidvalidity = *fresh;
    }
    Result<std::uint32_t> id = next_mailbox_id(txn);
    if (!id) {
        return id.error();
    }
    editor.record_.id = *id;
    editor.record_.uidvalidity = uidvalidity;
    const std::string guid = random_bytes(editor.record_.guid.size());
    std::copy(guid.begin(), guid.end(), editor.record_.guid.begin());
    editor.is_new_ = true;
    editor.record_dirty_ = true;
    return editor;
}

Result<void> MailboxEditor::reset(std::uint32_t uidvalidity) {
    const std::string prefix = be32(record_.id);
    for (const std::size_t db : {kEntriesDb, kNamesDb, kVanishedDb}) {
        if (Result<void> done = txn_->del_prefix(db, prefix); !done) {
            return done;
        }
    }
    block_.reset();
    entries_dirty_ = names_dirty_ = false;
    if (record_.uidvalidity != uidvalidity) {
        record_.uidvalidity = uidvalidity;
        record_.uidnext = 1;
        record_.recent_from = 1;
    }
    record_.messages = record_.unseen = record_.in_new = record_.vanished_records = 0;
    record_.vanished_floor = change();
    return {};
}

Modseq MailboxEditor::change() {
    if (change_ == 0) {
        change_ = ++record_.highest_modseq;
    }
    return change_;
}

void MailboxEditor::count(const Entry& entry, int by) {
    const auto step = static_cast<std::uint32_t>(by);     // wraps on purpose for -1
    record_.messages += step;
    record_.unseen += (entry.flags & kSeen) == 0 ? step : 0;
    record_.in_new += (entry.flags & kInNew) != 0 ? step : 0;
    record_dirty_ = true;
}

Result<void> MailboxEditor::load(std::uint32_t block) {
    if (block_ == block) {
        return {};
    }
    if (Result<void> flushed = flush(); !flushed) {
        return flushed;
    }
    entries_.clear();
    names_.clear();
    names_loaded_ = false;
    block_ = block;
    const std::string key = key_of(record_.id, block);
    Result<std::optional<std::string_view>> value = txn_->get(kEntriesDb, key);
    if (!value) {
        return value.error();
    }
    if (!*value) {
        names_loaded_ = true;
        return {};
    }
    Result<std::string_view> payload = unseal(Kind::entries, key, **value);
    if (!payload) {
        return payload.error();
    }
    Result<EntriesView> view = EntriesView::parse(*payload, block);
    if (!view) {
        return view.error();
    }
    entries_.reserve(view->size() + 1);
    for (std::size_t i = 0; i < view->size(); ++i) {
        entries_.push_back(view->at(i));
    }
    return {};
}

Result<void> MailboxEditor::load_names() {
    if (names_loaded_) {
        return {};
    }
    const std::string key = key_of(record_.id, *block_);
    Result<std::optional<std::string_view>> value = txn_->get(kNamesDb, key);
    if (!value) {
        return value.error();
    }
    Result<std::string_view> payload = unseal(Kind::names, key, value->value_or(std::string_view()));
    if (!payload) {
        return payload.error();
    }
    Result<NamesView> view = NamesView::parse(*payload);
    if (!view) {
        return view.error();
    }
    while (view->next()) {
        names_.push_back(StoredName{view->uid(), std::string(view->base()), std::string(view->odd_suffix())});
    }
    const bool matches = names_.size() == entries_.size() &&
                         std::equal(names_.begin(), names_.end(), entries_.begin(),
                                    [](const StoredName& n, const Entry& e) { return n.uid == e.uid; });
    if (view->damaged() || !matches) {
        return Error(Errc::corrupt, "index: damaged names");
    }
    names_loaded_ = true;
    return {};
}

Result<void> MailboxEditor::flush() {
    if (!block_) {
        return {};
    }
    const std::string key = key_of(record_.id, *block_);
    if (entries_dirty_ && entries_.empty()) {
        entries_dirty_ = names_dirty_ = false;
        if (Result<void> gone = txn_->del(kEntriesDb, key); !gone) {
            return gone;
        }
        return txn_->del(kNamesDb, key);
    }
    if (std::exchange(entries_dirty_, false)) {
        if (Result<void> put = txn_->put(kEntriesDb, key, seal(Kind::entries, key, encode_entries(entries_))); !put) {
            return put;
        }
    }
    if (std::exchange(names_dirty_, false)) {
        return txn_->put(kNamesDb, key, seal(Kind::names, key, encode_names(names_)));
    }
    return {};
}

std::vector<Entry>::iterator MailboxEditor::position(Uid uid) {
    const auto at = std::lower_bound(entries_.begin(), entries_.end(), uid,
                                     [](const Entry& entry, Uid value) { return entry.uid < value; });
    return at != entries_.end() && at->uid == uid ? at : entries_.end();
}

Result<const Entry*> MailboxEditor::find(Uid uid) {
    if (Result<void> loaded = load(uid >> kBlockBits); !loaded) {
        return loaded.error();
    }
    const auto at = position(uid);
    return at == entries_.end() ? nullptr : &*at;
}

Result<const StoredName*> MailboxEditor::name_of(Uid uid) {
    Result<const Entry*> entry = find(uid);
    if (!entry) {
        return entry.error();
    }
    if (*entry == nullptr) {
        return static_cast<const StoredName*>(nullptr);
    }
    if (Result<void> loaded = load_names(); !loaded) {
        return loaded.error();
    }
    return &names_[static_cast<std::size_t>(*entry - entries_.data())];
}

Result<void> MailboxEditor::update(Uid uid, std::uint32_t flags, std::uint64_t keywords) {
    if (Result<void> loaded = load(uid >> kBlockBits); !loaded) {
        return loaded;
    }
    if (const auto at = position(uid); at != entries_.end()) {
        count(*at, -1);
        at->flags = flags;
        at->keywords = keywords;
        at->modseq = change();
        count(*at, 1);
        entries_dirty_ = true;
    }
    return {};
}

Result<void> MailboxEditor::update_quietly(Uid uid, std::uint32_t flags) {
    if (Result<void> loaded = load(uid >> kBlockBits); !loaded) {
        return loaded;
    }
    if (const auto at = position(uid); at != entries_.end()) {
        count(*at, -1);
        at->flags = flags;
        count(*at, 1);
        entries_dirty_ = true;
    }
    return {};
}

Result<void> MailboxEditor::rename(Uid uid, std::string_view odd_suffix) {
    Result<const StoredName*> name = name_of(uid);
    if (!name) {
        return name.error();
    }
    if (*name != nullptr && (*name)->odd_suffix != odd_suffix) {
        names_[static_cast<std::size_t>(*name - names_.data())].odd_suffix = odd_suffix;
        names_dirty_ = true;
    }
    return {};
}

Result<void> MailboxEditor::rebase(Uid uid, std::string_view base) {
    Result<const StoredName*> name = name_of(uid);
    if (!name) {
        return name.error();
    }
    if (*name != nullptr && (*name)->base != base) {
        names_[static_cast<std::size_t>(*name - names_.data())].base = base;
        names_dirty_ = record_dirty_ = true;
    }
    return {};
}

Result<Uid> MailboxEditor::append(Entry entry, std::string base, std::string odd_suffix) {
    entry.uid = std::max(entry.uid, record_.uidnext);
    if (entry.uid == 0xffffffffu) {
        return Error(Errc::too_big, "mailbox " + name_ + " has no UID left");
    }
    entry.modseq = change();
    if (Result<void> loaded = load(entry.uid >> kBlockBits); !loaded) {
        return loaded.error();
    }
    if (Result<void> loaded = load_names(); !loaded) {
        return loaded.error();
    }
    entries_.push_back(entry);
    appended_.push_back(UidListEntry{entry.uid, base});
    names_.push_back(StoredName{entry.uid, std::move(base), std::move(odd_suffix)});
    entries_dirty_ = names_dirty_ = true;
    record_.uidnext = entry.uid + 1;
    count(entry, 1);
    return entry.uid;
}

Result<void> MailboxEditor::erase(Uid uid) {
    Result<const StoredName*> name = name_of(uid);
    if (!name) {
        return name.error();
    }
    if (*name != nullptr) {
        const auto at = *name - names_.data();
        count(entries_[static_cast<std::size_t>(at)], -1);
        entries_.erase(entries_.begin() + at);
        names_.erase(names_.begin() + at);
        entries_dirty_ = names_dirty_ = true;
        change();
        erased_.add(uid);
    }
    return {};
}

Result<std::size_t> MailboxEditor::keyword(std::string_view name) {
    for (std::size_t i = 0; i < record_.keywords.size(); ++i) {
        if (equals_ignoring_case(record_.keywords[i], name)) {
            return i;
        }
    }
    if (!is_keyword(name)) {
        return Error(Errc::syntax, "keyword is too long, or has characters that an atom cannot have");
    }
    if (record_.keywords.size() == kMaxKeywords) {
        return Error(Errc::too_big, "mailbox " + name_ + " has no room for another keyword");
    }
    record_.keywords.emplace_back(name);
    record_dirty_ = true;
    return record_.keywords.size() - 1;
}

Result<void> MailboxEditor::prune_vanished() {
    const std::string prefix = be32(record_.id);
    std::vector<std::string> old;
    Modseq floor = record_.vanished_floor;
    {
        Cursor cursor(*txn_, kVanishedDb);
        Result<bool> more = cursor.seek(prefix);
        for (; more && *more && cursor.key().substr(0, 4) == prefix && old.size() < kMaxVanishedRecords / 2;
             more = cursor.next()) {
            old.emplace_back(cursor.key());
        }
        if (!more) {
            return more.error();
        }
    }
    for (const std::string& key : old) {
        floor = std::uint64_t{read_be32(std::string_view(key).substr(4))} << 32 | read_be32(std::string_view(key).substr(8));
        if (Result<void> gone = txn_->del(kVanishedDb, key); !gone) {
            return gone;
        }
    }
    record_.vanished_floor = floor;
    record_.vanished_records -= std::min(record_.vanished_records, static_cast<std::uint32_t>(old.size()));
    return {};
}

Result<void> MailboxEditor::finish() {
    if (Result<void> flushed = flush(); !flushed) {
        return flushed;
    }
    if (!erased_.empty()) {
        const std::string key = key_of(record_.id, change_);
        if (Result<void> put = txn_->put(kVanishedDb, key, seal(Kind::vanished, key, encode_ranges(erased_))); !put) {
            return put;
        }
        erased_.clear();
        if (++record_.vanished_records > kMaxVanishedRecords) {
            if (Result<void> pruned = prune_vanished(); !pruned) {
                return pruned;
            }
        }
    }
    if (!changed()) {
        return {};
    }
    return txn_->put(kMailboxesDb, name_, seal(Kind::mailbox, name_, encode_mailbox(record_)));
}

}  // namespace postern::store
