/// Changes to mbox files: adding messages at the end, rewriting state fields, taking messages out.
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>
#include <utility>

#include "lib/mail/header.h"
#include "lib/store/crlf_to_lf.h"
#include "lib/store/mbox.h"
#include "lib/store/mbox_rewrite.h"

namespace postern::store {

/// Shortens a file to what it was before messages were added, if nobody added more.
class MboxTruncate : public Undo {
public:
    void set(std::string path, std::uint64_t old_size, int fd, const MboxLocking& locking) {
        locking_ = locking;
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
        Result<MboxLock> locked = path.empty() ? Error(Errc::not_found, "") : MboxLock::take(path, MboxLock::Mode::write, locking_);
        struct stat status {};
        if (locked && fstat(locked->fd(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) == new_size_) {
            // Best effort: a failure leaves a message that the client will add once more.
            static_cast<void>(ftruncate(locked->fd(), static_cast<off_t>(old_size_)) == 0);
        }
    }

private:
    MboxLocking locking_;
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

/// Whether the last `count` messages are what was added behind `old_size`.  A Content-Length of an older message that happens
/// to end where the file ends now has taken them in otherwise.
bool are_apart(const MboxFile& file, std::size_t count, std::uint64_t old_size) {
    return file.messages.size() >= count && file.messages[file.messages.size() - count].start >= old_size;
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

Result<std::unique_ptr<Appender>> MboxBackend::append(const Folder&) {
    return std::unique_ptr<Appender>(std::make_unique<MboxAppender>());
}

/// `padding`: spaces more than usual in each message's state fields.
std::string MboxBackend::formatted_all(const std::vector<NewMessage>& messages, const MailboxRecord& record, bool file_is_empty,
                                       std::size_t padding) {
    std::string text;
    Uid uid = record.uidnext;
    for (const NewMessage& message : messages) {
        std::string state = file_is_empty && text.empty() ? base_field(record.uidvalidity, uid) : std::string();
        const std::string fields = state_fields(message.entry.flags, names_of(message.entry.keywords, record), uid++, 0);
        state += fields.substr(0, fields.size() - 1) + std::string(padding, ' ') + "\n";
        text += formatted(message.text, message.date, state);
    }
    return text;
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
    Result<const Parsed*> file = static_cast<const Parsed*>(nullptr);
    for (std::size_t padding = 0; *file == nullptr || !are_apart((*file)->file, messages.size(), old_size); padding += 2) {
        if (padding == 4 || (padding > 0 && ftruncate(locked->fd(), static_cast<off_t>(old_size)) != 0)) {
            return Error(Errc::io, "add to " + mailbox.folder.path + ": the new message cannot be told from an older one");
        }
        std::string text = tail[1] != '\n' ? "\n\n" : tail[0] != '\n' ? "\n" : "";
        text += formatted_all(messages, editor.record(), old_size == 0, padding);
        const std::vector<MboxPiece> pieces = {MboxPiece{0, 0, std::move(text)}};
        if (Result<void> written = rewrite_tail(locked->fd(), journal_of(mailbox.folder), old_size, pieces); !written) {
            return written.error();
        }
        undo.set(mailbox.folder.path, old_size, locked->fd(), locking_of(mailbox.folder));
        file = parsed(mailbox.folder, locked->fd(), true);
        if (!file) {
            return file.error();
        }
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

Result<Appended> MboxBackend::commit(const Placed& mailbox, std::span<const std::unique_ptr<Appender>> messages,
                                     std::vector<std::pair<std::string, std::string>>& cached) {
    std::vector<NewMessage> all;
    Appended appended;
    if (messages.empty()) {
        return appended;
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
    Result<std::vector<Uid>> uids = add_messages(mailbox, std::move(all), dynamic_cast<MboxAppender&>(*messages.front()).undo());
    if (!uids) {
        return uids.error();
    }
    appended.uids = std::move(*uids);
    return appended;
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

    /// All messages of the file, in order.
    void edit_all(const MboxFile& file, const std::unordered_map<std::string, const Edit*>& edits) {
        bool is_first = true;
        for (const MboxMessage& message : file.messages) {
            const auto found = edits.find(message.id);
            if (found != edits.end()) {
                edit(message, *found->second, is_first && !message.internal);
            }
            if (found == edits.end() || !found->second->remove) {
                kept_.push_back(message.id);
            }
            is_first = is_first && message.internal;
        }
    }
    /// Ids of what stays.
    const std::vector<std::string>& kept() const { return kept_; }

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
    std::vector<std::string> kept_;
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
    const MboxMapping map(locked->fd(), static_cast<std::size_t>((*file)->size));
    if (!map.ok() || !unseen_changes) {
        return errno_error("map " + mailbox.folder.path);
    }
    Rewriting rewriting(map.text(), editor);
    rewriting.edit_all((*file)->file, by_id);
    const std::size_t before = (*file)->file.messages.size();
    Result<void> done = rewriting.write(locked->fd(), journal_of(mailbox.folder));
    for (const auto& [id, edit] : by_id) {
        if (done) {
            done = edit->remove ? editor.erase(edit->uid) : editor.update(edit->uid, edit->flags, edit->keywords);
        }
    }
    if (done && rewriting.kept().size() < before) {
        file = parsed(mailbox.folder, locked->fd(), true);
        done = file ? renumber_copies(editor, rewriting.kept(), (*file)->file) : file.error();
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

Result<std::vector<MboxBackend::NewMessage>> MboxBackend::read_messages(const Placed& from, const Placed& to,
                                                                        const UidSet& uids, UidSet& found, UidSet& missing) {
    Result<std::vector<int>> map = map_keywords(from.editor->record(), *to.editor);
    if (!map) {
        return map.error();
    }
    std::vector<NewMessage> messages;
    for (const UidRange& range : uids.ranges()) {
        for (std::uint64_t at = range.first; at <= range.last; ++at) {
            const auto uid = static_cast<Uid>(at);
            Result<const StoredName*> name = from.editor->name_of(uid);
            if (!name) {
                return name.error();
            }
            if (*name == nullptr) {
                continue;
            }
            Result<std::pair<std::string, std::int64_t>> text = read(from.folder, **name);
            if (!text && text.error().code == Errc::not_found) {
                missing.add(uid);
                continue;
            }
            if (!text) {
                return text.error();
            }
            const Entry& old = **from.editor->find(uid);
            NewMessage message;
            message.text = std::move(text->first);
            message.date = text->second;
            message.entry.flags = old.flags & kStorableFlags;
            message.entry.keywords = mapped_keywords(old.keywords, *map);
            messages.push_back(std::move(message));
            found.add(uid);
        }
    }
    return messages;
}

Result<Copied> MboxBackend::copy(const Placed& from, const Placed& to, const UidSet& uids, bool move, UidSet& missing) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    UidSet sources;
    Result<std::vector<NewMessage>> messages = read_messages(from, to, uids, sources, missing);
    if (!messages) {
        return messages.error();
    }
    if (messages->empty()) {
        return Copied{};
    }
    auto undo = std::make_unique<MboxTruncate>();
    Result<std::vector<Uid>> added = add_messages(to, std::move(*messages), *undo);
    if (!added) {
        undo->run();
        return added.error();
    }
    UidPairs pairs;
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

}  // namespace postern::store
