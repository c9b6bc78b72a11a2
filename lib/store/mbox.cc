/// mbox below the index.  See backend.h for what each call promises, mbox_file.h for the format.
///
/// The index knows a message by a hash over what never changes (its `id`), so reading needs no change to the file;
/// flags are written to the file's Status fields, with X-UID and X-IMAPbase for other programs.
#include "lib/store/mbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <unordered_map>

#include "lib/base/strings.h"
#include "lib/mail/header.h"
#include "lib/store/crlf_to_lf.h"
#include "lib/store/maildir.h"
#include "lib/store/mbox_rewrite.h"

namespace postern::store {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kTick = 20'000'000;

std::int64_t mtime_of(const struct stat& status) {
    return std::int64_t{status.st_mtim.tv_sec} * kSecond + status.st_mtim.tv_nsec;
}

/// A file in memory as long as the object lives; the caller holds the lock that keeps it from being shortened.
class Mapping {
public:
    Mapping(int fd, std::size_t size) : size_(size) {
        if (size > 0) {
            map_ = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
        }
    }
    ~Mapping() {
        if (map_ != nullptr && map_ != MAP_FAILED) {
            munmap(map_, size_);
        }
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    bool ok() const { return map_ != MAP_FAILED; }
    std::string_view text() const { return map_ == nullptr ? std::string_view() : std::string_view(static_cast<char*>(map_), size_); }

private:
    void* map_ = nullptr;
    std::size_t size_;
};

}  // namespace

/// Shortens a file to what it was before messages were added, if nobody added more.
class MboxTruncate : public Undo {
public:
    void set(std::string path, std::uint64_t old_size, int fd) {
        struct stat status {};
        if (fstat(fd, &status) == 0) {
            path_ = std::move(path);
            old_size_ = old_size;
            new_size_ = static_cast<std::uint64_t>(status.st_size);
        }
    }
    void forget() { path_.clear(); }
    void run() override {
        const std::string path = std::exchange(path_, std::string());
        Result<MboxLock> locked = path.empty() ? Error(Errc::not_found, "") : MboxLock::take(path, MboxLock::Mode::write);
        struct stat status {};
        if (locked && fstat(locked->fd(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) == new_size_) {
            // Best effort: a failure leaves a message that the client will add once more.
            static_cast<void>(ftruncate(locked->fd(), static_cast<off_t>(old_size_)) == 0);
        }
    }

private:
    std::string path_;
    std::uint64_t old_size_ = 0, new_size_ = 0;
};

namespace {

class MboxAppender : public Appender {
public:
    Result<void> write(std::string_view bytes) override {
        filter_.feed(bytes, text_);
        return text_.size() <= kMaxMessage ? Result<void>() : Result<void>(Errc::too_big, "message is too big for an mbox");
    }
    Result<void> finish() override {
        filter_.finish(text_);
        summary_ = summarise(text_, internal_date.value_or(time(nullptr)));
        return {};
    }
    ~MboxAppender() override { undo_.run(); }
    void keep() override { undo_.forget(); }
    MboxTruncate& undo() { return undo_; }
    const std::string& text() const { return text_; }
    std::pair<std::string, std::string> take_summary() { return std::move(summary_); }

private:
    static constexpr std::size_t kMaxMessage = std::size_t{256} << 20;
    CrlfToLf filter_;
    std::string text_;              ///< an mbox is for small mail; Maildir streams to disk
    std::pair<std::string, std::string> summary_;
    MboxTruncate undo_;             ///< of all that were committed together, in the first of them
};

std::vector<std::string> names_of(std::uint64_t bits, const MailboxRecord& record) {
    std::vector<std::string> out;
    for (std::size_t i = 0; i < record.keywords.size(); ++i) {
        if ((bits >> i & 1) != 0) {
            out.push_back(record.keywords[i]);
        }
    }
    return out;
}

/// A whole new message as it lies in the file, with the empty line that ends it.
std::string formatted(std::string_view text, std::int64_t date, const std::string& state) {
    const MessageParts parts = split_message(text);
    std::string out = make_from_line("MAILER-DAEMON", date);
    out += header_without_state(parts.header, false);
    out += state;
    out += '\n';
    out += quote_from(parts.body);
    if (out.back() != '\n') {
        out += '\n';
    }
    return out + '\n';
}

}  // namespace

std::string MboxBackend::journal_of(const Folder& folder) const {
    return folder.control + "/.postern.rewrite." + hex_encode(be32(static_cast<std::uint32_t>(checksum(folder.path, 0))));
}

Result<MboxLock> MboxBackend::lock(const Folder& folder, MboxLock::Mode mode) {
    const std::string journal = journal_of(folder);
    if (access(journal.c_str(), F_OK) == 0) {
        mode = MboxLock::Mode::write;             // a crash left something to finish
    }
    Result<MboxLock> taken = MboxLock::take(folder.path, mode);
    if (!taken && taken.error().code == Errc::not_found && folder.name == "INBOX") {
        // An empty inbox may have no file; without the right to make one the error stands.
        const UniqueFd made(::open(folder.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        taken = MboxLock::take(folder.path, mode);
    }
    if (taken && mode == MboxLock::Mode::write) {
        if (Result<void> finished = finish_rewrite(taken->fd(), journal); !finished) {
            return finished.error();
        }
    }
    return taken;
}

Result<const MboxBackend::Parsed*> MboxBackend::parsed(const Folder& folder, int fd, bool look_again) {
    struct stat status {};
    if (fstat(fd, &status) != 0) {
        return errno_error("look at " + folder.path);
    }
    Parsed& known = files_[folder.path];
    const bool same = known.inode == status.st_ino && known.size == static_cast<std::uint64_t>(status.st_size) &&
                      known.mtime == mtime_of(status) && (!look_again || known.checked > known.mtime + kTick);
    if (!same) {
        const std::int64_t now = now_nanoseconds();
        const Mapping map(fd, static_cast<std::size_t>(status.st_size));
        if (!map.ok()) {
            return errno_error("map " + folder.path);
        }
        known.file = parse_mbox(map.text());
        known.inode = status.st_ino;
        known.size = static_cast<std::uint64_t>(status.st_size);
        known.mtime = mtime_of(status);
        known.checked = now;
        known.by_id.clear();
        for (std::size_t i = 0; i < known.file.messages.size(); ++i) {
            known.by_id.emplace(known.file.messages[i].id, i);
        }
    }
    return static_cast<const Parsed*>(&known);
}

void MboxBackend::note_state(int fd, const MailboxRecord& record, DirState& state) {
    struct stat status {};
    if (fstat(fd, &status) == 0) {
        state.cur_mtime = mtime_of(status);
        state.new_mtime = status.st_size;
        state.cur_checked = now_nanoseconds();
        state.uidvalidity = record.uidvalidity;
        state.modseq = record.highest_modseq;
    }
}

Result<bool> MboxBackend::needs_scan(const Folder& folder, const DirState& state, const MailboxRecord& record, Access) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    struct stat status {};
    if (::stat(folder.path.c_str(), &status) != 0) {
        return errno_error("look at " + folder.path);
    }
    return state.uidvalidity != record.uidvalidity || state.modseq > record.highest_modseq ||
           state.cur_mtime != mtime_of(status) || state.new_mtime != status.st_size ||
           state.cur_checked < state.cur_mtime + kTick || access(journal_of(folder).c_str(), F_OK) == 0;
}

/// X-IMAPbase and X-UID are taken over when the index begins with this file.
Result<void> MboxBackend::adopt(const MboxFile& file, MailboxEditor& editor) {
    MailboxRecord& record = editor.record();
    record.highest_modseq = std::max(record.highest_modseq, static_cast<Modseq>(time(nullptr)) << 16);
    return editor.reset(file.uidvalidity);
}

Result<void> MboxBackend::scan(const Placed& mailbox, Access) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    MailboxEditor& editor = *mailbox.editor;
    if (Result<void> flushed = editor.flush(); !flushed) {
        return flushed;
    }
    Result<MboxLock> locked = lock(mailbox.folder, MboxLock::Mode::read);
    if (!locked) {
        return locked.error();
    }
    Result<const Parsed*> file = parsed(mailbox.folder, locked->fd(), true);
    if (!file) {
        return file.error();
    }
    const MboxFile& found = (*file)->file;
    if (editor.is_new() && found.uidvalidity != 0) {
        if (Result<void> adopted = adopt(found, editor); !adopted) {
            return adopted;
        }
    }
    std::set<std::string> known;
    UidSet gone;
    std::vector<std::pair<Uid, const MboxMessage*>> same;
    Result<void> done = for_each_names(editor.txn(), editor.record().id, [&](NamesView& names) {
        while (names.next()) {
            std::string id(names.base());
            const auto at = (*file)->by_id.find(id);
            if (at == (*file)->by_id.end()) {
                gone.add(names.uid());
            } else {
                same.emplace_back(names.uid(), &found.messages[at->second]);
                known.insert(std::move(id));
            }
        }
    });
    if (done) {
        done = compare(editor, same, gone);
    }
    for (std::size_t i = 0; done && i < found.messages.size(); ++i) {
        const MboxMessage& message = found.messages[i];
        if (!message.internal && known.count(message.id) == 0) {
            done = add(editor, message, editor.is_new());
        }
    }
    if (done && editor.is_new()) {
        editor.record().uidnext = std::max(editor.record().uidnext, found.last_uid + 1);
    }
    note_state(locked->fd(), editor.record(), *mailbox.state);
    return done;
}

Result<std::uint64_t> MboxBackend::keyword_bits(MailboxEditor& editor, const std::vector<std::string>& keywords) {
    std::uint64_t bits = 0;
    for (const std::string& keyword : keywords) {
        Result<std::size_t> position = editor.keyword(keyword);
        if (!position && position.error().code != Errc::too_big && position.error().code != Errc::syntax) {
            return position.error();
        }
        bits |= position ? std::uint64_t{1} << *position : 0;
    }
    return bits;
}

Result<void> MboxBackend::compare(MailboxEditor& editor, const std::vector<std::pair<Uid, const MboxMessage*>>& same,
                                  const UidSet& gone) {
    for (const auto& [uid, message] : same) {
        Result<const Entry*> entry = editor.find(uid);
        Result<std::uint64_t> keywords = keyword_bits(editor, message->keywords);
        if (!entry || !keywords) {
            return entry ? keywords.error() : entry.error();
        }
        if (*entry != nullptr && ((*entry)->flags != message->flags || (*entry)->keywords != *keywords)) {
            if (Result<void> updated = editor.update(uid, message->flags, *keywords); !updated) {
                return updated;
            }
        }
    }
    for (const UidRange& range : gone.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            if (Result<void> erased = editor.erase(static_cast<Uid>(uid)); !erased) {
                return erased;
            }
        }
    }
    return {};
}

Result<void> MboxBackend::add(MailboxEditor& editor, const MboxMessage& message, bool adopt_uid) {
    Result<std::uint64_t> keywords = keyword_bits(editor, message.keywords);
    if (!keywords) {
        return keywords.error();
    }
    Entry entry;
    entry.uid = adopt_uid ? message.uid : 0;
    entry.flags = message.flags;
    entry.keywords = *keywords;
    Result<Uid> added = editor.append(entry, message.id, "");
    return added ? Result<void>() : Result<void>(added.error());
}

Result<std::pair<std::string, std::int64_t>> MboxBackend::read(const Folder& folder, const StoredName& name) {
    Result<MboxLock> locked = lock(folder, MboxLock::Mode::read);
    if (!locked) {
        return locked.error();
    }
    Result<const Parsed*> file = parsed(folder, locked->fd(), false);
    if (!file) {
        return file.error();
    }
    const auto at = (*file)->by_id.find(name.base);
    if (at == (*file)->by_id.end()) {
        return Error(Errc::not_found, "message is gone from " + folder.path);
    }
    const MboxMessage& message = (*file)->file.messages[at->second];
    const Mapping map(locked->fd(), static_cast<std::size_t>((*file)->size));
    if (!map.ok()) {
        return errno_error("map " + folder.path);
    }
    const std::int64_t date = message.date != 0 ? message.date : (*file)->mtime / kSecond;
    return std::pair(visible_text(map.text(), message), date);
}

Result<Message> MboxBackend::open(const Folder& folder, const Entry&, const StoredName& name) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    Result<std::pair<std::string, std::int64_t>> text = read(folder, name);
    if (!text) {
        return text.error();
    }
    Message message;
    message.fd.reset(memfd_create("mbox-message", MFD_CLOEXEC));
    message.size = text->first.size();
    std::string_view rest = text->first;
    while (message.fd && !rest.empty()) {
        const ssize_t n = write(message.fd.get(), rest.data(), rest.size());
        if (n <= 0) {
            break;
        }
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    if (!message.fd || !rest.empty()) {
        return errno_error("memory for a message");
    }
    return message;
}

Result<Summary> MboxBackend::stat(const Folder& folder, const Entry&, const StoredName& name) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    Result<MboxLock> locked = lock(folder, MboxLock::Mode::read);
    if (!locked) {
        return locked.error();
    }
    Result<const Parsed*> file = parsed(folder, locked->fd(), false);
    if (!file) {
        return file.error();
    }
    const auto at = (*file)->by_id.find(name.base);
    if (at == (*file)->by_id.end()) {
        return Error(Errc::not_found, "message is gone from " + folder.path);
    }
    const std::int64_t date = (*file)->file.messages[at->second].date;
    Summary summary;
    summary.internal_date = date != 0 ? date : (*file)->mtime / kSecond;
    return summary;                               // size 0: it takes the text to know
}

