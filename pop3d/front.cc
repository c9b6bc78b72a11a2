#include "pop3d/front.h"

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "pop3d/command.h"

namespace postern::pop3d {

namespace {

constexpr int kMaxErrors = 10;
/// AUTH may carry an initial response of any mechanism, and PASS a token in place of a password; other commands keep to
/// kMaxCommandLine.
constexpr std::size_t kMaxLine = 12 * 1024;

/// One client before login.
class Front {
public:
    Front(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& shared)
        : shared_(shared), client_(shared, std::move(stream), std::move(addresses)) {}

    Task<> run(bool implicit_tls);

private:
    using Handler = Task<> (Front::*)(const Command&);
    static Handler find_handler(std::string_view verb);

    Task<> next_command();
    Task<> apop(const Command& command);
    Task<> auth(const Command& command);
    Task<> capa(const Command& command);
    Task<> noop(const Command& command);
    Task<> pass(const Command& command);
    Task<> quit(const Command& command);
    Task<> stls(const Command& command);
    Task<> user(const Command& command);

    Task<> conclude(LoginResult result);
    void reply(std::string_view line);
    void bad(std::string_view text);
    void end(std::string_view why);
    bool bare(const Command& command);
    Stream& stream() { return client_.stream(); }
    Millis patience() const { return std::chrono::duration_cast<Millis>(shared_.config().login_timeout()); }

