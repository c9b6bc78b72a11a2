/// Changes to messages in a Maildir: flags are renames, copies are hard links, moves are renames.
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "lib/store/maildir.h"
#include "lib/store/maildir_name.h"
#include "lib/store/uid_arithmetic.h"

namespace postern::store {
namespace {

UniqueFd open_directory(const std::string& path) {
    return UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/// For file systems without hard links and for messages with too many of them.
Result<void> copy_bytes(int from_dir, const std::string& from, int to_dir, const std::string& to) {
    const UniqueFd in(openat(from_dir, from.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status {};
    if (!in || fstat(in.get(), &status) != 0) {
        return errno_error("open " + from);
    }
    const UniqueFd out(openat(to_dir, to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!out) {
        return errno_error("create " + to);
    }
    off_t at = 0;
    while (at < status.st_size) {
        const ssize_t n = sendfile(out.get(), in.get(), &at, static_cast<std::size_t>(status.st_size - at));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? Error(Errc::io, "read " + from + ": it became shorter") : errno_error("write " + to);
        }
    }
    const timespec times[2] = {{0, UTIME_NOW}, status.st_mtim};
    if (futimens(out.get(), times) != 0 || fsync(out.get()) != 0) {
        return errno_error("write " + to);
    }
    return {};
}

/// Links or moves messages into one directory; what was done can be taken back.
class Placement : public Undo {
public:
    /// `hard_links`: a copy that is not a move shares the file.
    Placement(const Folder& from, const Folder& to, bool move, bool hard_links)
        : move_(move), by_bytes_(!move && !hard_links), from_(open_directory(from.path)), to_(open_directory(to.path + "/cur")), to_name_(to.path) {}
    bool ok() const { return from_ && to_; }

    /// not_found: the source is not there.
    Result<void> place(const std::string& source, const std::string& target) {
        const int done = by_bytes_ ? 0
                         : move_   ? renameat(from_.get(), source.c_str(), to_.get(), target.c_str())
                                   : linkat(from_.get(), source.c_str(), to_.get(), target.c_str(), 0);
        if (by_bytes_ || done != 0) {
            if (!by_bytes_ && errno != EXDEV && errno != EMLINK && errno != EPERM && errno != EOPNOTSUPP) {
                return errno_error("copy to " + to_name_);
            }
            if (Result<void> copied = copy_bytes(from_.get(), source, to_.get(), target); !copied) {
                unlinkat(to_.get(), target.c_str(), 0);
                return copied;
            }
            if (move_) {
                copied_sources_.push_back(source);
            }
        }
        placed_.emplace_back(source, target);
        return {};
    }
    Result<void> make_durable() {
        if (!placed_.empty() && fsync(to_.get()) != 0) {
            return errno_error("sync " + to_name_);
        }
        for (const std::string& source : copied_sources_) {
            unlinkat(from_.get(), source.c_str(), 0);
        }
        return {};
    }
    void run() override {
        for (const auto& [source, target] : placed_) {
            if (!move_ || linkat(to_.get(), target.c_str(), from_.get(), source.c_str(), 0) == 0 || errno == EEXIST) {
                unlinkat(to_.get(), target.c_str(), 0);
            }
        }
    }

private:
    bool move_, by_bytes_;
    UniqueFd from_, to_;
    std::string to_name_;
    std::vector<std::pair<std::string, std::string>> placed_;
    std::vector<std::string> copied_sources_;
};

std::string copy_base(std::string_view old_base) {
    std::string base = unique_base();
    for (const char letter : {'S', 'W'}) {
        if (const std::optional<std::uint64_t> size = size_in_name(old_base, letter)) {
            base += ',';
            base += letter;
            base += '=';
            base += std::to_string(*size);
        }
    }
    return base;
}

}  // namespace

Result<void> MaildirBackend::set_flags(const Placed& mailbox, std::span<const FlagEdit> edits, UidSet& missing) {
    MailboxEditor& editor = *mailbox.editor;
    const UniqueFd directory = open_directory(mailbox.folder.path);
    if (!directory) {
        return errno_error("open " + mailbox.folder.path);
    }
    OwnChange own(mailbox.folder, *mailbox.state);
    const std::size_t keywords_before = editor.record().keywords.size();
    for (const FlagEdit& edit : edits) {
        Result<const StoredName*> name = editor.name_of(edit.uid);
        if (!name) {
            return name.error();
        }
        if (*name == nullptr) {
            continue;
        }
        const Entry* const entry = *editor.find(edit.uid);
        const std::string old_file = message_file(*entry, **name);
        const std::uint32_t flags = edit.flags | (entry->flags & kPassed);
        const std::string suffix = (entry->flags & kOddName) != 0 ? changed_suffix((*name)->odd_suffix, flags, edit.keywords)
                                                                  : suffix_for(flags, edit.keywords);
        const std::string new_file = "cur/" + (*name)->base + suffix;
        if (old_file != new_file && renameat(directory.get(), old_file.c_str(), directory.get(), new_file.c_str()) != 0) {
            if (errno != ENOENT) {
                return errno_error("rename " + mailbox.folder.path + "/" + old_file);
            }
            missing.add(edit.uid);
            continue;
        }
        const bool odd = (entry->flags & kOddName) != 0 && !parse_suffix(suffix).usual;
        Result<void> done = editor.rename(edit.uid, odd ? suffix : std::string());
        if (done) {
            done = editor.update(edit.uid, flags | (odd ? kOddName : 0u), edit.keywords);
        }
        if (!done) {
            return done;
        }
    }
    own.finish(editor.record());
    if (editor.record().keywords.size() != keywords_before) {
        write_keywords_file(mailbox.folder, editor, *mailbox.state);
    }
    return {};
}

Result<void> MaildirBackend::expunge(const Placed& mailbox, const UidSet& uids, UidSet& missing) {
    MailboxEditor& editor = *mailbox.editor;
    const UniqueFd directory = open_directory(mailbox.folder.path);
    if (!directory) {
        return errno_error("open " + mailbox.folder.path);
    }
    OwnChange own(mailbox.folder, *mailbox.state);
    Result<void> done = for_each_uid(uids, [&](Uid uid) -> Result<void> {
        Result<const StoredName*> name = editor.name_of(uid);
        if (!name || *name == nullptr) {
            return name ? Result<void>() : Result<void>(name.error());
        }
        const std::string file = message_file(**editor.find(uid), **name);
        if (unlinkat(directory.get(), file.c_str(), 0) != 0) {
            if (errno != ENOENT) {
                return errno_error("remove " + mailbox.folder.path + "/" + file);
            }
            missing.add(uid);
            return {};
        }
        return editor.erase(uid);
    });
    own.finish(editor.record());
    return done;
}

Result<Copied> MaildirBackend::copy(const Placed& from, const Placed& to, const UidSet& uids, bool move,
                                    UidSet& missing) {
    Result<std::vector<int>> map = map_keywords(from.editor->record(), *to.editor);
    if (!map) {
        return map.error();
    }
    const bool same = from.editor == to.editor;
    auto undo = std::make_unique<Placement>(from.folder, to.folder, move, hard_links_);
    Placement& placement = *undo;
    if (!placement.ok()) {
        return errno_error("open " + to.folder.path);
    }
    OwnChange own_from(from.folder, *from.state);
    OwnChange own_to(to.folder, *to.state);
    struct Copy {
        Uid source;
        Entry entry;
        std::string base;
    };
    std::vector<Copy> copies;
    copies.reserve(uids.size());
    Result<void> done = for_each_uid(uids, [&](Uid uid) -> Result<void> {
        Result<const StoredName*> name = from.editor->name_of(uid);
        if (!name || *name == nullptr) {
            return name ? Result<void>() : Result<void>(name.error());
        }
        const Entry& old = **from.editor->find(uid);
        Copy copy{uid, Entry{}, copy_base((*name)->base)};
        copy.entry.flags = old.flags & (kStorableFlags | kPassed);
        copy.entry.keywords = mapped_keywords(old.keywords, *map);
        Result<void> placed = placement.place(message_file(old, **name),
                                              copy.base + suffix_for(copy.entry.flags, copy.entry.keywords));
        if (!placed && placed.error().code == Errc::not_found) {
            missing.add(uid);
            return {};
        }
        if (placed) {
            copies.push_back(std::move(copy));
        }
        return placed;
    });
    if (done) {
        done = placement.make_durable();
    }
    UidPairs pairs;
    for (std::size_t i = 0; done && i < copies.size(); ++i) {
        if (move) {
            done = from.editor->erase(copies[i].source);
        }
        Result<Uid> uid = done ? to.editor->append(copies[i].entry, std::move(copies[i].base), "") : done.error();
        if (uid) {
            pairs.emplace_back(copies[i].source, *uid);
        } else {
            done = uid.error();
        }
    }
    if (!done) {
        placement.run();
        return done.error();
    }
    if (!same) {
        own_from.finish(from.editor->record());
    }
    own_to.finish(to.editor->record());
    return Copied{std::move(pairs), std::move(undo)};
}

}  // namespace postern::store
