/// Queue files: one file holds everything about a message.  The format is in queue_file(5).
///
///     fixed header | body | headers | envelope | journal
///
/// The message is the header extent followed by the body extent, byte for byte, lines ending in LF.  The body
/// extent begins with the empty line (so it is empty or begins with LF): whoever sends the message sends the two
/// extents and adds nothing between them.
///
/// Nothing here needs the event loop; QueueFileWriter::commit(), which does, is in its own object file, so that
/// sendmail(1) and postdrop(1) do not link libevent.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/task.h"
#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/envelope.h"
#include "lib/queue/journal.h"

namespace postern::queue {

/// The system calls that change a queue; tests put failing ones in their place.  All return as the calls do.
class FileIo {
public:
    virtual ~FileIo() = default;
    virtual ssize_t pwritev(int fd, const iovec* pieces, int count, std::uint64_t offset);
    virtual int fdatasync(int fd);
    virtual int fsync(int fd);
    virtual int rename(const char* from, const char* to);
    virtual int syncfs(int fd);
    /// The real ones.
    static FileIo& system();
};

struct WriterOptions {
    std::string queue_directory = ".";     ///< holds incoming/, hold/, maildrop/
    std::string directory = "incoming";    ///< where the finished file goes
    std::uint64_t size_limit_bytes = 0;    ///< message_size_limit: headers and body as stored; 0 means no limit
    bool long_queue_ids = false;           ///< enable_long_queue_ids
    std::int64_t time_usec = 0;            ///< for the id; 0 means now
    mode_t mode = 0700;                    ///< as Postfix: the execute bit says "complete"
    bool in_memory = false;                ///< no file until one is needed: the content may go elsewhere (image())
    FileIo* io = nullptr;                  ///< null means the system; otherwise outlives the writer
};

/// Writes one message to disk so that it survives a crash once commit() has returned.
///
/// Call body() and header() in any order, then envelope(), then commit().  The file has a temporary name
/// ("tmp.", never a queue id) until it is complete, then is renamed and synced: one write for a small message, one
/// fsync.  After an error the writer is fit only for destruction.
class QueueFileWriter {
public:
    /// Makes the temporary file, if it is not to be in memory, and the queue id.  Errors: no_space, io, denied, temporary.
    static Result<std::unique_ptr<QueueFileWriter>> create(WriterOptions options);

    /// Removes the file unless it was kept: by keep(), or because commit(), write_out() or flush() succeeded.
    ~QueueFileWriter();
    QueueFileWriter(const QueueFileWriter&) = delete;
    QueueFileWriter& operator=(const QueueFileWriter&) = delete;

    const std::string& queue_id() const { return queue_id_; }

    /// Appends body bytes; the first is the LF of the empty line.  Pieces may be cut anywhere; NUL and CR are kept.
    /// Errors: too_big (reply 552 5.3.4), no_space (452 4.3.1), io (451 4.3.0).
    Result<void> body(std::string_view bytes);

    /// Appends header fields: whole lines, each ending in LF.  Order is kept.  They wait in memory for commit();
    /// the caller bounds them (header_size_limit and number of fields).  Errors: too_big.
    Result<void> header(std::string_view lines);

    /// Sender, recipients and the rest.  At most once.  Errors: too_big (over kMaxEnvelope).
    Result<void> envelope(const Envelope& envelope);

    /// Another queue directory for the finished file, such as "hold"; before commit().
    void set_directory(std::string directory) { options_.directory = std::move(directory); }

    /// Bytes of headers and body so far.
    std::uint64_t size_bytes() const { return body_length_ + headers_.size(); }

    /// Writes what is left, gives the file its final name and makes both durable.  Blocks.
    /// Errors: no_space, io; then nothing is queued.
    Result<void> write_out();

