#include "lib/store/mbox_rewrite.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "lib/base/unique_fd.h"
#include "lib/store/index_format.h"

namespace postern::store {
namespace {

constexpr std::size_t kChunk = 64 * 1024;
constexpr std::uint64_t kMagic = 0x31656c69616f626dull;

/// At the start of the journal; written last.
struct JournalHead {
    std::uint64_t magic = 0;
    std::uint64_t device = 0, inode = 0;
    std::uint64_t from = 0;         ///< offset in the mbox
    std::uint64_t old_size = 0;     ///< of the mbox
    std::uint64_t length = 0;       ///< of the new tail
    std::uint64_t content_sum = 0;  ///< over the tail, chunk by chunk
    std::uint64_t leftover_sum = 0; ///< over old bytes beyond the new end: there until the file is shortened
    std::uint64_t head_sum = 0;     ///< over the fields above
};

std::uint64_t sum_of(const JournalHead& head) {
    return checksum(std::string_view(reinterpret_cast<const char*>(&head), offsetof(JournalHead, head_sum)), kMagic);
}

Result<void> write_at(int fd, const char* bytes, std::size_t size, std::uint64_t at) {
    while (size > 0) {
        const ssize_t n = pwrite(fd, bytes, size, static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno_error("write mbox");
        }
        bytes += n;
        size -= static_cast<std::size_t>(n);
        at += static_cast<std::uint64_t>(n);
    }
    return {};
}

Result<void> read_at(int fd, char* bytes, std::size_t size, std::uint64_t at) {
    while (size > 0) {
        const ssize_t n = pread(fd, bytes, size, static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? Error(Errc::io, "read mbox: it became shorter") : errno_error("read mbox");
        }
        bytes += n;
        size -= static_cast<std::size_t>(n);
        at += static_cast<std::uint64_t>(n);
    }
    return {};
}

/// Collects bytes into chunks of one size, so that the sum can be checked chunk by chunk.
class JournalWriter {
public:
    explicit JournalWriter(int fd) : fd_(fd) { buffer_.reserve(kChunk); }
    Result<void> add(std::string_view bytes) {
        while (!bytes.empty()) {
            const std::size_t n = std::min(bytes.size(), kChunk - buffer_.size());
            buffer_ += bytes.substr(0, n);
            bytes.remove_prefix(n);
            if (buffer_.size() == kChunk) {
                if (Result<void> done = flush(); !done) {
                    return done;
                }
            }
        }
        return {};
    }
    Result<void> flush() {
        Result<void> done = write_at(fd_, buffer_.data(), buffer_.size(), sizeof(JournalHead) + length_);
        sum_ = buffer_.empty() ? sum_ : checksum(buffer_, sum_);
        length_ += buffer_.size();
        buffer_.clear();
        return done;
    }
    std::uint64_t length() const { return length_; }
    std::uint64_t sum() const { return sum_; }

private:
    int fd_;
    std::string buffer_;
    std::uint64_t length_ = 0;
    std::uint64_t sum_ = 0;
};

Result<void> write_pieces(int fd, JournalWriter& journal, const std::vector<MboxPiece>& pieces) {
    std::string buffer(kChunk, '\0');
    for (const MboxPiece& piece : pieces) {
        if (Result<void> done = journal.add(piece.text); !done) {
            return done;
        }
        for (std::uint64_t at = piece.begin; at < piece.end;) {
            const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, piece.end - at));
            Result<void> done = read_at(fd, buffer.data(), n, at);
            if (done) {
                done = journal.add(std::string_view(buffer).substr(0, n));
            }
            if (!done) {
                return done;
            }
            at += n;
        }
    }
    return journal.flush();
}

/// Whether the journal's tail is whole.
bool is_whole(int journal, const JournalHead& head) {
    std::string buffer(kChunk, '\0');
    std::uint64_t sum = 0;
    for (std::uint64_t at = 0; at < head.length;) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, head.length - at));
        if (!read_at(journal, buffer.data(), n, sizeof head + at)) {
            return false;
        }
        sum = checksum(std::string_view(buffer).substr(0, n), sum);
        at += n;
    }
    return sum == head.content_sum;
}

Result<void> copy_chunk(int from, std::uint64_t from_at, int to, std::uint64_t to_at, std::uint64_t size) {
    std::string buffer(kChunk, '\0');
    for (std::uint64_t done = 0; done < size;) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, size - done));
        Result<void> copied = read_at(from, buffer.data(), n, from_at + done);
        if (copied) {
            copied = write_at(to, buffer.data(), n, to_at + done);
        }
        if (!copied) {
            return copied;
        }
        done += n;
    }
    return {};
}

std::uint64_t new_size_of(const JournalHead& head) { return head.from + head.length; }
std::uint64_t bytes_beyond(const JournalHead& head) {
    return new_size_of(head) > head.old_size ? std::min(new_size_of(head) - head.old_size, head.length) : 0;
}

Result<std::uint64_t> sum_of_range(int fd, std::uint64_t begin, std::uint64_t end) {
    std::string buffer(kChunk, '\0');
    std::uint64_t sum = 0;
    for (std::uint64_t at = begin; at < end;) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, end - at));
        if (Result<void> read = read_at(fd, buffer.data(), n, at); !read) {
            return read.error();
        }
        sum = checksum(std::string_view(buffer).substr(0, n), sum);
        at += n;
    }
    return sum;
}

