/// How a Maildir and its index are compared.
///
/// new/ is listed before cur/: a message that moves meanwhile is seen twice, never not at all.  A file that is
/// renamed while its directory is listed may not show up; so a message counts as gone only when it is missing from
/// a listing during which the directory did not change, or from several.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <unordered_map>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/store/location.h"
#include "lib/store/maildir.h"
#include "lib/store/maildir_name.h"

namespace postern::store {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kTmpLife = 36 * 3600;      ///< seconds; Maildir's rule
constexpr std::int64_t kTmpEvery = 8 * 3600 * kSecond;
constexpr int kListings = 4;
constexpr Uid kMaxForgotten = 1 << 16;            ///< UIDs; more than one transaction gives

/// A message the index knows.  `base` and `odd_suffix` lie in LMDB's pages: valid until the first write.
struct Known {
    Entry entry;
    std::string_view base, odd_suffix;
    bool seen = false;
};

struct Changed {
    Uid uid = 0;
    std::uint32_t flags = 0;
    std::uint64_t keywords = 0;
    bool visible = false;
    std::string odd_suffix;
};

struct Fresh {
    DirListing::File file;
    DeliveryTime time;
};

/// Finds known messages by base.
class KnownTable {
public:
    Result<void> load(const Txn& txn, std::uint32_t mailbox);
    Known* find(std::string_view base);
    std::vector<Known>& all() { return known_; }

private:
    std::vector<Known> known_;
    std::vector<std::uint32_t> slots_ = {0};      ///< index + 1 into known_, 0 for empty; a power of two of them
};

Result<void> KnownTable::load(const Txn& txn, std::uint32_t mailbox) {
    Result<void> read = for_each_block(txn, mailbox, [&](const EntriesView& block) {
        for (std::size_t i = 0; i < block.size(); ++i) {
            known_.push_back(Known{block.at(i), {}, {}, false});
        }
        return Result<void>();
    });
    if (!read) {
        return read;
    }
    std::size_t size = 64;
    while (size < known_.size() * 2) {
        size *= 2;
    }
    slots_.assign(size, 0);
    std::size_t at = 0;
    bool matches = true;
    read = for_each_names(txn, mailbox, [&](NamesView& names) {
        while (names.next()) {
            if (at == known_.size() || known_[at].entry.uid != names.uid()) {
                matches = false;
                return;
            }
            known_[at].base = names.base();
            known_[at].odd_suffix = names.odd_suffix();
            std::size_t slot = checksum(names.base(), 0) & (slots_.size() - 1);
            while (slots_[slot] != 0) {
                slot = (slot + 1) & (slots_.size() - 1);
            }
            slots_[slot] = static_cast<std::uint32_t>(++at);
        }
    });
    if (read && (!matches || at != known_.size())) {
        return Error(Errc::corrupt, "index: damaged names");
    }
    return read;
}

Known* KnownTable::find(std::string_view base) {
    std::size_t slot = checksum(base, 0) & (slots_.size() - 1);
    for (; slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
        Known& candidate = known_[slots_[slot] - 1];
        if (candidate.base == base) {
            return &candidate;
        }
    }
    return nullptr;
}

/// The state bits a file name stands for.
Entry state_of(const DirListing::File& file, std::uint64_t high_keywords) {
    const NameFlags parsed = parse_suffix(file.suffix);
    Entry entry;
    entry.flags = parsed.flags;
    entry.keywords = parsed.keywords | (high_keywords & ~kLetterKeywords);
    const bool plain = file.in_new ? file.suffix.empty() : parsed.usual;
    entry.flags |= (file.in_new ? kInNew : 0u) | (plain ? 0u : kOddName);
    return entry;
}

/// One scan of one mailbox.
class Scan {
public:
    Scan(const Placed& mailbox, Access access)
        : place_(mailbox), editor_(*mailbox.editor), state_(*mailbox.state), access_(access) {}
    Result<void> run();

private:
    Result<void> list_new_only();
    Result<void> list_and_match();
    void match(const DirListing& listing);
    Result<void> adopt_uidlist();
    Result<void> apply();
    Result<void> add_fresh();
    Result<void> add_listed();
    Result<void> add_named();
    void leave_out(const std::vector<char>& taken);
    Result<void> add(const DirListing::File& file, Uid uid);
    void move_to_cur(const DirListing::File& file, Entry& entry, std::string& odd_suffix);
    void name_keywords(std::uint64_t keywords);
    void clean_tmp();

