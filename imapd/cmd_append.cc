#include <algorithm>
#include <memory>
#include <vector>

#include "imapd/commands.h"
#include "imapd/response.h"
#include "lib/async/offload.h"

namespace postern::imapd {

namespace {

/// An APPEND while its messages come in.
struct Upload {
    std::string mailbox;
    std::uint64_t limit = 0;                               ///< of one message; 0: none
    Appended messages;
    std::string refusal;                                   ///< the reply, once it is known to be negative
};

/// RFC 3502: more in one command are refused.
constexpr std::size_t kMaxMessages = 1000;

std::string refuse(const Error& error) {
    return error.code == Errc::not_found ? "NO [TRYCREATE] Mailbox doesn't exist" : reply_for(error);
}

/// Makes the place for the next message.  On failure `upload.refusal` is set.
void begin_message(Session& session, Upload& upload, AppendItem item, const LiteralHeader& literal) {
    if (literal.overflow || (upload.limit != 0 && literal.size > upload.limit)) {
        upload.refusal = "NO [TOOBIG] Message is too large.";
        return;
    }
    if (literal.size == 0) {
        upload.refusal = "NO Can't save a zero byte message.";
        return;
    }
    if (upload.messages.size() >= kMaxMessages) {
        upload.refusal = "NO [LIMIT] Too many messages in one command.";
        return;
    }
    if (!session.keywords_fit(item.flags.keywords)) {
        upload.refusal = kKeywordTooLong;
        return;
    }
    Result<std::unique_ptr<store::Appender>> appender = session.account().append(upload.mailbox);
    if (!appender) {
        upload.refusal = refuse(appender.error());
        return;
    }
    (*appender)->flags = item.flags.system;
    (*appender)->keywords = std::move(item.flags.keywords);
    (*appender)->internal_date = item.date;
    upload.messages.push_back(std::move(*appender));
}

/// RFC 3516 section 4.4: content that does not survive being stored as lines must be refused.  CRLF is kept, other
/// uses of CR, LF and NUL are not.
class BinaryCheck {
public:
    bool bad(std::string_view piece) {
        for (const char c : piece) {
            if (c == '\0' || (last_ == '\r') != (c == '\n')) {
                return true;
            }
            last_ = c;
        }
        return false;
    }

private:
    char last_ = 0;
};

/// Takes the literal's bytes into the store as they come.  After an error of the store the rest is read and
/// dropped, so that the conversation stays in step.  False: the client is gone.
Task<bool> receive(Session& session, Upload& upload, const LiteralHeader& literal) {
    Stream& client = session.client();
    BinaryCheck binary;
    std::uint64_t size = literal.size;
    while (size > 0) {
        const Result<void> more = co_await client.fill(session.patience());
        if (!more) {
            co_return false;
        }
        const std::string_view have = client.buffered();
        const std::string_view piece = have.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(size, have.size())));
        if (literal.binary && upload.refusal.empty() && binary.bad(piece)) {
            upload.refusal = "NO [UNKNOWN-CTE] Binary content can't be stored here; use another transfer encoding.";
        }
        if (upload.refusal.empty()) {
            const Result<void> written = upload.messages.back()->write(piece);
            if (!written) {
                upload.refusal = reply_for(written.error());
            }
        }
        size -= piece.size();
        client.consume(piece.size());
    }
    co_return true;
}

/// fsync and parsing, off the loop.
Task<> finish_message(Upload& upload) {
    store::Appender& message = *upload.messages.back();
    auto work = [&message] { return message.finish(); };
    const Result<void> finished = co_await offload(std::move(work));
    if (!finished) {
        upload.refusal = reply_for(finished.error());
    }
}

