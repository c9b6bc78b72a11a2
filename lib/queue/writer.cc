// Writing queue files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/queue/checksum.h"
#include "lib/queue/envelope_codec.h"
#include "lib/queue/fixed_header.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

/// Body bytes that wait in memory; a smaller message is written with one call.
constexpr std::size_t kBodyBuffer = 128 * 1024;
constexpr int kMaxNameTries = 100;

std::int64_t now_usec() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
}

/// "tmp.", process, time, counter: unique among living processes; O_EXCL covers the rest.
std::string temporary_name() {
    static std::atomic<unsigned> counter{0};
    return "tmp." + std::to_string(::getpid()) + "." + std::to_string(now_usec()) + "." + std::to_string(counter++);
}

/// In the place of an inode number.
std::uint64_t number_without_file() {
    const std::string random = random_bytes(sizeof(std::uint64_t));
    StoredReader in(random);
    return kFirstRandomNumber + in.number<std::uint64_t>() % kFirstRandomNumber;
}

}  // namespace

Result<void> write_pieces(FileIo& io, int fd, std::uint64_t offset, std::vector<std::string_view> pieces, const std::string& what) {
    std::size_t first = 0;
    while (first < pieces.size()) {
        if (pieces[first].empty()) {
            ++first;
            continue;
        }
        std::vector<iovec> vector;
        for (std::size_t i = first; i < pieces.size(); ++i) {
            vector.push_back({const_cast<char*>(pieces[i].data()), pieces[i].size()});
        }
        const ssize_t wrote = io.pwritev(fd, vector.data(), static_cast<int>(vector.size()), offset);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return errno_error("write " + what, wrote == 0 ? EIO : errno);
        }
        offset += static_cast<std::uint64_t>(wrote);
        for (auto left = static_cast<std::size_t>(wrote); left > 0;) {
            const std::size_t taken = std::min(left, pieces[first].size());
            pieces[first].remove_prefix(taken);
            left -= taken;
            first += pieces[first].empty() ? 1 : 0;
        }
    }
    return {};
}

Result<void> write_exactly(FileIo& io, int fd, std::string_view bytes, std::uint64_t offset, const std::string& what) {
    return write_pieces(io, fd, offset, {bytes}, what);
}

ssize_t FileIo::pwritev(int fd, const iovec* pieces, int count, std::uint64_t offset) {
    return ::pwritev(fd, pieces, count, static_cast<off_t>(offset));
}
int FileIo::fdatasync(int fd) { return ::fdatasync(fd); }
int FileIo::fsync(int fd) { return ::fsync(fd); }
int FileIo::rename(const char* from, const char* to) { return std::rename(from, to); }

int FileIo::syncfs(int fd) { return ::syncfs(fd); }

FileIo& FileIo::system() {
    static FileIo io;
    return io;
}

Result<std::unique_ptr<QueueFileWriter>> QueueFileWriter::create(WriterOptions options) {
    if (options.time_usec == 0) {
        options.time_usec = now_usec();
    }
    std::unique_ptr<QueueFileWriter> writer(new QueueFileWriter(std::move(options)));
    const WriterOptions& its = writer->options_;
    if (its.in_memory) {
        writer->queue_id_ = make_queue_id(its.time_usec, number_without_file(), its.long_queue_ids);
        return writer;
    }
    const Result<void> made = writer->make_file();
    if (!made) {
        return made.error();
    }
    return writer;
}

/// The temporary file; the queue id is made of it, unless there is one.
Result<void> QueueFileWriter::make_file() {
    for (int tries = 0; !file_; ++tries) {
        std::string path = options_.queue_directory + "/" + options_.directory + "/" + temporary_name();
        file_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, options_.mode));
        if (file_) {
            path_ = std::move(path);
        } else if (errno != EEXIST || tries == kMaxNameTries) {
            return errno_error("create " + path);
        }
    }
    struct stat status {};
    // The mask may be anything in a command; 0700, what daemons use, passes all but absurd ones.
    if (::fstat(file_.get(), &status) != 0 || (options_.mode != 0700 && ::fchmod(file_.get(), options_.mode) != 0)) {
        return errno_error("stat " + path_);
    }
    if (queue_id_.empty()) {
        queue_id_ = make_queue_id(options_.time_usec, status.st_ino, options_.long_queue_ids);
    }
    return {};
}