Result<std::unique_ptr<Appender>> MboxBackend::append(const Folder&) {
    return std::unique_ptr<Appender>(std::make_unique<MboxAppender>());
}

Result<std::vector<Uid>> MboxBackend::add_messages(const Placed& mailbox, std::vector<NewMessage> messages,
                                                        MboxTruncate& undo) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    MailboxEditor& editor = *mailbox.editor;
    Result<MboxLock> locked = lock(mailbox.folder, MboxLock::Mode::write);
    if (!locked) {
        return locked.error();
    }
    struct stat status {};
    if (fstat(locked->fd(), &status) != 0) {
        return errno_error("look at " + mailbox.folder.path);
    }
    Result<bool> unseen_changes = needs_scan(mailbox.folder, *mailbox.state, editor.record(), Access::read_write);
    const auto old_size = static_cast<std::uint64_t>(status.st_size);
    char tail[2] = {'\n', '\n'};
    if (old_size >= 2 && pread(locked->fd(), tail, 2, static_cast<off_t>(old_size - 2)) != 2) {
        return errno_error("read " + mailbox.folder.path);
    }
    std::string text = tail[1] != '\n' ? "\n\n" : tail[0] != '\n' ? "\n" : "";
    Uid uid = editor.record().uidnext;
    for (const NewMessage& message : messages) {
        std::string state = old_size == 0 && text.empty() ? base_field(editor.record().uidvalidity, uid) : std::string();
        state += state_fields(message.entry.flags, names_of(message.entry.keywords, editor.record()), uid++, 0);
        text += formatted(message.text, message.date, state);
    }
    if (Result<void> written = rewrite_tail(locked->fd(), journal_of(mailbox.folder), old_size, {MboxPiece{0, 0, text}}); !written) {
        return written.error();
    }
    undo.set(mailbox.folder.path, old_size, locked->fd());
    Result<const Parsed*> file = parsed(mailbox.folder, locked->fd(), true);
    if (!file) {
        return file.error();
    }
    std::vector<Uid> uids;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const std::vector<MboxMessage>& all = (*file)->file.messages;
        const MboxMessage& message = all[all.size() - messages.size() + i];
        Result<Uid> added = editor.append(messages[i].entry, message.id, "");
        if (!added) {
            return added.error();
        }
        uids.push_back(*added);
    }
    if (unseen_changes && !*unseen_changes) {
        note_state(locked->fd(), editor.record(), *mailbox.state);
    }
    return uids;
}

