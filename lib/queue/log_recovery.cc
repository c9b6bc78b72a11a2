#include "lib/queue/log_recovery.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>

#include "lib/queue/checksum.h"
#include "lib/queue/directory.h"
#include "lib/queue/queue_id.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

constexpr int kLockTries = 100;
constexpr auto kLockPause = std::chrono::milliseconds(10);
/// Where a message may be; maildrop: postsuper -r has moved it there.
constexpr const char* kPlaces[] = {"incoming", "active", "deferred", "hold", "maildrop"};

FileIo& io_of(const LogOptions& options) { return options.io != nullptr ? *options.io : FileIo::system(); }

/// A log that nobody uses now (read_places(): or somebody does).
struct Orphan {
    std::string name;
    UniqueFd file;     ///< locked
    LogHeader header;
};

std::string path_of(const LogOptions& options, const std::string& name) { return options.queue_directory + "/commit/" + name; }

bool was_written_elsewhen(const LogOptions& options, const LogHeader& header) {
    return header.in_use && (options.life.empty() || header.life != options.life);
}

/// The header of a log, locked or not; none when it was never finished, or is not ours to judge: CommitLog::claim() makes it anew.
std::optional<LogHeader> header_of(const Orphan& log) {
    Result<LogHeader> header = read_log_header(log.file.get());
    return header && header->ring_size == *log_ring_size(log.name) ? std::optional<LogHeader>(std::move(*header)) : std::nullopt;
}

/// Locks it.  Who has a log of another life locked only looks at it, as CommitLog::claim() and we do: it is worth a moment's waiting.
bool lock(const LogOptions& options, const Orphan& log) {
    for (int tries = 0; ::flock(log.file.get(), LOCK_EX | LOCK_NB) != 0; ++tries) {
        const std::optional<LogHeader> header = header_of(log);
        if (tries == kLockTries || !header || !was_written_elsewhen(options, *header)) {
            return false;
        }
        std::this_thread::sleep_for(kLockPause);
    }
    return true;
}

