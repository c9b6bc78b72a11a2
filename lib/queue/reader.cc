// Reading queue files.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/queue/checksum.h"
#include "lib/queue/envelope_codec.h"
#include "lib/queue/fixed_header.h"
#include "lib/queue/queue_file.h"

namespace postern::queue {
namespace {

/// Most messages fit: then one read gets everything.
constexpr std::size_t kFirstRead = 16 * 1024;
constexpr std::size_t kVerifyPiece = 256 * 1024;
/// What is looked at of a journal: more can only be the work of a fault.
constexpr std::uint64_t kMaxJournal = 256 * 1024 * 1024;

/// Reads `size` bytes at `offset` into `out`, or up to the end of the file.
Result<std::size_t> read_at(int fd, char* out, std::size_t size, std::uint64_t offset) {
    std::size_t have = 0;
    while (have < size) {
        const ssize_t got = ::pread(fd, out + have, size - have, static_cast<off_t>(offset + have));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno_error("queue file: read");
        }
        if (got == 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    return have;
}

Result<std::uint32_t> checksum_of(int fd, Extent extent) {
    std::string piece(static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, kVerifyPiece)), '\0');
    std::uint32_t crc = 0;
    while (extent.length > 0) {
        const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, piece.size()));
        const Result<void> got = read_exactly(fd, piece.data(), want, extent.offset);
        if (!got) {
            return got.error();
        }
        crc = crc32c(crc, std::string_view(piece).substr(0, want));
        extent.offset += want;
        extent.length -= want;
    }
    return crc;
}

}  // namespace

Result<void> read_exactly(int fd, char* out, std::size_t size, std::uint64_t offset) {
    const Result<std::size_t> got = read_at(fd, out, size, offset);
    if (!got) {
        return got.error();
    }
    if (*got < size) {
        return Error(Errc::corrupt, "queue file: ends early");
    }
    return {};
}

Result<std::string> read_extent(int fd, Extent extent, std::size_t limit) {
    if (extent.length > limit) {
        return Error(Errc::too_big, "queue file: extent over the limit");
    }
    std::string bytes(static_cast<std::size_t>(extent.length), '\0');
    const Result<void> got = read_exactly(fd, bytes.data(), bytes.size(), extent.offset);
    if (!got) {
        return got.error();
    }
    return bytes;
}

Result<QueueFile> QueueFile::read(int fd) {
    std::string first;
    return read_start(fd, first);
}

Result<QueueFile> QueueFile::read(int fd, std::vector<JournalRecord>& journal) {
    std::string first;
    Result<QueueFile> file = read_start(fd, first);
    if (!file || !file->has_journal_) {
        return file;
    }
    if (first.size() < kFirstRead) {
        journal = decode_journal(std::string_view(first).substr(static_cast<std::size_t>(file->journal_offset_)));
        return file;
    }
    Result<std::vector<JournalRecord>> records = file->journal(fd);
    if (!records) {
        return records.error();
    }
    journal = std::move(*records);
    return file;
}

namespace {

/// `first` becomes the file's first kFirstRead bytes, or all of a shorter one.  Yields the file's size.
Result<std::uint64_t> read_first(int fd, std::string& first) {
    first.assign(kFirstRead, '\0');
    ssize_t once = 0;
    do {
        once = ::pread(fd, first.data(), first.size(), 0);
    } while (once < 0 && errno == EINTR);
    if (once < 0) {
        return errno_error("queue file: read");
    }
    // Usually that is all; only when it does not make sense is another read needed to see whether it was.
    auto have = static_cast<std::size_t>(once);
    const bool whole = have < kFirstRead && decode_fixed_header(std::string_view(first).substr(0, have), have).ok();
    if (!whole && have < kFirstRead) {
        const Result<std::size_t> more = read_at(fd, first.data() + have, first.size() - have, have);
        if (!more) {
            return more.error();
        }
        have += *more;
    }
    first.resize(have);
    if (have < kFirstRead) {
        return have;
    }
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        return errno_error("queue file: fstat");
    }
    return static_cast<std::uint64_t>(status.st_size);
}

/// `first` as read_first() has left it.
Result<Envelope> read_envelope(int fd, Extent stored, std::uint32_t crc, std::string_view first) {
    std::string later;
    std::string_view bytes;
    if (stored.offset + stored.length <= first.size()) {
        bytes = first.substr(stored.offset, stored.length);
    } else {
        Result<std::string> read_now = read_extent(fd, stored, kMaxEnvelope);
        if (!read_now) {
            return read_now.error();
        }
        later = std::move(*read_now);
        bytes = later;
    }
    if (crc32c(0, bytes) != crc) {
        return Error(Errc::corrupt, "queue file: wrong envelope checksum");
    }
    return decode_envelope(bytes);
}

}  // namespace

/// `first`: see read_first().
Result<QueueFile> QueueFile::read_start(int fd, std::string& first) {
    const Result<std::uint64_t> file_size = read_first(fd, first);
    if (!file_size) {
        return file_size.error();
    }
    const Result<FixedHeader> header = decode_fixed_header(first, *file_size);
    if (!header) {
        return header.error();
    }
    QueueFile file;
    file.body_ = {kFixedHeaderSize, header->body_length};
    file.headers_ = {file.body_.offset + file.body_.length, header->headers_length};
    const Extent stored{file.headers_.offset + file.headers_.length, header->envelope_length};
    file.journal_offset_ = stored.offset + stored.length;
    file.has_journal_ = *file_size > file.journal_offset_;
    file.headers_crc_ = header->headers_crc;
    file.body_crc_ = header->body_crc;
    Result<Envelope> envelope = read_envelope(fd, stored, header->envelope_crc, first);
    if (!envelope) {
        return envelope.error();
    }
    file.envelope_ = std::move(*envelope);
    return file;
}

Result<std::vector<JournalRecord>> QueueFile::journal(int fd) const {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        return errno_error("queue file: fstat");
    }
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size <= journal_offset_) {
        return std::vector<JournalRecord>{};
    }
    const Extent extent{journal_offset_, std::min(size - journal_offset_, kMaxJournal)};
    const Result<std::string> bytes = read_extent(fd, extent, kMaxJournal);
    if (!bytes) {
        return bytes.error();
    }
    return decode_journal(*bytes);
}

Result<void> QueueFile::verify_content(int fd) const {
    for (const auto& [extent, expected] : {std::pair{headers_, headers_crc_}, std::pair{body_, body_crc_}}) {
        const Result<std::uint32_t> crc = checksum_of(fd, extent);
        if (!crc) {
            return crc.error();
        }
        if (*crc != expected) {
            return Error(Errc::corrupt, "queue file: wrong content checksum");
        }
    }
    return {};
}

}  // namespace postern::queue