Result<std::vector<Uid>> MboxBackend::commit(const Placed& mailbox, std::span<const std::unique_ptr<Appender>> messages,
                                             std::vector<std::pair<std::string, std::string>>& cached) {
    std::vector<NewMessage> all;
    if (messages.empty()) {
        return std::vector<Uid>();
    }
    for (const std::unique_ptr<Appender>& each : messages) {
        auto* const message = dynamic_cast<MboxAppender*>(each.get());
        if (message == nullptr) {
            return Error(Errc::io, "append: not a message of this mailbox");
        }
        NewMessage added;
        added.text = message->text();
        added.date = message->internal_date.value_or(time(nullptr));
        added.entry.flags = message->flags & kStorableFlags;
        for (const std::string& keyword : message->keywords) {
            Result<std::size_t> position = mailbox.editor->keyword(keyword);
            if (!position) {
                return position.error();
            }
            added.entry.keywords |= std::uint64_t{1} << *position;
        }
        all.push_back(std::move(added));
        cached.push_back(message->take_summary());
    }
    return add_messages(mailbox, std::move(all), dynamic_cast<MboxAppender&>(*messages.front()).undo());
}

/// The new state fields, where they can be written over the old ones.
struct InPlace {
    std::uint64_t offset = 0;
    std::string bytes;
};