    LoginFront& shared_;
    LoginConnection client_;
    std::optional<std::string> user_;        ///< USER's argument, until PASS
    int errors_ = 0;
    bool ended_ = false;
    bool given_away_ = false;                ///< the stream is not ours any more, or nothing can be said on it
    std::string why_ = "Disconnected";       ///< for the log
};

void Front::reply(std::string_view line) {
    stream().write(line);
    stream().write("\r\n");
}

void Front::bad(std::string_view text) {
    stream().write("-ERR ");
    reply(text);
    if (++errors_ >= kMaxErrors) {
        reply("-ERR Too many invalid commands.");
        end("Disconnected: Too many invalid commands");
    }
}

void Front::end(std::string_view why) {
    ended_ = true;
    why_ = why;
}

bool Front::bare(const Command& command) {
    if (words(command.argument).empty()) {
        return true;
    }
    bad(command.verb + " takes no argument.");
    return false;
}

Task<> Front::run(bool implicit_tls) {
    if (implicit_tls) {
        const Result<void> secured = co_await client_.start_tls();
        if (!secured) {
            co_return;
        }
    }
    reply("+OK " + shared_.config().login_greeting());
    while (!ended_) {
        co_await next_command();
    }
    if (!given_away_) {
        (void)co_await stream().flush(std::chrono::seconds(10));
        client_.log_disconnect(why_);
        stream().close();
    }
}

Task<> Front::next_command() {
    const Wake wake = co_await client_.wait_command(patience());
    if (wake == Wake::interrupted) {
        reply("-ERR [SYS/TEMP] Server shutting down.");
        co_return end("Disconnected: Shutting down");
    }
    if (wake == Wake::timed_out) {
        reply("-ERR Disconnected for inactivity.");
        co_return end("Disconnected: Inactivity");
    }
    const Result<std::string> line = co_await stream().read_line(kMaxLine, patience());
    if (!line) {
        if (line.error().code == Errc::too_big) {
            co_return bad("Command line too long.");
        }
        if (line.error().code == Errc::timeout) {
            reply("-ERR Disconnected for inactivity.");
            end("Disconnected: Inactivity");
        }
        ended_ = true;
        co_return;
    }
    const Command command = split_command(*line);
    if (line->size() > kMaxCommandLine && command.verb != "AUTH" && command.verb != "PASS") {
        co_return bad("Command line too long.");
    }
    const Handler handler = find_handler(command.verb);
    if (handler == nullptr) {
        co_return bad("Unknown command: " + printable(command.verb, 40));
    }
    co_await (this->*handler)(command);
}

Front::Handler Front::find_handler(std::string_view verb) {
    struct Row {
        std::string_view verb;
        Handler handler;
    };
    static constexpr Row kRows[] = {
        {"APOP", &Front::apop}, {"AUTH", &Front::auth}, {"CAPA", &Front::capa}, {"NOOP", &Front::noop},
        {"PASS", &Front::pass}, {"QUIT", &Front::quit}, {"STLS", &Front::stls}, {"USER", &Front::user},
    };
    for (const Row& row : kRows) {
        if (row.verb == verb) {
            return row.handler;
        }
    }
    return nullptr;
}

/// CAPA (RFC 2449 section 5): what can be done now, and what a session will offer.
Task<> Front::capa(const Command& command) {
    if (!bare(command)) {
        co_return;
    }
    std::string answer = "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n";
    if (client_.can_start_tls()) {
        answer += "STLS\r\n";
    }
    if (client_.plaintext_allowed()) {
        answer += "USER\r\n";
    }
    const std::vector<std::string> mechanisms = co_await client_.mechanisms();
    if (!mechanisms.empty()) {
        answer += "SASL";
        for (const std::string& mechanism : mechanisms) {
            answer += " " + mechanism;
        }
        answer += "\r\n";
    }
    stream().write(answer + ".\r\n");
}

Task<> Front::noop(const Command& command) {
    if (bare(command)) {
        reply("+OK");
    }
    co_return;
}

Task<> Front::quit(const Command& command) {
    if (bare(command)) {
        reply("+OK Logging out");
        end("Aborted login");
    }
    co_return;
}

/// STLS (RFC 2595 section 4).  What the client sent along in the clear is dropped by the stream.
Task<> Front::stls(const Command& command) {
    if (!bare(command)) {
        co_return;
    }
    if (stream().tls() != nullptr) {
        co_return bad("TLS is already active.");
    }
    if (!client_.can_start_tls()) {
        co_return bad("TLS support isn't enabled.");
    }
    reply("+OK Begin TLS negotiation now.");
    const Result<void> secured = co_await client_.start_tls();
    user_.reset();                               // what was said in the clear is forgotten
    if (!secured) {
        ended_ = true;
        given_away_ = true;                      // logged, and nothing can be said any more
        stream().close();
    }
}

/// USER (RFC 1939 section 7).  Refused before the client sends its password where that would be in the clear.
Task<> Front::user(const Command& command) {
    if (command.argument.empty()) {
        co_return bad("USER takes a name.");
    }
    if (!client_.plaintext_allowed()) {
        LoginResult refused = co_await client_.login(std::string(command.argument), std::string());
        co_return co_await conclude(std::move(refused));
    }
    user_ = std::string(command.argument);
    reply("+OK");
}

/// PASS (RFC 1939 section 7): the rest of the line is the password, spaces and all.
Task<> Front::pass(const Command& command) {
    if (!user_) {
        co_return bad("No username given.");
    }
    std::string name = std::move(*user_);
    user_.reset();
    LoginResult result = co_await client_.login(std::move(name), std::string(command.argument));
    co_await conclude(std::move(result));
}

/// AUTH (RFC 5034 section 4).  Without argument it lists the mechanisms, as clients older than that ask.
Task<> Front::auth(const Command& command) {
    const std::vector<std::string_view> arguments = words(command.argument);
    if (arguments.empty()) {
        const std::vector<std::string> mechanisms = co_await client_.mechanisms();
        reply("+OK");
        for (const std::string& mechanism : mechanisms) {
            reply(mechanism);
        }
        co_return reply(".");
    }
    if (arguments.size() > 2) {
        co_return bad("AUTH takes a mechanism and an initial response.");
    }
    std::optional<std::string> initial;
    if (arguments.size() == 2) {
        initial = std::string(arguments[1]);
    }
    LoginResult result = co_await client_.authenticate(std::string(arguments[0]), std::move(initial));
    co_await conclude(std::move(result));
}

/// APOP needs passwords that can be read (RFC 1939 section 7); the greeting has no timestamp and says so.
Task<> Front::apop(const Command&) {
    bad("[AUTH] APOP is not supported.");
    co_return;
}

/// Answers the login command, or gives the client to its session, which then answers it.
Task<> Front::conclude(LoginResult result) {
    using Kind = LoginResult::Kind;
    std::string_view code;
    switch (result.kind) {
    case Kind::accepted: {
        const bool gone = co_await client_.hand_over(std::string());
        if (gone) {
            ended_ = true;
            given_away_ = true;
            co_return;
        }
        co_return reply("-ERR [SYS/TEMP] Temporary authentication failure.");
    }
    case Kind::lost:
        end("Disconnected");
        co_return;
    case Kind::bad_mechanism:
    case Kind::cancelled:
    case Kind::malformed: co_return bad(printable(result.text, 200));
    case Kind::temporary: code = "[SYS/TEMP] "; break;
    case Kind::disabled:
    case Kind::refused:
    case Kind::not_secured:
    case Kind::too_many_tries: code = "[AUTH] "; break;
    }
    reply(fmt::format("-ERR {}{}", code, printable(result.text, 200)));
    if (result.kind == Kind::too_many_tries) {
        end("Disconnected: Too many authentication failures");
    }
}

}  // namespace

Task<> serve_front(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front, bool implicit_tls) {
    Front client(std::move(stream), std::move(addresses), front);
    co_await client.run(implicit_tls);
}

}  // namespace postern::pop3d
