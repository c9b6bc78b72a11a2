#include "lib/queue/commit_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>

#include "lib/base/strings.h"
#include "lib/queue/checksum.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

/// As many processes can have one each.
constexpr unsigned kMaxLogs = 64;
/// A log is made only where this many times its size is free.
constexpr std::uint64_t kFreeFactor = 8;
constexpr std::size_t kZeros = 1 << 20;
constexpr std::uint32_t kFuse = 0x65735546;   // FUSE_SUPER_MAGIC

std::int64_t monotonic_seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Where numbers begin: anywhere, so that what was left from an earlier use of the file is not taken for ours.
std::uint64_t random_number() {
    const std::string random = random_bytes(sizeof(std::uint64_t));
    StoredReader in(random);
    return (in.number<std::uint64_t>() >> 2) + 1;
}

bool is_blank(int fd) {
    const std::string zeros(kLogSector, '\0');
    std::string first(kLogSector, 'x');
    return ::pread(fd, first.data(), first.size(), 0) == static_cast<ssize_t>(first.size()) && first == zeros;
}

}  // namespace

Result<LogHeader> read_log_header(int fd) {
    char bytes[kLogSector];
    const bool readable = ::pread(fd, bytes, sizeof bytes, 0) == static_cast<ssize_t>(sizeof bytes);
    return decode_log_header(std::string_view(bytes, readable ? sizeof bytes : 0));
}

CommitLog::CommitLog(const LogOptions& options, std::string name, UniqueFd file)
    : options_(options), name_(std::move(name)), file_(std::move(file)), next_(random_number()) {}

Result<std::unique_ptr<CommitLog>> CommitLog::claim(const LogOptions& options) {
    for (unsigned index = 0; index < kMaxLogs; ++index) {
        std::string name = log_name(options.ring_size, index);
        Result<UniqueFd> file = open(options, name);
        if (!file) {
            return file.error();
        }
        if (!*file) {
            continue;
        }
        std::unique_ptr<CommitLog> log(new CommitLog(options, std::move(name), std::move(*file)));
        const Result<void> begun = log->begin();
        if (!begun) {
            return begun.error();
        }
        return log;
    }
    return Error(Errc::temporary, "all commit logs are in use");
}

/// Locked, whole and empty.  No descriptor when the log is somebody's, or waits for replay_logs() or settle_logs().
Result<UniqueFd> CommitLog::open(const LogOptions& options, const std::string& name) {
    const std::string path = options.queue_directory + "/commit/" + name;
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    struct stat status {};
    if (!file) {
        return errno_error("open " + path);
    }
    const Result<LogHeader> seen = read_log_header(file.get());   // first: who waits for the lock of such a log is not held up
    if (seen && seen->in_use) {
        return UniqueFd();
    }
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(file.get(), &status) != 0 || status.st_nlink == 0) {
        return UniqueFd();   // somebody's; or settle_logs() has just removed it
    }
    const Result<LogHeader> header = read_log_header(file.get());
    const bool whole = static_cast<std::uint64_t>(status.st_size) == log_file_size(options.ring_size);
    if (header && whole) {
        return header->in_use ? UniqueFd() : std::move(file);
    }
    if (whole && !is_blank(file.get())) {
        return UniqueFd();   // damaged, or of a later version: it may hold mail
    }
    // Its header is written last: it was never finished.
    const Result<void> made = make(options, file.get());
    if (!made) {
        ::unlink(path.c_str());
        return Error(made.error().code, "make " + path + ": " + made.error().what);
    }
    return file;
}

/// Writes zeros, so that later writes change nothing but content, and a flush need not touch the file system's journal.
Result<void> CommitLog::make(const LogOptions& options, int fd) {
    const std::uint64_t size = log_file_size(options.ring_size);
    struct statvfs disk {};
    if (::fstatvfs(fd, &disk) != 0 || disk.f_bavail * disk.f_frsize < size * kFreeFactor) {
        return Error(Errc::no_space, "the disk is too full");
    }
    if (::ftruncate(fd, 0) != 0) {
        return errno_error("truncate");
    }
    const std::string zeros(kZeros, '\0');
    for (std::uint64_t offset = 0; offset < size;) {
        const ssize_t wrote = ::pwrite(fd, zeros.data(), std::min<std::uint64_t>(zeros.size(), size - offset), static_cast<off_t>(offset));
        if (wrote <= 0) {
            return errno_error("write", wrote == 0 ? EIO : errno);
        }
        offset += static_cast<std::uint64_t>(wrote);
    }
    return ::fsync(fd) == 0 ? Result<void>() : errno_error("fsync");
}