/// Collects what a rewriting of the file consists of.
class MboxBackend::Rewriting {
public:
    Rewriting(std::string_view text, MailboxEditor& editor) : text_(text), editor_(editor) {}

    void edit(const MboxMessage& message, const Edit& edit, bool is_first) {
        if (pieces_.empty()) {
            from_ = message.start;
        } else {
            pieces_.push_back(MboxPiece{kept_from_, message.start, ""});
        }
        kept_from_ = message.end;
        if (edit.remove) {
            fits_ = false;
            pieces_.push_back(MboxPiece{});
            return;
        }
        const std::string_view header = text_.substr(message.header, message.body - message.header);
        const std::string plain = header_without_state(header);
        const MailboxRecord& record = editor_.record();
        std::string fields = is_first ? base_field(record.uidvalidity, record.uidnext - 1) : std::string();
        const std::size_t used = plain.size() + fields.size() + 1;
        fields += state_fields(edit.flags, names_of(edit.keywords, record), edit.uid, header.size() > used ? header.size() - used : 0);
        fields += '\n';
        fits_ = fits_ && plain.size() + fields.size() == header.size() && header.substr(0, plain.size()) == plain;
        in_place_.push_back(InPlace{message.header + plain.size(), fields});
        pieces_.push_back(MboxPiece{message.start, message.header, ""});
        pieces_.push_back(MboxPiece{0, 0, plain + fields});
        pieces_.push_back(MboxPiece{message.body, message.end, ""});
    }

