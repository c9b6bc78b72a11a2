#include "lib/store/maildir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/store/maildir_name.h"

namespace postern::store {
namespace {

constexpr std::size_t kListBuffer = 256 * 1024;
constexpr std::int64_t kSecond = 1'000'000'000;
/// File systems stamp directories with the kernel's tick (4 ms at HZ=250, 10 at HZ=100), coarse ones with whole
/// seconds: a second change within it does not show.
constexpr std::int64_t kTick = 20'000'000;

/// Whether a directory may hold something new.
bool may_have_changed(std::int64_t now_mtime, std::int64_t seen_mtime, std::int64_t checked, bool own, std::int64_t now) {
    if (now_mtime != seen_mtime) {
        return true;
    }
    if (own) {
        return now - seen_mtime > kSecond;        // others' changes may hide behind ours: look once, a second later
    }
    const std::int64_t granularity = seen_mtime % kSecond == 0 ? kSecond : kTick;
    return checked < seen_mtime + granularity;
}

}  // namespace

std::int64_t now_nanoseconds() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * kSecond + now.tv_nsec;
}

std::int64_t modified(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        return -1;
    }
    return std::int64_t{status.st_mtim.tv_sec} * kSecond + status.st_mtim.tv_nsec;
}

Result<void> DirListing::read(const std::string& path, bool is_new) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
        return errno_error("list " + path);
    }
    for (;;) {
        std::unique_ptr<char[]> buffer(new char[kListBuffer]);
        const ssize_t n = getdents64(fd.get(), buffer.get(), kListBuffer);
        if (n < 0) {
            return errno_error("list " + path);
        }
        if (n == 0) {
            return {};
        }
        for (ssize_t at = 0; at < n;) {
            // The kernel aligns its records; this is how getdents64() is meant to be read.
            const auto* const entry = reinterpret_cast<const dirent64*>(buffer.get() + at);
            at += entry->d_reclen;
            if (entry->d_name[0] == '.' || entry->d_type == DT_DIR) {
                continue;
            }
            const NameParts parts = split_name(entry->d_name);
            files_.push_back(File{parts.base, parts.suffix, is_new});
        }
        buffers_.push_back(std::move(buffer));
    }
}

std::string message_file(const Entry& entry, const StoredName& name) {
    const bool odd = (entry.flags & kOddName) != 0;
    if ((entry.flags & kInNew) != 0) {
        return "new/" + name.base + (odd ? name.odd_suffix : std::string());
    }
    return "cur/" + name.base + (odd ? name.odd_suffix : suffix_for(entry.flags, entry.keywords));
}

Result<bool> MaildirBackend::needs_scan(const Folder& folder, const DirState& state, const MailboxRecord& record,
                                        Access access) {
    const std::int64_t cur = modified(folder.path + "/cur");
    const std::int64_t fresh = modified(folder.path + "/new");
    if (cur < 0) {
        return errno_error("look at " + folder.path + "/cur");
    }
    if (state.uidvalidity != record.uidvalidity || state.modseq > record.highest_modseq || fresh < 0 ||
        (access == Access::read_write && record.in_new > 0)) {
        return true;
    }
    const std::int64_t now = now_nanoseconds();
    return may_have_changed(cur, state.cur_mtime, state.cur_checked, state.own_change != 0, now) ||
           may_have_changed(fresh, state.new_mtime, state.new_checked, false, now);
}

bool cur_is_unchanged(const Folder& folder, const DirState& state, const MailboxRecord& record) {
    return state.uidvalidity == record.uidvalidity && state.modseq <= record.highest_modseq &&
           !may_have_changed(modified(folder.path + "/cur"), state.cur_mtime, state.cur_checked, state.own_change != 0,
                             now_nanoseconds());
}

OwnChange::OwnChange(const Folder& folder, DirState& state)
    : folder_(folder), state_(state),
      was_known_(state.cur_mtime == modified(folder.path + "/cur")) {}

void OwnChange::finish(const MailboxRecord& record) {
    if (!was_known_) {
        return;
    }
    state_.cur_mtime = modified(folder_.path + "/cur");
    state_.own_change = 1;
    state_.modseq = record.highest_modseq;
}

Result<Message> MaildirBackend::open(const Folder& folder, const Entry& entry, const StoredName& name) {
    const std::string path = folder.path + "/" + message_file(entry, name);
    Message message;
    message.fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status {};
    if (!message.fd || fstat(message.fd.get(), &status) != 0) {
        return errno_error("open " + path);
    }
    if (!S_ISREG(status.st_mode)) {
        return Error(Errc::io, "open " + path + ": not a file");
    }
    message.size = static_cast<std::uint64_t>(status.st_size);
    return message;
}

Result<Summary> MaildirBackend::stat(const Folder& folder, const Entry& entry, const StoredName& name) {
    const std::string path = folder.path + "/" + message_file(entry, name);
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        return errno_error("look at " + path);
    }
    Summary summary;
    summary.size = size_in_name(name.base, 'W').value_or(0);
    summary.internal_date = status.st_mtime;
    return summary;
}

void MaildirBackend::committed(const Folder& folder, MailboxEditor& editor) {
    const MailboxRecord& record = editor.record();
    if (editor.is_new()) {
        UidList list;
        list.uidvalidity = record.uidvalidity;
        list.uidnext = record.uidnext;
        constexpr char kHex[] = "0123456789abcdef";
        for (const char c : record.guid) {
            list.guid += kHex[static_cast<unsigned char>(c) >> 4];
            list.guid += kHex[static_cast<unsigned char>(c) & 15];
        }
        list.entries = editor.appended();
        // Without a list a lost index means new UIDs: worse, but nothing a client must be told of now.
        if (const Result<void> written = write_uidlist(folder.control, list); !written) {
            return;
        }
    } else if (!editor.appended().empty()) {
        if (const Result<void> written = append_uidlist(folder.control, editor.appended()); !written) {
            return;
        }
    }
}

std::vector<std::string> MaildirBackend::watched(const Folder& folder) const {
    return {folder.path + "/new", folder.path + "/cur"};
}

std::unique_ptr<Backend> make_maildir_backend(bool hard_links) { return std::make_unique<MaildirBackend>(hard_links); }

Result<std::vector<int>> map_keywords(const MailboxRecord& from, MailboxEditor& to) {
    std::vector<int> map;
    for (const std::string& keyword : from.keywords) {
        Result<std::size_t> position = to.keyword(keyword);
        if (!position && position.error().code != Errc::too_big) {
            return position.error();
        }
        map.push_back(position ? static_cast<int>(*position) : -1);
    }
    return map;
}

std::uint64_t mapped_keywords(std::uint64_t keywords, const std::vector<int>& map) {
    std::uint64_t out = 0;
    for (std::size_t i = 0; i < map.size() && keywords >> i != 0; ++i) {
        if ((keywords >> i & 1) != 0 && map[i] >= 0) {
            out |= std::uint64_t{1} << map[i];
        }
    }
    return out;
}

}  // namespace postern::store