std::optional<Orphan> take(const LogOptions& options, const std::string& name) {
    Orphan log;
    log.name = name;
    log.file.reset(::open(path_of(options, name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!log.file || !lock(options, log)) {
        return std::nullopt;
    }
    std::optional<LogHeader> header = header_of(log);
    if (!header) {
        return std::nullopt;
    }
    log.header = std::move(*header);
    return log;
}

std::vector<std::string> log_names(const LogOptions& options) {
    std::vector<std::string> found;
    Result<DirectoryReader> reader = DirectoryReader::open(options.queue_directory + "/commit");
    if (!reader) {
        return found;
    }
    constexpr std::size_t kPiece = 256;
    for (std::vector<DirectoryReader::Name> names = reader->next(kPiece); !names.empty(); names = reader->next(kPiece)) {
        for (const DirectoryReader::Name& entry : names) {
            if (log_ring_size(entry.name)) {
                found.push_back(entry.name);
            }
        }
    }
    return found;
}

std::vector<Orphan> orphans(const LogOptions& options) {
    std::vector<Orphan> found;
    for (const std::string& name : log_names(options)) {
        if (std::optional<Orphan> log = take(options, name)) {
            found.push_back(std::move(*log));
        }
    }
    return found;
}

/// Nothing in it counts any more.
Result<void> release(const LogOptions& options, Orphan& log) {
    log.header.in_use = false;
    const std::string path = path_of(options, log.name);
    Result<void> written = write_exactly(io_of(options), log.file.get(), encode_log_header(log.header), 0, path);
    if (written && io_of(options).fdatasync(log.file.get()) != 0) {
        return errno_error("flush " + path);
    }
    return written;
}

bool is_done(const Orphan& log, const LogRecord& record) {
    char mark[sizeof(std::uint64_t)];
    const auto offset = static_cast<off_t>(log_mark_offset(log.header.ring_size, record.number));
    if (::pread(log.file.get(), mark, sizeof mark, offset) != static_cast<ssize_t>(sizeof mark)) {
        return false;
    }
    StoredReader in(std::string_view(mark, sizeof mark));
    return in.number<std::uint64_t>() == record.number;
}

/// The content of the record at `offset` of the ring; none when there is no record that counts, or it is torn.
std::optional<std::string> read_record(const Orphan& log, std::uint64_t offset, LogRecord& record) {
    const std::uint64_t start = log_ring_offset(log.header.ring_size);
    char bytes[kLogRecordHeaderSize];
    if (!read_exactly(log.file.get(), bytes, sizeof bytes, start + offset)) {
        return std::nullopt;
    }
    const std::optional<LogRecord> found = decode_log_record(std::string_view(bytes, sizeof bytes), log.header.ring_size - offset);
    if (!found || found->number - log.header.first >= kLogWindow) {
        return std::nullopt;
    }
    const Extent content{start + offset + kLogRecordHeaderSize, found->length};
    Result<std::string> image = read_extent(log.file.get(), content, static_cast<std::size_t>(found->length));
    if (!image || crc32c(0, *image) != found->content_crc) {
        return std::nullopt;
    }
    record = *found;
    return std::move(*image);
}

/// A complete queue file.
bool is_whole(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) {
        return false;
    }
    const Result<QueueFile> content = QueueFile::read(file.get());
    return content && content->verify_content(file.get());
}

/// The log has the only durable copy of the message.
bool is_in_transit(const LogOptions& options, const std::string& id) { return options.transit != nullptr && options.transit->contains(id); }

/// True when the message is in the queue; what is left of it there is removed otherwise, once it is written anew.
bool is_in_queue(const LogOptions& options, const std::string& id, std::vector<std::string>& damaged) {
    for (const char* place : kPlaces) {
        std::string path = options.queue_directory + "/" + queue_path(place, id);
        if (is_whole(path)) {
            return true;
        }
        if (::access(path.c_str(), F_OK) == 0) {
            damaged.push_back(std::move(path));
        }
    }
    return false;
}

/// Not flushed yet.
Result<void> put_back(const LogOptions& options, const std::string& id, const std::string& image) {
    const std::string path = options.queue_directory + "/" + queue_path("incoming", id);
    const std::string temporary = options.queue_directory + "/incoming/tmp." + id;
    const UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0700));
    if (!file) {
        return errno_error("create " + temporary);
    }
    FileIo& io = io_of(options);
    Result<void> done = write_exactly(io, file.get(), image, 0, temporary);
    if (done && io.rename(temporary.c_str(), path.c_str()) != 0) {
        done = errno_error("put back " + path);
    }
    if (!done) {
        ::unlink(temporary.c_str());
    }
    return done;
}

/// One record: afterwards the message is in the queue, or was done with.  True when it had to be put back.
Result<bool> restore(const LogOptions& options, const Orphan& log, const LogRecord& record, const std::string& image) {
    std::vector<std::string> damaged;
    // Asked twice, and then for the mark: qmgr may be moving or finishing it at this moment.
    const bool there = is_in_queue(options, record.queue_id, damaged) || (damaged.empty() && is_in_queue(options, record.queue_id, damaged));
    if (there || is_done(log, record)) {
        return false;
    }
    const Result<void> written = put_back(options, record.queue_id, image);
    if (!written) {
        return written.error();
    }
    const std::string path = options.queue_directory + "/" + queue_path("incoming", record.queue_id);
    for (const std::string& other : damaged) {
        if (other != path) {
            ::unlink(other.c_str());
        }
    }
    return true;
}

/// So that what was put back is not put back a second time, should other messages be in trouble.
Result<void> mark(const LogOptions& options, const Orphan& log, std::uint64_t number) {
    std::string bytes;
    put_number(bytes, number);
    return write_exactly(io_of(options), log.file.get(), bytes, log_mark_offset(log.header.ring_size, number), path_of(options, log.name));
}