    Result<void> write(int fd, const std::string& journal) {
        if (pieces_.empty()) {
            return {};
        }
        if (!fits_) {
            pieces_.push_back(MboxPiece{kept_from_, text_.size(), ""});
            return rewrite_tail(fd, journal, from_, pieces_);
        }
        for (const InPlace& change : in_place_) {
            if (pwrite(fd, change.bytes.data(), change.bytes.size(), static_cast<off_t>(change.offset)) !=
                static_cast<ssize_t>(change.bytes.size())) {
                return errno_error("write mbox");
            }
        }
        return fdatasync(fd) == 0 ? Result<void>() : Result<void>(errno_error("sync mbox"));
    }

private:
    std::string_view text_;
    MailboxEditor& editor_;
    std::vector<MboxPiece> pieces_;
    std::vector<InPlace> in_place_;
    std::uint64_t from_ = 0;
    std::uint64_t kept_from_ = 0;                 ///< start of unchanged bytes not yet in pieces_
    bool fits_ = true;
};

/// Identical messages are told apart by counting; when one of them went, the others' ids changed.
Result<void> MboxBackend::renumber_copies(MailboxEditor& editor, const std::vector<std::string>& before, const MboxFile& now) {
    std::unordered_map<std::string, std::string> changed;
    for (std::size_t i = 0; i < before.size() && before.size() == now.messages.size(); ++i) {
        if (before[i] != now.messages[i].id) {
            changed.emplace(before[i], now.messages[i].id);
        }
    }
    if (changed.empty()) {
        return {};
    }
    if (Result<void> flushed = editor.flush(); !flushed) {
        return flushed;
    }
    std::vector<std::pair<Uid, std::string>> renamed;
    Result<void> done = for_each_names(editor.txn(), editor.record().id, [&](NamesView& names) {
        while (names.next()) {
            if (const auto at = changed.find(std::string(names.base())); at != changed.end()) {
                renamed.emplace_back(names.uid(), at->second);
            }
        }
    });
    for (std::size_t i = 0; done && i < renamed.size(); ++i) {
        done = editor.rebase(renamed[i].first, renamed[i].second);
    }
    return done;
}

