/// What sendmail(1) writes to postdrop(1)'s standard input: pieces of content, then the envelope.
///
///     (u32 length, bytes)... , u32 0, u32 length, envelope as in a queue file
///
/// Little-endian.  Without the envelope at the end nothing is queued: a submission that breaks off is none.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/queue/envelope.h"

namespace postern::queue {

/// Envelopes of commands are smaller than those of the network side: arguments and one header's addresses.
inline constexpr std::size_t kMaxDropEnvelope = 16 * 1024 * 1024;

/// Writes the stream to a descriptor; errors: closed (postdrop ended), io.
class DropStreamWriter {
public:
    explicit DropStreamWriter(int fd) : fd_(fd) {}
    Result<void> content(std::string_view bytes);
    Result<void> finish(const Envelope& envelope);

private:
    Result<void> write_all(std::string_view bytes);
    int fd_;
};

/// Reads it.  Blocks.
class DropStreamReader {
public:
    explicit DropStreamReader(int fd) : fd_(fd) {}
    /// The next piece of content, empty at its end.  Errors: closed (broken off), too_big, io.
    Result<std::string> content();
    /// After the end of the content.  Errors: closed, too_big, corrupt, io.
    Result<Envelope> envelope();

private:
    Result<std::string> read_exactly(std::size_t size);
    Result<std::string> read_block(std::size_t limit);
    int fd_;
};

}  // namespace postern::queue