/// After a crash: whether the tail must (still) be copied.  Mail that others appended since must not be lost, so
/// the bytes at the end are compared with what we had or meant to have there.
bool must_be_applied(int fd, int journal, const JournalHead& head, std::uint64_t size) {
    const std::uint64_t new_size = new_size_of(head);
    if (size < head.old_size) {
        return false;                             // shortened already: all was done
    }
    if (new_size < head.old_size) {
        const Result<std::uint64_t> leftover = sum_of_range(fd, new_size, head.old_size);
        return leftover && *leftover == head.leftover_sum;
    }
    // The growth is written first.  Something else in its place came from others, before we changed a byte.
    const std::uint64_t beyond = bytes_beyond(head);
    const std::uint64_t there = std::min(size - head.old_size, beyond);
    std::string ours(there, '\0');
    std::string found(there, '\0');
    return read_at(journal, ours.data(), there, sizeof head + head.length - beyond).ok() &&
           read_at(fd, found.data(), there, head.old_size).ok() && ours == found;
}

/// Copies the tail over the file; what others appended after a crash follows it.  `touched`: old bytes were changed.
Result<void> apply(int fd, int journal, const JournalHead& head, const std::string& name, bool& touched) {
    struct stat status {};
    if (fstat(fd, &status) != 0) {
        return errno_error("look at mbox");
    }
    const std::uint64_t new_size = new_size_of(head);
    const std::uint64_t known = std::max(head.old_size, new_size);
    const auto size = static_cast<std::uint64_t>(status.st_size);
    std::string appended(size > known ? size - known : 0, '\0');
    Result<void> done = read_at(fd, appended.data(), appended.size(), known);
    const std::uint64_t beyond = bytes_beyond(head);
    if (done && beyond > 0) {
        done = copy_chunk(journal, sizeof head + head.length - beyond, fd, new_size - beyond, beyond);
        if (done && fdatasync(fd) != 0) {
            done = errno_error("sync mbox");
        }
    }
    if (done) {
        touched = head.length > beyond || new_size < head.old_size;
        done = copy_chunk(journal, sizeof head, fd, head.from, head.length - beyond);
    }
    if (done && !appended.empty() && new_size < known) {
        done = write_at(fd, appended.data(), appended.size(), new_size);
    }
    if (done && fdatasync(fd) != 0) {
        done = errno_error("sync mbox");
    }
    if (done && ftruncate(fd, static_cast<off_t>(new_size + appended.size())) != 0) {
        done = errno_error("shorten mbox");
    }
    if (done && fsync(fd) != 0) {
        done = errno_error("sync mbox");
    }
    if (done) {
        unlink(name.c_str());
    }
    return done;
}

}  // namespace

Result<void> rewrite_tail(int fd, const std::string& journal, std::uint64_t from, const std::vector<MboxPiece>& pieces) {
    struct stat status {};
    if (fstat(fd, &status) != 0) {
        return errno_error("look at mbox");
    }
    const UniqueFd file(open(journal.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) {
        return errno_error("create " + journal);
    }
    JournalWriter writer(file.get());
    Result<void> done = write_pieces(fd, writer, pieces);
    JournalHead head;
    head.magic = kMagic;
    head.device = status.st_dev;
    head.inode = status.st_ino;
    head.from = from;
    head.old_size = static_cast<std::uint64_t>(status.st_size);
    head.length = writer.length();
    head.content_sum = writer.sum();
    if (done && new_size_of(head) < head.old_size) {
        Result<std::uint64_t> leftover = sum_of_range(fd, new_size_of(head), head.old_size);
        head.leftover_sum = leftover ? *leftover : 0;
        done = leftover ? Result<void>() : leftover.error();
    }
    head.head_sum = sum_of(head);
    // Room for the longer file before the journal counts: applying it must not fail half-way.
    if (done && from + head.length > head.old_size &&
        fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(head.old_size),
                  static_cast<off_t>(from + head.length - head.old_size)) != 0 && (errno == ENOSPC || errno == EDQUOT)) {
        done = errno_error("extend mbox");
    }
    if (done) {
        done = write_at(file.get(), reinterpret_cast<const char*>(&head), sizeof head, 0);
    }
    if (done && fsync(file.get()) != 0) {
        done = errno_error("sync " + journal);
    }
    if (!done) {
        unlink(journal.c_str());
        return done;
    }
    bool touched = false;
    done = apply(fd, file.get(), head, journal, touched);
    if (!done && !touched) {
        // Nothing but the growth was written: as if it had not been.
        static_cast<void>(ftruncate(fd, static_cast<off_t>(head.old_size)) == 0);
        unlink(journal.c_str());
    }
    return done;
}

Result<void> finish_rewrite(int fd, const std::string& journal) {
    const UniqueFd file(open(journal.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!file) {
        return errno == ENOENT ? Result<void>() : Result<void>(errno_error("open " + journal));
    }
    JournalHead head;
    struct stat status {};
    const bool whole = read_at(file.get(), reinterpret_cast<char*>(&head), sizeof head, 0).ok() && head.magic == kMagic &&
                       head.head_sum == sum_of(head) && fstat(fd, &status) == 0 && head.device == status.st_dev &&
                       head.inode == status.st_ino && is_whole(file.get(), head);
    if (!whole || !must_be_applied(fd, file.get(), head, static_cast<std::uint64_t>(status.st_size))) {
        unlink(journal.c_str());
        return {};
    }
    bool touched = false;
    return apply(fd, file.get(), head, journal, touched);
}

}  // namespace postern::store
