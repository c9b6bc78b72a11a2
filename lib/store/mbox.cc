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
#include "lib/log/log.h"
#include "lib/mail/header.h"
#include "lib/sandbox/identity.h"
#include "lib/store/crlf_to_lf.h"
#include "lib/store/maildir.h"
#include "lib/store/mbox_claims.h"
#include "lib/store/mbox_rewrite.h"

namespace postern::store {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kTick = 20'000'000;

std::int64_t mtime_of(const struct stat& status) {
    return std::int64_t{status.st_mtim.tv_sec} * kSecond + status.st_mtim.tv_nsec;
}

}  // namespace

std::string MboxBackend::journal_of(const Folder& folder) const {
    return folder.control + "/.postern.rewrite." + hex_encode(be32(static_cast<std::uint32_t>(checksum(folder.path, 0))));
}

MboxLocking MboxBackend::locking_of(const Folder& folder) const {
    MboxLocking locking = locking_;
    locking.privileged = locking_.privileged && folder.spool;
    return locking;
}

Result<MboxLock> MboxBackend::lock(const Folder& folder, MboxLock::Mode mode) {
    const std::string journal = journal_of(folder);
    if (access(journal.c_str(), F_OK) == 0) {
        mode = MboxLock::Mode::write;             // a crash left something to finish
    }
    const MboxLocking locking = locking_of(folder);
    Result<MboxLock> taken = MboxLock::take(folder.path, mode, locking);
    if (!taken && taken.error().code == Errc::not_found && folder.name == "INBOX") {
        // An empty inbox may have no file; without the right to make one the error stands.
        for (const bool privileged : {false, locking.privileged}) {
            const SavedGroup group(privileged);
            const UniqueFd made(::open(folder.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        }
        taken = MboxLock::take(folder.path, mode, locking);
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
        const MboxMapping map(fd, static_cast<std::size_t>(status.st_size));
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

/// X-IMAPbase and X-UID are taken over when the index begins with this file, but not a second time (mbox_claims.h).  Without the
/// memory of that, what has been given is not known.
Result<void> MboxBackend::adopt(const Folder& folder, const MboxFile& file, MailboxEditor& editor) {
    MailboxRecord& record = editor.record();
    const Result<std::uint32_t> claimed = claim_uidvalidity(folder.control, file.uidvalidity, record.uidvalidity);
    if (!claimed) {
        log_warning("{}: the UIDs of X-IMAPbase are not taken up: {}", folder.path, claimed.error().what);
        return {};
    }
    record.highest_modseq = std::max(record.highest_modseq, static_cast<Modseq>(time(nullptr)) << 16);
    return editor.reset(*claimed);
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
    if (editor.is_new()) {
        if (Result<void> adopted = adopt(mailbox.folder, found, editor); !adopted) {
            return adopted;
        }
    } else if (mailbox.state->uidvalidity != editor.record().uidvalidity) {   // seen for the first time by this process
        if (const Result<void> noted = note_uidvalidity(mailbox.folder.control, editor.record().uidvalidity); !noted) {
            log_warning("{}: {}", mailbox.folder.path, noted.error().what);
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
    if (done && editor.is_new() && editor.record().uidvalidity == found.uidvalidity) {
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

Result<MboxBackend::Located> MboxBackend::locate(const Folder& folder, int fd, const StoredName& name) {
    Result<const Parsed*> file = parsed(folder, fd, false);
    if (!file) {
        return file.error();
    }
    const auto at = (*file)->by_id.find(name.base);
    if (at == (*file)->by_id.end()) {
        return Error(Errc::not_found, "message is gone from " + folder.path);
    }
    return Located{*file, &(*file)->file.messages[at->second]};
}

Result<std::pair<std::string, std::int64_t>> MboxBackend::read(const Folder& folder, const StoredName& name) {
    Result<MboxLock> locked = lock(folder, MboxLock::Mode::read);
    if (!locked) {
        return locked.error();
    }
    const Result<Located> found = locate(folder, locked->fd(), name);
    if (!found) {
        return found.error();
    }
    const MboxMessage& message = *found->message;
    const MboxMapping map(locked->fd(), static_cast<std::size_t>(found->file->size));
    if (!map.ok()) {
        return errno_error("map " + folder.path);
    }
    const std::int64_t date = message.date != 0 ? message.date : found->file->mtime / kSecond;
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
    const Result<Located> found = locate(folder, locked->fd(), name);
    if (!found) {
        return found.error();
    }
    Summary summary;
    summary.internal_date = found->message->date != 0 ? found->message->date : found->file->mtime / kSecond;
    return summary;                               // size 0: it takes the text to know
}

void MboxBackend::committed(const Folder&, MailboxEditor&) {}

std::vector<std::string> MboxBackend::watched(const Folder& folder) const { return {folder.path}; }

std::unique_ptr<Backend> make_mbox_backend(MboxLocking locking) { return std::make_unique<MboxBackend>(std::move(locking)); }

}  // namespace postern::store