    const Placed& place_;
    MailboxEditor& editor_;
    DirState& state_;
    Access access_;
    std::vector<DirListing> listings_;            ///< own the names that fresh_ points into
    KnownTable known_;
    std::vector<Fresh> fresh_;
    std::vector<Changed> changed_;
    UidList adopted_;
    DirState seen_;                               ///< times as of the last listing
    bool moved_ = false;                          ///< we renamed files into cur/
    bool moved_early_ = false;                    ///< some of them before all was listed
    bool new_only_ = false;                       ///< cur/ is as it was
};

/// Letters of which dovecot-keywords does not know the name get one.
void Scan::name_keywords(std::uint64_t keywords) {
    std::vector<std::string>& names = editor_.record().keywords;
    while (names.size() < 64 && keywords >> names.size() != 0) {
        names.push_back("unknown-" + std::to_string(names.size()));
        editor_.touch_record();
    }
}

void Scan::match(const DirListing& listing) {
    for (const DirListing::File& file : listing.files()) {
        Known* const known = known_.find(file.base);
        if (known == nullptr) {
            fresh_.push_back(Fresh{file, {}});
            continue;
        }
        if (known->seen) {
            continue;                             // in new/ and cur/ at once, or listed again
        }
        known->seen = true;
        const Entry now = state_of(file, known->entry.keywords);
        const Entry& old = known->entry;
        const bool odd = (now.flags & kOddName) != 0;
        const bool move = access_ == Access::read_write && file.in_new;
        if (now.flags == old.flags && now.keywords == old.keywords && (!odd || file.suffix == known->odd_suffix) && !move) {
            continue;
        }
        Changed change;
        change.uid = old.uid;
        Entry entry = now;
        change.odd_suffix = odd ? std::string(file.suffix) : std::string();
        if (move) {
            move_to_cur(file, entry, change.odd_suffix);
            moved_early_ = moved_;
        }
        change.flags = entry.flags;
        change.keywords = entry.keywords;
        name_keywords(entry.keywords);
        change.visible = ((entry.flags ^ old.flags) & kStorableFlags) != 0 || entry.keywords != old.keywords;
        changed_.push_back(std::move(change));
    }
}

/// Renames new/X to cur/X:2, ; when another program was quicker the next scan sees what it did.
void Scan::move_to_cur(const DirListing::File& file, Entry& entry, std::string& odd_suffix) {
    const std::string base(file.base);
    const std::string old_path = place_.folder.path + "/new/" + base + std::string(file.suffix);
    const std::string suffix = changed_suffix(file.suffix, entry.flags, entry.keywords);
    const std::string new_path = place_.folder.path + "/cur/" + base + suffix;
    int moved = renameat2(AT_FDCWD, old_path.c_str(), AT_FDCWD, new_path.c_str(), RENAME_NOREPLACE);
    if (moved != 0 && errno == EINVAL) {
        moved = rename(old_path.c_str(), new_path.c_str());   // a file system without that
    }
    if (moved != 0 && errno != ENOENT) {
        return;                                   // read-only file system and the like: it stays in new/
    }
    moved_ = true;
    entry.flags &= ~static_cast<std::uint32_t>(kInNew | kOddName);
    odd_suffix.clear();
    if (!parse_suffix(suffix).usual) {
        entry.flags |= kOddName;
        odd_suffix = suffix;
    }
}

/// The usual case of a delivery: only new/ changed, and it holds a few files.
Result<void> Scan::list_new_only() {
    const std::string fresh = place_.folder.path + "/new";
    seen_ = state_;
    seen_.new_mtime = modified(fresh);
    seen_.new_checked = now_nanoseconds();
    DirListing& listing = listings_.emplace_back();
    if (Result<void> read = listing.read(fresh, true); !read) {
        return read;
    }
    match(listing);
    for (Known& known : known_.all()) {
        if ((known.entry.flags & kInNew) != 0 && !known.seen) {
            new_only_ = false;                    // where is it now?
            return list_and_match();
        }
    }
    for (Known& known : known_.all()) {
        known.seen = true;
    }
    return {};
}

Result<void> Scan::list_and_match() {
    seen_.own_change = 0;
    const std::string fresh = place_.folder.path + "/new";
    const std::string cur = place_.folder.path + "/cur";
    for (int round = 0; round < kListings; ++round) {
        seen_.new_mtime = modified(fresh);
        seen_.cur_mtime = modified(cur);
        seen_.new_checked = seen_.cur_checked = now_nanoseconds();
        DirListing& listing = listings_.emplace_back();
        if (seen_.new_mtime < 0) {
            if (Result<void> made = make_directories(fresh); !made) {
                return made;
            }
        }
        Result<void> read = listing.read(fresh, true);
        if (read) {
            read = listing.read(cur, false);
        }
        if (!read) {
            return read;
        }
        fresh_.clear();
        match(listing);
        const bool all_seen = std::all_of(known_.all().begin(), known_.all().end(), [](const Known& k) { return k.seen; });
        // Our own renames (new/ to cur/) change the directories too; then one more look decides.
        if (all_seen || (modified(fresh) == seen_.new_mtime && modified(cur) == seen_.cur_mtime &&
                         seen_.cur_checked - seen_.cur_mtime > 20'000'000)) {
            break;
        }
    }
    return {};
}

Result<void> Scan::add(const DirListing::File& file, Uid uid) {
    Entry entry = state_of(file, 0);
    entry.uid = uid;
    name_keywords(entry.keywords);
    std::string odd_suffix = (entry.flags & kOddName) != 0 ? std::string(file.suffix) : std::string();
    if (file.in_new && access_ == Access::read_write) {
        move_to_cur(file, entry, odd_suffix);
    }
    Result<Uid> added = editor_.append(entry, std::string(file.base), std::move(odd_suffix));
    return added ? Result<void>() : Result<void>(added.error());
}

/// Old messages get the UIDs that the list or their names give them; the rest come after, oldest delivery first.
Result<void> Scan::add_fresh() {
    for (Fresh& fresh : fresh_) {
        fresh.time = delivery_time(fresh.file.base);
    }
    std::sort(fresh_.begin(), fresh_.end(), [](const Fresh& a, const Fresh& b) {
        if (a.time != b.time) {
            return a.time < b.time;
        }
        return a.file.base != b.file.base ? a.file.base < b.file.base : a.file.in_new < b.file.in_new;
    });
    fresh_.erase(std::unique(fresh_.begin(), fresh_.end(),
                             [](const Fresh& a, const Fresh& b) { return a.file.base == b.file.base; }),
                 fresh_.end());
    if (!adopted_.entries.empty()) {
        if (Result<void> added = add_listed(); !added) {
            return added;
        }
    }
    editor_.record().uidnext = std::max(editor_.record().uidnext, adopted_.uidnext);
    if (Result<void> added = add_named(); !added) {
        return added;
    }
    for (const Fresh& fresh : fresh_) {
        if (Result<void> added = add(fresh.file, 0); !added) {
            return added;
        }
    }
    return {};
}

/// Those the adopted uidlist names; they leave fresh_.
Result<void> Scan::add_listed() {
    std::unordered_map<std::string_view, std::size_t> by_base;
    for (std::size_t i = 0; i < fresh_.size(); ++i) {
        by_base.emplace(fresh_[i].file.base, i);
    }
    std::vector<char> taken(fresh_.size(), 0);
    for (const UidListEntry& old : adopted_.entries) {
        const auto at = by_base.find(old.base);
        if (at == by_base.end()) {
            continue;
        }
        taken[at->second] = 1;
        if (Result<void> added = add(fresh_[at->second].file, old.uid); !added) {
            return added;
        }
    }
    leave_out(taken);
    return {};
}

/// Those whose names say which UIDs they had before the machine crashed and the index forgot; they leave fresh_.
Result<void> Scan::add_named() {
    const MailboxRecord& record = editor_.record();
    std::vector<std::pair<Uid, std::size_t>> named;
    for (std::size_t i = 0; i < fresh_.size(); ++i) {
        const std::optional<NamedUid> name = uid_in_name(fresh_[i].file.base);
        if (name && name->uidvalidity == record.uidvalidity && name->uid >= record.uidnext &&
            name->uid - record.uidnext < kMaxForgotten) {
            named.emplace_back(name->uid, i);
        }
    }
    std::sort(named.begin(), named.end());
    std::vector<char> taken(fresh_.size(), 0);
    for (const auto& [uid, i] : named) {
        if (uid < record.uidnext) {
            continue;                             // somebody copied the file
        }
        taken[i] = 1;
        if (Result<void> added = add(fresh_[i].file, uid); !added) {
            return added;
        }
    }
    leave_out(taken);
    return {};
}

void Scan::leave_out(const std::vector<char>& taken) {
    std::size_t n = 0;
    std::erase_if(fresh_, [&](const Fresh&) { return taken[n++] != 0; });
}

Result<void> Scan::apply() {
    UidSet gone;
    for (const Known& known : known_.all()) {
        if (!known.seen) {
            gone.add(known.entry.uid);
        }
    }
    for (const Changed& change : changed_) {
        Result<void> done = editor_.rename(change.uid, change.odd_suffix);
        if (done) {
            done = change.visible ? editor_.update(change.uid, change.flags, change.keywords)
                                  : editor_.update_quietly(change.uid, change.flags);
        }
        if (!done) {
            return done;
        }
    }
    for (const UidRange& range : gone.ranges()) {
        for (Uid uid = range.first;; ++uid) {
            if (Result<void> done = editor_.erase(uid); !done) {
                return done;
            }
            if (uid == range.last) {
                break;
            }
        }
    }
    return add_fresh();
}

/// For a mailbox the index has just begun with (or begins with again).
Result<void> Scan::adopt_uidlist() {
    Result<UidList> list = read_uidlist(place_.folder.control);
    if (!list) {
        return {};                                // none, or not understood: fresh UIDs
    }
    adopted_ = std::move(*list);
    if (!adopted_.damage.empty()) {
        log_error("Broken file {}/dovecot-uidlist {}", place_.folder.control, adopted_.damage);
    }
    MailboxRecord& record = editor_.record();
    // Clients may remember mod-sequences that another index gave under this UIDVALIDITY; all of them are below.
    record.highest_modseq = std::max(record.highest_modseq, static_cast<Modseq>(time(nullptr)) << 16);
    if (adopted_.guid.size() == 2 * record.guid.size()) {
        for (std::size_t i = 0; i < record.guid.size(); ++i) {
            record.guid[i] = static_cast<char>(parse_hex(std::string_view(adopted_.guid).substr(2 * i, 2)).value_or(0));
        }
    }
    return editor_.reset(adopted_.uidvalidity);
}

/// Files that deliveries left behind in tmp/ (https://cr.yp.to/proto/maildir.html: after 36 hours).
void Scan::clean_tmp() {
    const std::int64_t now = now_nanoseconds();
    if (access_ != Access::read_write || (now >= state_.tmp_cleaned && now - state_.tmp_cleaned < kTmpEvery)) {
        return;
    }
    state_.tmp_cleaned = now;
    const std::string tmp = place_.folder.path + "/tmp";
    DirListing listing;
    if (!listing.read(tmp, false)) {
        return;
    }
    for (const DirListing::File& file : listing.files()) {
        const std::string path = tmp + "/" + std::string(file.base) + std::string(file.suffix);
        struct stat status {};
        if (lstat(path.c_str(), &status) == 0 && now / kSecond - std::max(status.st_mtime, status.st_ctime) > kTmpLife) {
            unlink(path.c_str());
        }
    }
}

Result<void> Scan::run() {
    if (editor_.is_new()) {
        if (Result<void> adopted = adopt_uidlist(); !adopted) {
            return adopted;
        }
    }
    read_keywords_file(place_.folder, editor_, state_);
    new_only_ = !editor_.is_new() && cur_is_unchanged(place_.folder, state_, editor_.record());
    // A delivery to a big mailbox: what lies in new/ cannot be known yet, so the rest need not be looked at.
    if (!new_only_ || editor_.record().in_new > 0) {
        if (Result<void> loaded = known_.load(editor_.txn(), editor_.record().id); !loaded) {
            return loaded;
        }
    }
    if (Result<void> listed = new_only_ ? list_new_only() : list_and_match(); !listed) {
        return listed;
    }
    const std::int64_t cur_before = modified(place_.folder.path + "/cur");
    if (Result<void> applied = apply(); !applied) {
        return applied;
    }
    clean_tmp();
    state_.new_mtime = seen_.new_mtime;           // when we moved files out of new/ it is listed once more: cheap
    state_.new_checked = seen_.new_checked;
    state_.cur_mtime = seen_.cur_mtime;
    state_.cur_checked = seen_.cur_checked;
    state_.own_change = seen_.own_change;
    if (moved_ && (cur_before == seen_.cur_mtime || moved_early_)) {
        state_.cur_mtime = modified(place_.folder.path + "/cur");
        state_.own_change = 1;
    }
    state_.uidvalidity = editor_.record().uidvalidity;
    state_.modseq = editor_.record().highest_modseq;
    return {};
}

}  // namespace

Result<void> MaildirBackend::scan(const Placed& mailbox, Access access) {
    if (Result<void> flushed = mailbox.editor->flush(); !flushed) {
        return flushed;
    }
    return Scan(mailbox, access).run();
}

}  // namespace postern::store