Result<void> CommitLog::begin() {
    const std::string incoming = options_.queue_directory + "/incoming";
    queue_.reset(::open(incoming.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct statfs disk {};
    if (!queue_ || ::fstatfs(queue_.get(), &disk) != 0) {
        return errno_error("open " + incoming);
    }
    if (static_cast<std::uint32_t>(disk.f_type) == kFuse) {
        return Error(Errc::unsupported, incoming + " is on a FUSE file system");
    }
    const Result<void> written = write_header();
    if (!written) {
        return written;
    }
    // With its name, if it is new.
    const UniqueFd directory(::open((options_.queue_directory + "/commit").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || io().fsync(file_.get()) != 0 || io().fsync(directory.get()) != 0) {
        return errno_error("fsync commit/" + name_);
    }
    return {};
}

Result<void> CommitLog::flush_file_system() const {
    return io().syncfs(queue_.get()) == 0 ? Result<void>() : errno_error("flush the file system of " + options_.queue_directory);
}

Result<void> CommitLog::write_header() {
    LogHeader header;
    header.in_use = true;
    header.ring_size = options_.ring_size;
    header.first = live_.empty() ? next_ : live_.front().number;
    header.life = options_.life;
    return write_exactly(io(), file_.get(), encode_log_header(header), 0, "commit/" + name_);
}

std::optional<std::uint64_t> CommitLog::add(std::string_view queue_id, const std::vector<std::string_view>& image) {
    LogRecord record;
    for (const std::string_view piece : image) {
        record.content_crc = crc32c(record.content_crc, piece);
        record.length += static_cast<std::uint32_t>(piece.size());
    }
    const std::uint64_t size = log_record_size(record.length), ring = options_.ring_size;
    const std::uint64_t to_end = ring - end_ % ring;
    const std::uint64_t begin = size > to_end ? end_ + to_end : end_;   // a record does not go round
    const std::uint64_t first = live_.empty() ? end_ : live_.front().begin;
    if (begin + size - first > ring) {
        return std::nullopt;
    }
    record.queue_id = queue_id;
    record.number = next_++;
    live_.push_back({record.number, begin, monotonic_seconds(), record.queue_id});
    if (added_.empty() || begin != end_ || begin % ring == 0) {
        added_.push_back({log_ring_offset(ring) + begin % ring, {}});
    }
    std::string& bytes = added_.back().bytes;
    const std::size_t padded = bytes.size() + size;
    bytes += encode_log_record(record);
    for (const std::string_view piece : image) {
        bytes += piece;
    }
    bytes.resize(padded, '\0');
    end_ = begin + size;
    return record.number;
}

Result<void> CommitLog::flush() {
    if (added_.empty()) {
        return {};
    }
    Result<void> done;
    for (const Piece& piece : added_) {
        done = done ? write_exactly(io(), file_.get(), piece.bytes, piece.offset, "commit/" + name_) : done;
    }
    added_.clear();
    if (done && io().fdatasync(file_.get()) != 0) {
        done = errno_error("flush commit/" + name_);
    }
    return done;
}

CommitLog::State CommitLog::collect() {
    const std::uint64_t marks = log_marks(options_.ring_size);
    std::string bytes;
    while (!live_.empty()) {
        if (bytes.empty()) {   // as many marks as follow one another
            const std::uint64_t first = live_.front().number % marks;
            const std::uint64_t count = std::min<std::uint64_t>({live_.size(), marks - first, kLogHeaderSize / sizeof(std::uint64_t)});
            bytes.resize(count * sizeof(std::uint64_t));
            const std::uint64_t offset = log_mark_offset(options_.ring_size, live_.front().number);
            if (::pread(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes.size())) {
                break;
            }
        }
        StoredReader in(bytes);
        std::size_t done = 0;
        while (!in.empty() && in.number<std::uint64_t>() == live_[done].number) {
            ++done;
        }
        const bool all = done * sizeof(std::uint64_t) == bytes.size();
        live_.erase(live_.begin(), live_.begin() + static_cast<std::ptrdiff_t>(done));
        bytes.clear();
        if (!all) {
            break;
        }
    }
    State state;
    state.live = live_.size();
    state.oldest_seconds = live_.empty() ? 0 : monotonic_seconds() - live_.front().since;
    state.half_full = is_half_full();
    state.next = next_;
    return state;
}

std::uint64_t CommitLog::in_queue_before() const {
    if (options_.transit != nullptr && !options_.transit->is_there()) {
        return 0;
    }
    const auto is_in_transit = [&](const Live& one) { return options_.transit != nullptr && options_.transit->contains(one.queue_id); };
    const auto first = std::find_if(live_.begin(), live_.end(), is_in_transit);
    return first == live_.end() ? next_ : first == live_.begin() ? 0 : first->number;
}

Result<void> CommitLog::settle(std::uint64_t next) {
    const auto after = std::find_if(live_.begin(), live_.end(), [&](const Live& one) { return one.number >= next; });
    live_.erase(live_.begin(), after);
    const Result<void> written = write_header();
    if (written && io().fdatasync(file_.get()) != 0) {
        return errno_error("flush commit/" + name_);
    }
    return written;
}

/// Touches nothing that a call on the pool may be changing.
Result<void> CommitLog::release() const {
    LogHeader header;
    header.ring_size = options_.ring_size;
    header.life = options_.life;
    const Result<void> written = write_exactly(io(), file_.get(), encode_log_header(header), 0, "commit/" + name_);
    return written && io().fdatasync(file_.get()) != 0 ? Result<void>(errno_error("flush commit/" + name_)) : written;
}

}  // namespace postern::queue
