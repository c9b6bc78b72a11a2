#include "imapd/command_reader.h"

#include <algorithm>

#include "imapd/parse_any.h"
#include "imapd/syntax.h"

namespace postern::imapd {

namespace {

CommandFailure lost(const Error& error) {
    CommandFailure failure;
    failure.kind = error.code == Errc::timeout ? CommandFailure::Kind::idle : CommandFailure::Kind::lost;
    return failure;
}

constexpr std::size_t kMaxTag = 100;

/// Whether the literal at the end of `text` is the message of an APPEND: all before it is there and right.
bool announces_message(const std::string& text) {
    Parser parser(text);
    CommandHead head;
    std::string mailbox;
    AppendItem item;
    return parse_head(parser, head) && head.name == "APPEND" && !head.uid && parser.astring(mailbox) &&
           parse_append_item(parser, item);
}

/// The tag of the command that begins here, for the answer when it turns out to be too long to be kept; empty when it has
/// none, or not yet.
std::string tag_at_start(std::string_view input) {
    const std::string start(input.substr(0, kMaxTag));
    const std::size_t end = start.find(' ');
    Parser parser(start);
    std::string tag;
    return end != std::string::npos && parser.tag(tag) && tag.size() == end ? tag : std::string();
}

}  // namespace

Task<bool> discard(Stream& client, std::uint64_t size, Millis patience) {
    while (size > 0) {
        const Result<void> more = co_await client.fill(patience);
        if (!more) {
            co_return false;
        }
        const std::size_t take = static_cast<std::size_t>(std::min<std::uint64_t>(size, client.buffered().size()));
        client.consume(take);
        size -= take;
    }
    co_return true;
}

namespace {

/// The command is dropped because of its last literal.  A client that waits is told so before it sends anything; of
/// another the literal, and the line after it, are read and dropped if that is not too much.
Task<CommandFailure> refuse_literal(Stream& client, const LiteralHeader& header, const ReadLimits& limits,
                                    std::string tag) {
    CommandFailure failure;
    failure.kind = CommandFailure::Kind::too_long;
    failure.tag = std::move(tag);
    if (header.waits) {
        co_return failure;
    }
    bool swallowed = !header.overflow && header.size <= kMaxSwallow;
    if (swallowed) {
        swallowed = co_await discard(client, header.size, limits.patience);
    }
    if (swallowed) {
        const Result<std::string> rest = co_await client.read_line(limits.command_bytes, limits.patience);
        swallowed = rest.ok() || rest.error().code == Errc::too_big;
    }
    if (!swallowed) {
        failure.kind = CommandFailure::Kind::close;
    }
    co_return failure;
}

}  // namespace

Task<ReadCommand> read_command(Stream& client, ReadLimits limits) {
    ReadCommand out;
    std::string text;
    if (client.buffered().empty()) {
        (void)co_await client.fill(limits.patience);       // the read below tells how it ended
    }
    const std::string tag = tag_at_start(client.buffered());
    const auto room = [&] { return limits.command_bytes - std::min(limits.command_bytes, text.size()); };
    for (;;) {
        Result<std::string> line = co_await client.read_line(room(), limits.patience);
        if (!line) {
            out.failure = lost(line.error());
            if (line.error().code == Errc::too_big) {
                out.failure.kind = CommandFailure::Kind::too_long;
                out.failure.tag = tag;
            }
            co_return out;
        }
        text += *line;
        LiteralHeader header;
        const bool literal = ends_in_literal(*line, header);
        const bool message = literal && limits.append && announces_message(text);
        if (!literal || message) {
            out.command.emplace();
            out.command->text = std::move(text);
            if (message) {
                out.command->message = header;
            }
            co_return out;
        }
        if (header.overflow || header.size > room()) {
            out.failure = co_await refuse_literal(client, header, limits, tag);
            co_return out;
        }
        if (header.waits) {
            client.write("+ OK\r\n");
        }
        Result<std::string> bytes = co_await client.read_exact(static_cast<std::size_t>(header.size), limits.patience);
        if (!bytes) {
            out.failure = lost(bytes.error());
            co_return out;
        }
        text += "\r\n";
        text += *bytes;
    }
}

}  // namespace postern::imapd
