/// Collects one whole command, literals included, from a client (RFC 3501 section 2.2, RFC 7888).
#pragma once

#include <optional>
#include <string>

#include "imapd/parser.h"
#include "lib/stream/stream.h"

namespace postern::imapd {

/// The text of a command, ready for the Parser.
struct CommandText {
    std::string text;
    /// The message literal of an APPEND: announced at the end of `text`, not asked for and not read yet.
    std::optional<LiteralHeader> message;
};

/// How reading a command failed.
struct CommandFailure {
    enum class Kind {
        lost,              ///< the client is gone
        idle,              ///< the deadline passed
        too_long,          ///< the command was dropped; `tag` has its tag when that is known
        close,             ///< too much was announced to be swallowed: say BYE and close
    };
    Kind kind = Kind::lost;
    std::string tag;
};

struct ReadLimits {
    std::size_t command_bytes = 65536;     ///< line ends and literals included (imap_max_line_length)
    Millis patience = std::chrono::minutes(30);
    bool append = true;                    ///< leave APPEND's message literal to the caller
};

/// Either a command or why there is none.
struct ReadCommand {
    std::optional<CommandText> command;
    CommandFailure failure;
};

/// Reads the next command.  Synchronising literals that fit are asked for with "+".
Task<ReadCommand> read_command(Stream& client, ReadLimits limits);

/// Reads and drops `size` bytes; false when the client is gone.
Task<bool> discard(Stream& client, std::uint64_t size, Millis patience);

/// What is still read and dropped of an unwanted non-synchronising literal; more closes the connection
/// (RFC 7888 section 4 leaves the choice).
inline constexpr std::uint64_t kMaxSwallow = 64U << 20;

}  // namespace postern::imapd