/// One message from its announced literal to its last byte.
/// False: the session is over, or the command is (a waiting client was refused before it sent anything).
Task<bool> one_message(Session& session, Upload& upload, AppendItem item, LiteralHeader literal) {
    if (upload.refusal.empty()) {
        begin_message(session, upload, std::move(item), literal);
    }
    if (!upload.refusal.empty() && literal.waits) {
        co_return false;
    }
    if (!upload.refusal.empty()) {
        if (literal.overflow || literal.size > kMaxSwallow) {
            session.bye("BYE [TOOBIG] Literal too large.");
            co_return false;
        }
        const bool alive = co_await discard(session.client(), literal.size, session.patience());
        if (!alive) {
            session.bye("BYE Connection closed.");
        }
        co_return alive;
    }
    if (literal.waits) {
        session.out() += "+ OK\r\n";
    }
    const bool alive = co_await receive(session, upload, literal);
    if (!alive) {
        session.bye("BYE Connection closed.");
        co_return false;
    }
    if (upload.refusal.empty()) {
        co_await finish_message(upload);
    }
    co_return true;
}

/// What follows a message: the end of the command, or another one (RFC 3502).
struct Continuation {
    bool another = false;
    AppendItem item;
    LiteralHeader literal;
    std::string bad;                                       ///< BAD reply for a line that is neither
};

Task<Continuation> read_continuation(Session& session) {
    Continuation out;
    const auto limit = static_cast<std::size_t>(session.config().imap_max_line_length());
    const Result<std::string> line = co_await session.client().read_line(limit, session.patience());
    if (!line) {
        out.bad = "BAD Too long line after a message.";
        if (line.error().code != Errc::too_big) {
            session.bye("BYE Connection closed.");
        }
        co_return out;
    }
    Parser parser(*line);
    if (parser.end()) {
        co_return out;
    }
    Parser again(*line);
    out.another = ends_in_literal(*line, out.literal);   // also behind something wrong: its bytes are no commands
    if (!out.another || !parse_append_item(again, out.item) || again.position() != out.literal.start) {
        out.bad = "BAD Error in IMAP command APPEND: " + (again.error().empty() ? "Invalid arguments" : again.error());
    }
    co_return out;
}

Task<std::string> commit(Session& session, Upload& upload) {
    const Result<store::Assigned> assigned =
        co_await session.appends().commit(upload.mailbox, std::move(upload.messages));
    if (!assigned) {
        co_return refuse(assigned.error());
    }
    co_return "OK [APPENDUID " + std::to_string(assigned->uidvalidity) + ' ' + format_uids(assigned->uids) +
        "] Append completed.";
}

}  // namespace

/// APPEND (RFC 3501 section 6.3.11, RFC 3502, RFC 4315 section 3, RFC 7889):
///
///     append = "APPEND" SP mailbox 1*(SP ["(" flags ")" SP] [date-time SP] literal)
///
/// Messages go to the store as they arrive.  OK is said when all of them are on stable storage; otherwise
/// none of them is in the mailbox.
Task<std::string> cmd_append(Session& session, Command& command) {
    Upload upload;
    std::string raw;
    AppendItem item;
    if (!command.message || !command.parser.astring(raw) || !parse_append_item(command.parser, item)) {
        co_return "BAD Error in IMAP command APPEND: " +
            (command.parser.error().empty() ? "Message literal expected" : command.parser.error());
    }
    Result<std::string> name = session.names().from_client(raw);
    if (name) {
        upload.mailbox = std::move(*name);
    } else {
        upload.refusal = reply_for(name.error());
    }
    upload.limit = static_cast<std::uint64_t>(session.config().imap_literal_size_limit());
    LiteralHeader literal = *command.message;
    for (;;) {
        const bool going_on = co_await one_message(session, upload, std::move(item), literal);
        if (!going_on) {
            co_return session.ended() ? std::string() : upload.refusal;
        }
        Continuation next = co_await read_continuation(session);
        if (session.ended()) {
            co_return std::string();
        }
        if (!next.bad.empty()) {
            upload.refusal = std::move(next.bad);
        }
        if (!next.another) {
            break;
        }
        item = std::move(next.item);
        literal = next.literal;
    }
    if (!upload.refusal.empty()) {
        co_return upload.refusal;
    }
    co_return co_await commit(session, upload);
}

}  // namespace postern::imapd
