/// One POP3 client after login: the TRANSACTION and UPDATE states (RFC 1939 sections 5 and 6).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lib/async/loop.h"
#include "lib/config/config.h"
#include "lib/stream/stream.h"
#include "pop3d/command.h"
#include "pop3d/maildrop.h"

namespace postern::pop3d {

/// Who is served; for the log.
struct ClientInfo {
    std::string user;
    std::string session_id;
};

/// For pop3_logout_format.
struct Counters {
    std::uint64_t top_count = 0, top_bytes = 0;
    std::uint64_t retr_count = 0, retr_bytes = 0;
    std::uint64_t deleted_count = 0, deleted_bytes = 0;
    std::uint64_t message_count = 0, message_bytes = 0;    ///< at the start
};

/// The INBOX, or why it cannot be had.
using OpenedMaildrop = Result<std::unique_ptr<Maildrop>>;

/// The conversation.  `config` outlives it.
class Session {
public:
    Session(std::unique_ptr<Stream> client, OpenedMaildrop drop, const Config& config, ClientInfo info);

    /// Answers the command that logged in, and serves the client until QUIT or until it is gone.
    Task<> run();

    /// The process wants to end: the client hears -ERR when its present command has ended, at once when idle.  There is
    /// no UPDATE state then (RFC 1939 section 6).
    void stop();

private:
    using Handler = Task<> (Session::*)(const Command&);
    static Handler find_handler(std::string_view verb);

    void refuse(const Error& error);
    Task<> next_command();
    Task<> capa(const Command& command);
    Task<> stat(const Command& command);
    Task<> list(const Command& command);
    Task<> uidl(const Command& command);
    Task<> retr(const Command& command);
    Task<> top(const Command& command);
    Task<> dele(const Command& command);
    Task<> rset(const Command& command);
    Task<> noop(const Command& command);
    Task<> last(const Command& command);
    Task<> quit(const Command& command);

    void reply(std::string_view line);
    /// A command that is wrong: answered, counted, and too many end the session.
    void bad(std::string_view text);
    /// The message a word names, if there is one and it is not deleted; otherwise the client has been told.
    std::optional<std::uint32_t> number(std::string_view word);
    /// No argument is allowed; otherwise the client has been told.
    bool bare(const Command& command);
    Task<> send_message(std::uint32_t number, std::string greeting, std::optional<std::uint64_t> body_lines);
    Task<> send_uidls();
    /// Sends what is written when there is much of it.  False: the client is gone.
    Task<bool> relieve();
    Task<> finish();
    void store_failed(const Error& error, std::string_view doing);
    void log_end() const;
    Millis patience() const;

    std::unique_ptr<Stream> client_;
    OpenedMaildrop opened_;
    const Config& config_;
    ClientInfo info_;
    std::unique_ptr<Maildrop> drop_;           ///< while the session lasts
    Counters counters_;
    std::uint32_t last_ = 0;                   ///< LAST: the highest number that was accessed
    int errors_ = 0;                           ///< wrong commands in a row
    bool ended_ = false;
    bool stopping_ = false;
    bool updated_ = false;                     ///< QUIT has done its work
    std::string_view how_ = "Disconnected: Connection closed";   ///< for the log
};

}  // namespace postern::pop3d
