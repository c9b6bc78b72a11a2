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

/// Whether the literal at the end of `text` is the message of an APPEND: all before it is there and right.
bool announces_message(const std::string& text) {
    Parser parser(text);
    CommandHead head;
    std::string mailbox;
    AppendItem item;
    return parse_head(parser, head) && head.name == "APPEND" && !head.uid && parser.astring(mailbox) &&
           parse_append_item(parser, item);
}

std::string tag_of(const std::string& text) {
    Parser parser(text);
    std::string tag;
    return parser.tag(tag) ? tag : std::string();
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

Task<ReadCommand> read_command(Stream& client, ReadLimits limits) {
    ReadCommand out;
    std::string text;
    for (;;) {
        const std::size_t left = limits.command_bytes - std::min(limits.command_bytes, text.size());
        Result<std::string> line = co_await client.read_line(left, limits.patience);
        if (!line) {
            out.failure = lost(line.error());
            if (line.error().code == Errc::too_big) {
                out.failure.kind = CommandFailure::Kind::too_long;
                out.failure.tag = tag_of(text);
            }
            co_return out;
        }
        text += *line;
        LiteralHeader header;
        if (!ends_in_literal(*line, header)) {
            out.command.emplace();
            out.command->text = std::move(text);
            co_return out;
        }
        if (limits.append && announces_message(text)) {
            out.command.emplace();
            out.command->text = std::move(text);
            out.command->message = header;
            co_return out;
        }
        if (header.overflow || header.size > limits.command_bytes - std::min(limits.command_bytes, text.size())) {
            out.failure.kind = CommandFailure::Kind::too_long;
            out.failure.tag = tag_of(text);
            if (!header.waits) {
                bool swallowed = !header.overflow && header.size <= kMaxSwallow;
                if (swallowed) {
                    swallowed = co_await discard(client, header.size, limits.patience);
                }
                if (swallowed) {
                    const Result<std::string> rest = co_await client.read_line(limits.command_bytes, limits.patience);
                    swallowed = rest.ok() || rest.error().code == Errc::too_big;
                }
                if (!swallowed) {
                    out.failure.kind = CommandFailure::Kind::close;
                }
            }
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