Result<void> flush_file_system(const LogOptions& options) {
    const std::string path = options.queue_directory + "/incoming";
    const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || io_of(options).syncfs(directory.get()) != 0) {
        return errno_error("flush the file system of " + path);
    }
    return {};
}

/// Calls `each` with the records that count and are not done with.
template <class Each>
void for_records(const Orphan& log, Each each) {
    for (std::uint64_t offset = 0; offset < log.header.ring_size;) {
        LogRecord record;
        const std::optional<std::string> image = read_record(log, offset, record);
        offset += image ? log_record_size(record.length) : kLogSector;
        if (image && !is_done(log, record)) {
            each(record, *image);
        }
    }
}

bool has_message_in_transit(const LogOptions& options, const Orphan& log) {
    bool found = false;
    if (options.transit != nullptr) {
        const bool gone = !options.transit->is_there();   // with all that was in it
        for_records(log, [&](const LogRecord& record, const std::string&) { found = found || gone || is_in_transit(options, record.queue_id); });
    }
    return found;
}

void replay(const LogOptions& options, Orphan& log, LogRecovery& recovery) {
    std::vector<std::uint64_t> safe;
    bool all = true;
    for_records(log, [&](const LogRecord& record, const std::string& image) {
        if (is_in_transit(options, record.queue_id)) {   // first: it may be on its way to the queue, and never comes back
            all = false;
            return;
        }
        const Result<bool> restored = restore(options, log, record, image);
        if (restored) {
            safe.push_back(record.number);
            recovery.put_back += *restored ? 1 : 0;
        } else {
            recovery.trouble.push_back(restored.error().what);
            all = false;
        }
    });
    Result<void> done = safe.empty() ? Result<void>() : flush_file_system(options);
    for (const std::uint64_t number : safe) {
        done = done ? mark(options, log, number) : done;
    }
    if (done && all) {
        done = release(options, log);
    } else if (done) {
        done = io_of(options).fdatasync(log.file.get()) == 0 ? done : errno_error("flush " + path_of(options, log.name));
    }
    if (!done) {
        recovery.trouble.push_back(done.error().what);
    }
}

}  // namespace

LogRecovery replay_logs(const LogOptions& options) {
    LogRecovery recovery;
    for (Orphan& log : orphans(options)) {
        if (was_written_elsewhen(options, log.header)) {
            replay(options, log, recovery);
        }
    }
    return recovery;
}

LogRecovery settle_logs(const LogOptions& options) {
    LogRecovery recovery;
    std::vector<Orphan> found = orphans(options);
    bool flushed = false;
    for (Orphan& log : found) {
        if (!log.header.in_use) {
            if (log.header.ring_size != options.ring_size) {
                ::unlink(path_of(options, log.name).c_str());
            }
            continue;
        }
        if (was_written_elsewhen(options, log.header)) {
            continue;   // replay_logs() had trouble with it
        }
        if (has_message_in_transit(options, log)) {
            continue;   // until it is moved to the queue, or delivered
        }
        if (!flushed) {
            const Result<void> done = flush_file_system(options);
            if (!done) {
                recovery.trouble.push_back(done.error().what);
                break;
            }
            flushed = true;
        }
        const Result<void> released = release(options, log);
        if (!released) {
            recovery.trouble.push_back(released.error().what);
        }
    }
    return recovery;
}

std::vector<LoggedMessage> read_places(const LogOptions& options) {
    std::vector<LoggedMessage> found;
    for (const std::string& name : log_names(options)) {
        Orphan log;
        log.name = name;
        log.file.reset(::open(path_of(options, name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
        std::optional<LogHeader> header = log.file ? header_of(log) : std::nullopt;
        if (!header || !header->in_use) {
            continue;
        }
        log.header = std::move(*header);
        for_records(log, [&](const LogRecord& record, const std::string&) {
            found.push_back({record.queue_id, {name, record.number}});
        });
    }
    return found;
}

}  // namespace postern::queue
