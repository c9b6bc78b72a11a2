#include "lib/queue/transit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <ctime>

#include "lib/queue/directory.h"
#include "lib/queue/queue_id.h"

namespace postern::queue {
namespace {

constexpr const char* kLink = "/transit";
constexpr const char* kMove = "move.";
constexpr const char* kLock = "lock.";
constexpr const char* kTemporary = "tmp.";
constexpr std::size_t kPrefix = 5;            // of the first two
constexpr mode_t kMode = 0700;                // as WriterOptions::mode
constexpr std::int64_t kStaleTemporary = 60;  // seconds; writing one takes microseconds
constexpr std::size_t kCopyPiece = 128 * 1024;
/// Where keep() may have put a message, and where it may have gone from there: in the order in which messages move.
constexpr const char* kDirectories[] = {"incoming", "active", "deferred", "hold", "maildrop", "corrupt", "saved"};

std::string with(const char* prefix, std::string_view queue_id) {
    std::string name(prefix);
    name += queue_id;
    return name;
}

}  // namespace

std::string read_transit_link(const std::string& queue_directory) {
    char target[PATH_MAX] = "";
    const ssize_t length = ::readlink((queue_directory + kLink).c_str(), target, sizeof target);
    return length <= 0 || length == static_cast<ssize_t>(sizeof target) ? std::string() : std::string(target, static_cast<std::size_t>(length));
}

std::optional<Transit> Transit::open(const std::string& queue_directory, std::string seen_as) {
    const std::string path = read_transit_link(queue_directory);
    UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    struct stat info {};
    if (!directory || ::fstat(directory.get(), &info) != 0 || (info.st_mode & 0077) != 0) {
        return std::nullopt;   // none, or not only ours
    }
    return Transit(path.substr(path.rfind('/') + 1), std::move(directory), std::move(seen_as));
}

bool Transit::has_room() const {
    struct statvfs memory {};
    return ::fstatvfs(directory_.get(), &memory) == 0 && memory.f_bavail > memory.f_blocks / 2;
}

Result<void> Transit::put(std::string_view queue_id, const std::vector<std::string_view>& content) const {
    const std::string id(queue_id), temporary = with(kTemporary, queue_id);
    const UniqueFd file(::openat(directory_.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kMode));
    if (!file) {
        return errno_error("create transit/" + temporary);
    }
    Result<void> done = write_pieces(FileIo::system(), file.get(), 0, content, "transit/" + temporary);
    if (done && !rename(temporary, id)) {
        done = errno_error("rename transit/" + temporary);
    }
    if (!done) {
        ::unlinkat(directory_.get(), temporary.c_str(), 0);
    }
    return done;
}

/// Names that do not begin with a dot.
Result<std::vector<std::string>> Transit::read_names() const {
    std::vector<std::string> found;
    Result<DirectoryReader> reader = DirectoryReader::open_at(directory_.get(), ".");
    if (!reader) {
        return reader.error();
    }
    constexpr std::size_t kPiece = 4096;
    for (bool more = true; more;) {
        std::vector<DirectoryReader::Name> piece = reader->next(kPiece);
        for (DirectoryReader::Name& entry : piece) {
            found.push_back(std::move(entry.name));
        }
        more = !piece.empty();
    }
    return found;
}

std::vector<std::string> Transit::names() const {
    Result<std::vector<std::string>> found = read_names();
    return found ? std::move(*found) : std::vector<std::string>();
}

bool Transit::is_there() const {
    struct stat info {};
    return ::fstat(directory_.get(), &info) == 0 && info.st_nlink > 0;
}

bool Transit::is_empty() const {
    const UniqueFd alone = lock_movers(LOCK_EX);
    const Result<std::vector<std::string>> found = read_names();
    const auto is_message = [](const std::string& name) { return is_queue_id(name) || name.compare(0, kPrefix, kMove) == 0; };
    return alone && found && is_there() && std::none_of(found->begin(), found->end(), is_message);
}

std::vector<std::string> Transit::ids() const {
    std::vector<std::string> found = names();
    std::erase_if(found, [](const std::string& name) { return !is_queue_id(name); });
    std::sort(found.begin(), found.end());
    return found;
}

std::vector<std::string> Transit::all_ids() const {
    std::vector<std::string> found = names();
    for (std::string& name : found) {
        if (name.compare(0, kPrefix, kMove) == 0) {
            name.erase(0, kPrefix);
        }
    }
    std::erase_if(found, [](const std::string& name) { return !is_queue_id(name); });
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

UniqueFd Transit::open_any(std::string_view queue_id) const {
    UniqueFd file = open_file(queue_id, O_RDONLY);
    return file ? std::move(file) : open_file(with(kMove, queue_id), O_RDONLY);
}

bool Transit::exists(const std::string& name) const { return ::faccessat(directory_.get(), name.c_str(), F_OK, 0) == 0; }

bool Transit::contains(std::string_view queue_id) const {
    // In this order: the first may have become the second meanwhile, and that the first again when it could not be kept.
    const std::string id(queue_id);
    return exists(id) || exists(with(kMove, id)) || exists(id);
}

UniqueFd Transit::open_file(std::string_view queue_id, int flags) const {
    return UniqueFd(::openat(directory_.get(), std::string(queue_id).c_str(), flags | O_CLOEXEC | O_NOFOLLOW));
}

bool Transit::is_still(std::string_view queue_id, int file) const {
    struct stat now {}, then {};
    return ::fstatat(directory_.get(), std::string(queue_id).c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 && ::fstat(file, &then) == 0 &&
           now.st_ino == then.st_ino && now.st_dev == then.st_dev;
}

bool Transit::remove(std::string_view queue_id) const {
    return ::unlinkat(directory_.get(), std::string(queue_id).c_str(), 0) == 0;
}

/// Within the directory, and never over another file.
bool Transit::rename(const std::string& from, const std::string& to) const {
    return ::renameat2(directory_.get(), from.c_str(), directory_.get(), to.c_str(), RENAME_NOREPLACE) == 0;
}

/// What is `file` becomes a file of the queue.  Errors: as keep().
Result<UniqueFd> Transit::copy(std::string_view queue_id, int file, const std::string& directory, FileIo& io) const {
    const std::string path = queue_ + "/" + queue_path(directory, queue_id);
    const std::string temporary = queue_ + "/" + directory + "/" + with(kTemporary, queue_id);
    UniqueFd kept(::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kMode));
    if (!kept) {
        return errno_error("create " + temporary);
    }
    std::string piece(kCopyPiece, '\0');
    std::uint64_t offset = 0;
    Result<void> done;
    for (ssize_t got = 1; done && got > 0;) {
        got = ::pread(file, piece.data(), piece.size(), static_cast<off_t>(offset));
        if (got < 0) {
            done = errno_error("read transit/" + std::string(queue_id));
        } else {
            const auto size = static_cast<std::size_t>(got);
            done = write_exactly(io, kept.get(), std::string_view(piece).substr(0, size), offset, temporary);
            offset += size;
        }
    }
    // For reading only: agents get this descriptor.
    UniqueFd reader(done ? ::open(temporary.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1);
    if (done && (!reader || ::flock(reader.get(), LOCK_EX | LOCK_NB) != 0)) {
        done = errno_error("lock " + temporary);
    }
    if (done && !rename_without_replacing(temporary, path)) {
        done = errno_error("rename " + temporary + " to " + path);
    }
    if (!done) {
        const Error error = done.error();
        ::unlink(temporary.c_str());
        return error;
    }
    return reader;
}

Result<UniqueFd> Transit::keep(std::string_view queue_id, int file, const std::string& directory, bool agents, FileIo& io) const {
    const std::string id(queue_id), moving = with(kMove, queue_id);
    const UniqueFd mover = lock_movers(LOCK_SH);
    if (!mover || !rename(id, moving)) {
        return errno_error("keep transit/" + id);
    }
    Result<UniqueFd> kept = copy(queue_id, file, directory, io);
    if (!kept) {
        rename(moving, id);
        return Error(kept.error().code == Errc::not_found ? Errc::io : kept.error().code, kept.error().what);
    }
    if (!agents || !rename(moving, with(kLock, queue_id))) {
        ::unlinkat(directory_.get(), moving.c_str(), 0);
    }
    return kept;
}

Result<void> Transit::keep_idle(std::string_view queue_id, const std::string& directory) const {
    const UniqueFd file = open_file(queue_id, O_RDONLY);
    if (!file) {
        return errno_error("open transit/" + std::string(queue_id));
    }
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        return Error(Errc::temporary, "transit/" + std::string(queue_id) + " is locked");
    }
    const Result<UniqueFd> kept = keep(queue_id, file.get(), directory, false);
    return kept ? Result<void>() : Result<void>(kept.error());
}

/// Who moves a message has this shared, so that resume() can tell that all who did are dead.  None, with errno, when it is not to be had.
UniqueFd Transit::lock_movers(int operation) const {
    UniqueFd lock(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (lock && ::flock(lock.get(), operation) != 0) {
        lock.reset();
    }
    return lock;
}

bool Transit::is_held(std::string_view queue_id) const {
    if (exists(with(kMove, queue_id))) {   // first: it becomes the lock
        return true;
    }
    const UniqueFd file = open_file(with(kLock, queue_id), O_RDONLY);
    if (!file) {
        return errno != ENOENT;
    }
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        return true;
    }
    release(queue_id);
    return false;
}

void Transit::release(std::string_view queue_id) const { ::unlinkat(directory_.get(), with(kLock, queue_id).c_str(), 0); }

bool Transit::is_in_queue(const std::string& queue_id) const {
    const auto is_in = [&](const char* directory) {
        return ::access((queue_ + "/" + queue_path(directory, queue_id)).c_str(), F_OK) == 0;
    };
    return std::any_of(std::begin(kDirectories), std::end(kDirectories), is_in);
}

bool Transit::resume() const {
    const UniqueFd alone = lock_movers(LOCK_EX | LOCK_NB);
    if (!alone) {
        return false;
    }
    for (const std::string& name : names()) {
        const std::string id = name.size() > kPrefix ? name.substr(kPrefix) : std::string();
        if (name.compare(0, kPrefix, kMove) == 0) {
            const bool kept = is_in_queue(id);
            rename(name, kept ? with(kLock, id) : id);
            (void)(kept && is_held(id));
        } else if (name.compare(0, kPrefix, kLock) == 0) {
            (void)is_held(id);
        } else if (name.compare(0, std::char_traits<char>::length(kTemporary), kTemporary) == 0) {
            struct stat info {};
            if (::fstatat(directory_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_mtime < ::time(nullptr) - kStaleTemporary) {
                ::unlinkat(directory_.get(), name.c_str(), 0);
            }
        }
    }
    return true;
}

}  // namespace postern::queue