Result<void> MboxBackend::rewrite(const Placed& mailbox, const std::vector<Edit>& edits, UidSet& missing) {
    MailboxEditor& editor = *mailbox.editor;
    Result<MboxLock> locked = lock(mailbox.folder, MboxLock::Mode::write);
    if (!locked) {
        return locked.error();
    }
    Result<const Parsed*> file = parsed(mailbox.folder, locked->fd(), true);
    if (!file) {
        return file.error();
    }
    std::unordered_map<std::string, const Edit*> by_id;
    for (const Edit& edit : edits) {
        Result<const StoredName*> name = editor.name_of(edit.uid);
        if (!name) {
            return name.error();
        }
        if (*name != nullptr && (*file)->by_id.count((*name)->base) != 0) {
            by_id.emplace((*name)->base, &edit);
        } else if (*name != nullptr) {
            missing.add(edit.uid);
        }
    }
    Result<bool> unseen_changes = needs_scan(mailbox.folder, *mailbox.state, editor.record(), Access::read_write);
    const Mapping map(locked->fd(), static_cast<std::size_t>((*file)->size));
    if (!map.ok() || !unseen_changes) {
        return errno_error("map " + mailbox.folder.path);
    }
    Rewriting rewriting(map.text(), editor);
    bool is_first = true;
    for (const MboxMessage& message : (*file)->file.messages) {
        if (const auto edit = by_id.find(message.id); edit != by_id.end()) {
            rewriting.edit(message, *edit->second, is_first && !message.internal);
        }
        is_first = is_first && message.internal;
    }
    std::vector<std::string> kept;                // ids of what stays, in file order
    for (const MboxMessage& message : (*file)->file.messages) {
        const auto edit = by_id.find(message.id);
        if (edit == by_id.end() || !edit->second->remove) {
            kept.push_back(message.id);
        }
    }
    Result<void> done = rewriting.write(locked->fd(), journal_of(mailbox.folder));
    for (const auto& [id, edit] : by_id) {
        if (done) {
            done = edit->remove ? editor.erase(edit->uid) : editor.update(edit->uid, edit->flags, edit->keywords);
        }
    }
    if (done && kept.size() < (*file)->file.messages.size()) {
        file = parsed(mailbox.folder, locked->fd(), true);
        done = file ? renumber_copies(editor, kept, (*file)->file) : file.error();
    }
    if (done && !*unseen_changes) {
        note_state(locked->fd(), editor.record(), *mailbox.state);
    }
    return done;
}

Result<void> MboxBackend::set_flags(const Placed& mailbox, std::span<const FlagEdit> edits, UidSet& missing) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    std::vector<Edit> changes;
    for (const FlagEdit& edit : edits) {
        changes.push_back(Edit{edit.uid, edit.flags, edit.keywords, false});
    }
    return changes.empty() ? Result<void>() : rewrite(mailbox, changes, missing);
}

Result<void> MboxBackend::expunge(const Placed& mailbox, const UidSet& uids, UidSet& missing) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    std::vector<Edit> changes;
    for (const UidRange& range : uids.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            changes.push_back(Edit{static_cast<Uid>(uid), 0, 0, true});
        }
    }
    return changes.empty() ? Result<void>() : rewrite(mailbox, changes, missing);
}

Result<Copied> MboxBackend::copy(const Placed& from, const Placed& to, const UidSet& uids, bool move, UidSet& missing) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    Result<std::vector<int>> map = map_keywords(from.editor->record(), *to.editor);
    if (!map) {
        return map.error();
    }
    std::vector<NewMessage> messages;
    UidSet sources;
    for (const UidRange& range : uids.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            Result<const StoredName*> name = from.editor->name_of(static_cast<Uid>(uid));
            if (!name) {
                return name.error();
            }
            if (*name == nullptr) {
                continue;
            }
            Result<std::pair<std::string, std::int64_t>> text = read(from.folder, **name);
            if (!text && text.error().code == Errc::not_found) {
                missing.add(static_cast<Uid>(uid));
                continue;
            }
            if (!text) {
                return text.error();
            }
            const Entry& old = **from.editor->find(static_cast<Uid>(uid));
            NewMessage message;
            message.text = std::move(text->first);
            message.date = text->second;
            message.entry.flags = old.flags & kStorableFlags;
            message.entry.keywords = mapped_keywords(old.keywords, *map);
            messages.push_back(std::move(message));
            sources.add(static_cast<Uid>(uid));
        }
    }
    UidPairs pairs;
    if (messages.empty()) {
        return Copied{};
    }
    auto undo = std::make_unique<MboxTruncate>();
    Result<std::vector<Uid>> added = add_messages(to, std::move(messages), *undo);
    if (!added) {
        return added.error();
    }
    std::size_t n = 0;
    for (const UidRange& range : sources.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            pairs.emplace_back(static_cast<Uid>(uid), (*added)[n++]);
        }
    }
    if (move) {
        UidSet gone;
        if (Result<void> removed = expunge(from, sources, gone); !removed) {
            if (access(journal_of(from.folder).c_str(), F_OK) != 0) {
                undo->run();                      // else the journal will remove them from here yet
            }
            return removed.error();
        }
        undo.reset();                             // the messages are in one place only: they stay there
    }
    return Copied{std::move(pairs), std::move(undo)};
}

void MboxBackend::committed(const Folder&, MailboxEditor&) {}

std::vector<std::string> MboxBackend::watched(const Folder& folder) const { return {folder.path}; }

std::unique_ptr<Backend> make_mbox_backend() { return std::make_unique<MboxBackend>(); }

}  // namespace postern::store