QueueFileWriter::~QueueFileWriter() {
    if (!path_.empty()) {
        ::unlink(path_.c_str());
    }
}

Result<void> QueueFileWriter::write_at(std::uint64_t offset, std::vector<std::string_view> pieces) {
    return write_pieces(io(), file_.get(), offset, std::move(pieces), path_);
}

Result<void> QueueFileWriter::flush_body() {
    if (const Result<void> made = file_ ? Result<void>() : make_file(); !made) {
        return made;
    }
    const std::uint64_t offset = kFixedHeaderSize + body_length_ - body_buffer_.size();
    Result<void> written = write_at(offset, {body_buffer_});
    body_buffer_.clear();
    return written;
}

Result<void> QueueFileWriter::body(std::string_view bytes) {
    if (options_.size_limit_bytes > 0 && size_bytes() + bytes.size() > options_.size_limit_bytes) {
        return Error(Errc::too_big, "message_size_limit");
    }
    body_crc_ = crc32c(body_crc_, bytes);
    body_length_ += bytes.size();
    body_buffer_ += bytes;
    if (body_buffer_.size() >= kBodyBuffer) {
        return flush_body();
    }
    return {};
}

Result<void> QueueFileWriter::header(std::string_view lines) {
    if (options_.size_limit_bytes > 0 && size_bytes() + lines.size() > options_.size_limit_bytes) {
        return Error(Errc::too_big, "message_size_limit");
    }
    headers_ += lines;
    return {};
}

Result<void> QueueFileWriter::envelope(const Envelope& envelope) {
    envelope_ = encode_envelope(envelope);
    if (envelope_.size() > kMaxEnvelope) {
        return Error(Errc::too_big, "too many recipients");
    }
    return {};
}

Result<void> QueueFileWriter::write_out() {
    Result<void> done = put_in_place();
    return done ? flush() : done;
}

void QueueFileWriter::finish_header() {
    FixedHeader fixed;
    fixed.body_length = body_length_;
    fixed.headers_length = headers_.size();
    fixed.envelope_length = envelope_.size();
    fixed.body_crc = body_crc_;
    fixed.headers_crc = crc32c(0, headers_);
    fixed.envelope_crc = crc32c(0, envelope_);
    fixed_header_ = encode_fixed_header(fixed);
}

std::vector<std::string_view> QueueFileWriter::image() {
    if (body_buffer_.size() != body_length_) {
        return {};
    }
    if (fixed_header_.empty()) {
        finish_header();
    }
    return {fixed_header_, body_buffer_, headers_, envelope_};
}

Result<void> QueueFileWriter::put_in_place() {
    if (const Result<void> made = file_ ? Result<void>() : make_file(); !made) {
        return made;
    }
    if (fixed_header_.empty()) {
        finish_header();
    }
    if (body_buffer_.size() == body_length_) {
        const Result<void> all = write_at(0, {fixed_header_, body_buffer_, headers_, envelope_});
        if (!all) {
            return all;
        }
    } else {
        const std::uint64_t offset = kFixedHeaderSize + body_length_ - body_buffer_.size();
        const Result<void> rest = write_at(offset, {body_buffer_, headers_, envelope_});
        const Result<void> start = rest ? write_at(0, {fixed_header_}) : rest;
        if (!start) {
            return start;
        }
    }
    std::string final_path = options_.queue_directory + "/" + options_.directory + "/" + queue_id_;
    if (io().rename(path_.c_str(), final_path.c_str()) != 0) {
        return errno_error("rename " + path_ + " to " + final_path);
    }
    path_ = std::move(final_path);
    return {};
}

Result<void> QueueFileWriter::flush() {
    // The rename is in the file's own change history, so one fsync after it makes name and content durable on the
    // journaling file systems (ext4, XFS, btrfs); Postfix relies on the same.
    if (io().fsync(file_.get()) != 0) {
        return errno_error("fsync " + path_);
    }
    path_.clear();
    return {};
}

}  // namespace postern::queue