    /// write_out() in two steps, for who makes many messages durable together (commit_log.h): the file gets its content and its
    /// final name, and is flushed.  Both block.  Errors: as write_out().
    Result<void> put_in_place();
    Result<void> flush();
    /// After envelope(): the file's bytes, in pieces that live as long as the writer; none when the message is so long
    /// that memory no longer has all of it.
    std::vector<std::string_view> image();
    /// The message is durable by other means: after put_in_place() its file stays.
    void keep() { path_.clear(); }

    /// write_out() on the offload pool.  The writer must stay until it returns.  RFC 5321 section 6.1: only after
    /// this may end-of-data be answered 250.
    Task<Result<void>> commit();

    /// After commit(): the file, open for reading and writing; the writer has none then.
    UniqueFd take_file() { return std::move(file_); }

private:
    explicit QueueFileWriter(WriterOptions options) : options_(std::move(options)) {}
    Result<void> make_file();
    Result<void> flush_body();
    void finish_header();
    Result<void> write_at(std::uint64_t offset, std::vector<std::string_view> pieces);
    FileIo& io() { return options_.io != nullptr ? *options_.io : FileIo::system(); }

    WriterOptions options_;
    UniqueFd file_;
    std::string path_;              ///< what the file is called now; empty once it is not ours to remove
    std::string queue_id_;
    std::string body_buffer_;       ///< body bytes not yet written
    std::string headers_;
    std::string envelope_;
    std::string fixed_header_;
    std::uint64_t body_length_ = 0;
    std::uint32_t body_crc_ = 0;
};

/// Longest encoded envelope that is written or read (a million recipients).
inline constexpr std::size_t kMaxEnvelope = 64 * 1024 * 1024;
/// Length of the fixed header; the body starts here.
inline constexpr std::size_t kFixedHeaderSize = 128;

/// A queue file that passed its checks; holds no descriptor.
class QueueFile {
public:
    /// Reads fixed header and envelope from `fd` (position does not matter), checking every offset and checksum
    /// but the content's.  Small files cost one read.  Errors: corrupt, io.
    static Result<QueueFile> read(int fd);
    /// The same with what journal() yields: of a small file all comes with the one read.
    static Result<QueueFile> read(int fd, std::vector<JournalRecord>& journal);

    Extent headers() const { return headers_; }
    Extent body() const { return body_; }
    std::uint64_t size_bytes() const { return headers_.length + body_.length; }
    std::uint64_t journal_offset() const { return journal_offset_; }
    const Envelope& envelope() const { return envelope_; }
    Envelope& envelope() { return envelope_; }

    /// Something has been written behind the envelope.
    bool has_journal() const { return has_journal_; }

    /// The journal as it stands.  A damaged or torn record is skipped (its recipient counts as not yet delivered).
    /// Errors: io.
    Result<std::vector<JournalRecord>> journal(int fd) const;

    /// Compares the content with its checksums: for files found in a scan after a crash, and for postcat.
    /// Reads everything.  Errors: corrupt, io.
    Result<void> verify_content(int fd) const;

private:
    static Result<QueueFile> read_start(int fd, std::string& first);

    Extent headers_, body_;
    std::uint64_t journal_offset_ = 0;
    std::uint32_t headers_crc_ = 0, body_crc_ = 0;
    bool has_journal_ = false;
    Envelope envelope_;
};

/// Whole extent as a string, when it is at most `limit` bytes.  Errors: too_big, corrupt (file ends early), io.
Result<std::string> read_extent(int fd, Extent extent, std::size_t limit);

/// Writes all of `pieces`, one behind another, at `offset`; `what` is for the error.  Errors: no_space, io.
Result<void> write_pieces(FileIo& io, int fd, std::uint64_t offset, std::vector<std::string_view> pieces, const std::string& what);
/// The same for one piece.
Result<void> write_exactly(FileIo& io, int fd, std::string_view bytes, std::uint64_t offset, const std::string& what);

/// Fills `out` with the `size` bytes at `offset`.  Errors: corrupt (file ends early), io.
Result<void> read_exactly(int fd, char* out, std::size_t size, std::uint64_t offset);

}  // namespace postern::queue
