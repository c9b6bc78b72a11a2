#include "pop3d/session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "pop3d/dot_writer.h"
#include "pop3d/logout_format.h"

namespace postern::pop3d {

namespace {

constexpr int kMaxErrors = 20;
constexpr std::size_t kReadSize = 64 * 1024;
constexpr Millis kLastWords = std::chrono::seconds(10);

/// RFC 2449, RFC 3206 (AUTH-RESP-CODE); STLS and SASL belong to the time before login.
constexpr std::string_view kCapabilities = "CAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n";

}  // namespace

Session::Session(std::unique_ptr<Stream> client, OpenedMaildrop drop, const Config& config, ClientInfo info)
    : client_(std::move(client)), opened_(std::move(drop)), config_(config), info_(std::move(info)) {}

Millis Session::patience() const { return std::chrono::duration_cast<Millis>(config_.pop3_timeout()); }

void Session::reply(std::string_view line) {
    client_->write(line);
    client_->write("\r\n");
}

Task<> Session::run() {
    if (opened_) {
        drop_ = std::move(*opened_);
        counters_.message_count = drop_->count();
        counters_.message_bytes = drop_->octets();
        last_ = drop_->last_seen();
        reply("+OK Logged in.");
    } else {
        refuse(opened_.error());
    }
    while (!ended_) {
        co_await next_command();
    }
    co_await finish();
}

void Session::refuse(const Error& error) {
    ended_ = true;
    if (error.code == Errc::exists) {
        reply("-ERR [IN-USE] Mailbox is locked by another POP3 session.");
        how_ = "Disconnected: Mailbox is locked";
    } else {
        store_failed(error, "opening INBOX");
        how_ = "Disconnected: INBOX cannot be opened";
    }
}

void Session::stop() {
    stopping_ = true;
    client_->interrupt();
}

Task<> Session::next_command() {
    const Wake wake = co_await client_->wait_input(patience());
    if (wake == Wake::interrupted && !stopping_) {
        co_return;
    }
    if (stopping_) {
        reply("-ERR [SYS/TEMP] Server shutting down.");
        how_ = "Disconnected: Server shutting down";
        ended_ = true;
        co_return;
    }
    if (wake == Wake::timed_out) {                // RFC 1939 section 3: no UPDATE state
        reply("-ERR Disconnected for inactivity.");
        how_ = "Disconnected for inactivity";
        ended_ = true;
        co_return;
    }
    const Result<std::string> line = co_await client_->read_line(kMaxCommandLine, patience());
    if (!line) {
        if (line.error().code == Errc::too_big) {
            co_return bad("Command line too long.");
        }
        if (line.error().code == Errc::timeout) {   // RFC 1939 section 3: no UPDATE state
            reply("-ERR Disconnected for inactivity.");
            how_ = "Disconnected for inactivity";
        }
        ended_ = true;
        co_return;
    }
    const Command command = split_command(*line);
    const Handler handler = find_handler(command.verb);
    if (handler == nullptr) {
        co_return bad("Unknown command: " + printable(command.verb, 40));
    }
    const int errors = errors_;
    co_await (this->*handler)(command);
    errors_ = errors_ == errors ? 0 : errors_;
    drop_->pause();
}

Session::Handler Session::find_handler(std::string_view verb) {
    struct Row {
        std::string_view verb;
        Handler handler;
    };
    static constexpr Row kRows[] = {
        {"CAPA", &Session::capa}, {"DELE", &Session::dele}, {"LAST", &Session::last}, {"LIST", &Session::list},
        {"NOOP", &Session::noop}, {"QUIT", &Session::quit}, {"RETR", &Session::retr}, {"RSET", &Session::rset},
        {"STAT", &Session::stat}, {"TOP", &Session::top},   {"UIDL", &Session::uidl},
    };
    for (const Row& row : kRows) {
        if (row.verb == verb) {
            return row.handler;
        }
    }
    return nullptr;
}

void Session::bad(std::string_view text) {
    client_->write("-ERR ");
    reply(text);
    if (++errors_ >= kMaxErrors) {
        reply("-ERR Too many invalid commands.");
        how_ = "Disconnected: Too many invalid commands";
        ended_ = true;
    }
}

std::optional<std::uint32_t> Session::number(std::string_view word) {
    const Result<std::uint32_t> parsed = parse_message_number(word, drop_->count());
    if (!parsed) {
        bad(parsed.error().what);
        return std::nullopt;
    }
    if (drop_->entry(*parsed).deleted) {
        bad("Message is deleted.");
        return std::nullopt;
    }
    return *parsed;
}

bool Session::bare(const Command& command) {
    if (words(command.argument).empty()) {
        return true;
    }
    bad(command.verb + " takes no argument.");
    return false;
}

Task<bool> Session::relieve() {
    if (!client_->congested()) {
        co_return true;
    }
    const Result<void> sent = co_await client_->flush(patience());
    ended_ = ended_ || !sent;
    co_return sent.ok();
}

void Session::store_failed(const Error& error, std::string_view doing) {
    log_error("pop3({})<{}><{}>: {}: {}", info_.user, ::getpid(), info_.session_id, doing, error.what);
    const bool permanent = error.code == Errc::config || error.code == Errc::denied;
    reply(fmt::format("-ERR [SYS/{}] {} Refer to server log for more information.", permanent ? "PERM" : "TEMP",
                      error.code == Errc::no_space ? "Not enough disk space." : "Internal error occurred."));
}

/// CAPA (RFC 2449 section 5).
Task<> Session::capa(const Command& command) {
    if (bare(command)) {
        reply("+OK");
        client_->write(kCapabilities);
        client_->write(config_.pop3_enable_last() ? "LAST\r\n.\r\n" : ".\r\n");
    }
    co_return;
}

/// STAT (RFC 1939 section 5).
Task<> Session::stat(const Command& command) {
    if (bare(command)) {
        reply(fmt::format("+OK {} {}", drop_->remaining(), drop_->remaining_octets()));
    }
    co_return;
}

/// LIST [msg] (RFC 1939 section 5).
Task<> Session::list(const Command& command) {
    const std::vector<std::string_view> arguments = words(command.argument);
    if (arguments.size() > 1) {
        co_return bad("LIST takes one message number.");
    }
    if (arguments.size() == 1) {
        if (const std::optional<std::uint32_t> which = number(arguments[0])) {
            reply(fmt::format("+OK {} {}", *which, drop_->entry(*which).size));
        }
        co_return;
    }
    reply(fmt::format("+OK {} messages:", drop_->remaining()));
    for (std::uint32_t i = 1; i <= drop_->count(); ++i) {
        if (drop_->entry(i).deleted) {
            continue;
        }
        fmt::format_to(std::back_inserter(client_->output()), "{} {}\r\n", i, drop_->entry(i).size);
        const bool alive = co_await relieve();
        if (!alive) {
            co_return;
        }
    }
    reply(".");
}

/// UIDL [msg] (RFC 1939 section 7).
Task<> Session::uidl(const Command& command) {
    const std::vector<std::string_view> arguments = words(command.argument);
    if (arguments.size() > 1) {
        co_return bad("UIDL takes one message number.");
    }
    if (arguments.empty()) {
        co_return co_await send_uidls();
    }
    if (const std::optional<std::uint32_t> which = number(arguments[0])) {
        std::string id;
        if (const Result<void> made = drop_->append_uidl(*which, id); !made) {
            co_return store_failed(made.error(), "UIDL");
        }
        reply(fmt::format("+OK {} {}", *which, id));
    }
}

Task<> Session::send_uidls() {
    if (const Result<void> prepared = drop_->prepare_uidls(); !prepared) {
        co_return store_failed(prepared.error(), "UIDL");
    }
    reply("+OK");
    for (std::uint32_t i = 1; i <= drop_->count(); ++i) {
        if (drop_->entry(i).deleted) {
            continue;
        }
        std::string& out = client_->output();
        const std::size_t before = out.size();
        fmt::format_to(std::back_inserter(out), "{} ", i);
        if (const Result<void> made = drop_->append_uidl(i, out); !made) {
            out.resize(before);                  // removed by another program: a line less
            if (made.error().code != Errc::not_found) {
                log_error("pop3({})<{}><{}>: UIDL {}: {}", info_.user, ::getpid(), info_.session_id, i, made.error().what);
                how_ = "Disconnected: Internal error";
                ended_ = true;                   // a list that ends in the middle would be believed
                co_return;
            }
            continue;
        }
        out += "\r\n";
        const bool alive = co_await relieve();
        if (!alive) {
            co_return;
        }
    }
    reply(".");
}

/// RETR msg (RFC 1939 section 5).
Task<> Session::retr(const Command& command) {
    const std::vector<std::string_view> arguments = words(command.argument);
    if (arguments.size() != 1) {
        co_return bad(arguments.empty() ? "Missing message number." : "RETR takes one message number.");
    }
    const std::optional<std::uint32_t> which = number(arguments[0]);
    if (!which) {
        co_return;
    }
    last_ = std::max(last_, *which);
    std::string greeting = fmt::format("+OK {} octets", drop_->entry(*which).size);
    co_await send_message(*which, std::move(greeting), std::nullopt);
}

/// TOP msg n (RFC 1939 section 7): the header, the empty line, and n lines of the body.
Task<> Session::top(const Command& command) {
    const std::vector<std::string_view> arguments = words(command.argument);
    if (arguments.size() != 2) {
        co_return bad(arguments.empty() ? "Missing message number." : "TOP takes a message number and a number of lines.");
    }
    const std::optional<std::uint32_t> which = number(arguments[0]);
    if (!which) {
        co_return;
    }
    const std::optional<std::uint64_t> lines = parse_line_count(arguments[1]);
    if (!lines) {
        co_return bad("Invalid line count.");
    }
    co_await send_message(*which, "+OK", lines);
}

/// A message as it is read: what the client has not taken waits in the file, not in memory.
Task<> Session::send_message(std::uint32_t which, std::string greeting, std::optional<std::uint64_t> body_lines) {
    const Result<store::Message> message = drop_->message(which);
    if (!message) {
        if (message.error().code == Errc::not_found) {
            co_return bad("Message was removed by another session.");
        }
        co_return store_failed(message.error(), "reading a message");
    }
    reply(greeting);
    DotOptions options;
    options.body_lines = body_lines.value_or(options.body_lines);
    options.replace_nuls = config_.pop3_client_workarounds().find("outlook-no-nuls") != std::string::npos;
    options.end_header = config_.pop3_client_workarounds().find("oe-ns-eoh") != std::string::npos;
    DotWriter writer(options);
    std::string buffer(static_cast<std::size_t>(std::min<std::uint64_t>(message->size, kReadSize)), '\0');
    bool wanted = true;
    for (std::uint64_t at = 0; wanted && at < message->size;) {
        const ssize_t got = ::pread(message->fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
        if (got <= 0) {   // the octets promised cannot be sent: only the end of the connection says that
            log_error("pop3({})<{}><{}>: reading message {}: {}", info_.user, ::getpid(), info_.session_id, which,
                      got < 0 ? errno_error("read").what : "the file has become shorter");
            how_ = "Disconnected: Message could not be read";
            ended_ = true;
            co_return;
        }
        const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(static_cast<std::uint64_t>(got), message->size - at));
        wanted = writer.write(std::string_view(buffer).substr(0, size), client_->output());
        at += size;
        const bool alive = co_await relieve();
        if (!alive) {
            co_return;
        }
    }
    writer.finish(client_->output());
    (body_lines ? counters_.top_count : counters_.retr_count) += 1;
    (body_lines ? counters_.top_bytes : counters_.retr_bytes) += writer.octets();
    drop_->entry(which).retrieved = drop_->entry(which).retrieved || !body_lines;
}

/// DELE msg (RFC 1939 section 5).
Task<> Session::dele(const Command& command) {
    const std::vector<std::string_view> arguments = words(command.argument);
    if (arguments.size() != 1) {
        co_return bad(arguments.empty() ? "Missing message number." : "DELE takes one message number.");
    }
    if (const std::optional<std::uint32_t> which = number(arguments[0])) {
        drop_->entry(*which).deleted = true;
        last_ = std::max(last_, *which);
        reply("+OK Marked to be deleted.");
    }
}

/// RSET (RFC 1939 section 5).
Task<> Session::rset(const Command& command) {
    if (bare(command)) {
        drop_->undelete_all();
        last_ = 0;
        reply("+OK");
    }
    co_return;
}

Task<> Session::noop(const Command& command) {
    if (bare(command)) {
        reply("+OK");
    }
    co_return;
}

/// LAST (RFC 1460 section 3), which only old programs know.
Task<> Session::last(const Command& command) {
    if (!config_.pop3_enable_last()) {
        co_return bad("Unknown command: LAST");
    }
    if (bare(command)) {
        reply(fmt::format("+OK {}", last_));
    }
}

/// QUIT (RFC 1939 section 6): the UPDATE state.
Task<> Session::quit(const Command& command) {
    if (!bare(command)) {
        co_return;
    }
    ended_ = true;
    updated_ = true;
    how_ = "Disconnected: Logged out";
    for (const Entry& entry : drop_->entries()) {
        counters_.deleted_count += entry.deleted ? 1 : 0;
        counters_.deleted_bytes += entry.deleted ? entry.size : 0;
    }
    auto work = [this] { return drop_->update(); };
    const Result<void> updated = co_await offload(std::move(work));
    if (!updated) {
        counters_.deleted_count = 0;
        counters_.deleted_bytes = 0;
        co_return store_failed(updated.error(), "removing messages");
    }
    reply(counters_.deleted_count > 0 ? "+OK Logging out, messages deleted." : "+OK Logging out.");
}

/// Whatever ended the session: what was read stays read, and the log is told.
Task<> Session::finish() {
    if (drop_ != nullptr && !updated_) {
        auto work = [this] { return drop_->keep_flags(); };
        const Result<void> kept = co_await offload(std::move(work));
        if (!kept) {
            log_error("pop3({})<{}><{}>: marking messages as seen: {}", info_.user, ::getpid(), info_.session_id,
                      kept.error().what);
        }
    }
    drop_.reset();                               // and with it the lock
    (void)co_await client_->flush(kLastWords);
    log_end();
    client_->close();
}

void Session::log_end() const {
    LogoutFacts facts;
    facts.top_count = counters_.top_count;
    facts.top_bytes = counters_.top_bytes;
    facts.retr_count = counters_.retr_count;
    facts.retr_bytes = counters_.retr_bytes;
    facts.deleted_count = counters_.deleted_count;
    facts.deleted_bytes = counters_.deleted_bytes;
    facts.message_count = counters_.message_count;
    facts.message_bytes = counters_.message_bytes;
    facts.input = client_->bytes_in();
    facts.output = client_->bytes_out();
    log_info("pop3({})<{}><{}>: {} {}", info_.user, ::getpid(), info_.session_id, how_,
             logout_text(config_.pop3_logout_format(), facts));
}

}  // namespace postern::pop3d
