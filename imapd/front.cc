#include "imapd/front.h"

#include <fmt/format.h>

#include "imapd/capability.h"
#include "imapd/command_reader.h"
#include "imapd/id_response.h"
#include "imapd/parse_any.h"
#include "imapd/syntax.h"
#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"

namespace postern::imapd {

namespace {

constexpr int kMaxBadCommands = 10;

/// One client before login.
class Front {
public:
    Front(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& shared)
        : shared_(shared), client_(shared, std::move(stream), std::move(addresses)) {}

    Task<> run(bool implicit_tls);

private:
    using Handler = Task<> (Front::*)(const std::string& tag, Parser& parser);
    static Handler find_handler(std::string_view name);

    Task<> execute(CommandText text);
    Task<> capability(const std::string& tag, Parser& parser);
    Task<> noop(const std::string& tag, Parser& parser);
    Task<> id(const std::string& tag, Parser& parser);
    Task<> logout(const std::string& tag, Parser& parser);
    Task<> starttls(const std::string& tag, Parser& parser);
    Task<> login(const std::string& tag, Parser& parser);
    Task<> authenticate(const std::string& tag, Parser& parser);

    Task<std::string> capabilities();
    Task<> conclude(const std::string& tag, LoginResult result);
    void bad(const std::string& tag, std::string_view text);
    void end(std::string_view why);
    Stream& stream() { return client_.stream(); }
    Millis patience() const { return std::chrono::duration_cast<Millis>(shared_.config().login_timeout()); }

    LoginFront& shared_;
    LoginConnection client_;
    int bad_commands_ = 0;
    bool ended_ = false;
    bool given_away_ = false;
    std::string why_ = "Disconnected";           ///< for the log
};

Task<std::string> Front::capabilities() {
    std::string out(kBaseCapabilities);
    if (client_.can_start_tls()) {
        out += " STARTTLS";
    }
    if (!client_.plaintext_allowed()) {
        out += " LOGINDISABLED";
    }
    const std::vector<std::string> mechanisms = co_await client_.mechanisms();
    for (const std::string& mechanism : mechanisms) {
        out += " AUTH=" + mechanism;
    }
    co_return out;
}

void Front::bad(const std::string& tag, std::string_view text) {
    stream().write(fmt::format("{} BAD {}\r\n", tag.empty() ? "*" : tag, text));
    if (++bad_commands_ >= kMaxBadCommands) {
        stream().write("* BYE Too many invalid IMAP commands.\r\n");
        end("Disconnected: Too many invalid commands");
    }
}

void Front::end(std::string_view why) {
    ended_ = true;
    why_ = why;
}

Task<> Front::run(bool implicit_tls) {
    if (implicit_tls) {
        const Result<void> secured = co_await client_.start_tls();
        if (!secured) {
            co_return;
        }
    }
    const std::string can = co_await capabilities();
    stream().write(fmt::format("* OK [CAPABILITY {}] {}\r\n", can, shared_.config().login_greeting()));
    ReadLimits limits;
    limits.command_bytes = static_cast<std::size_t>(shared_.config().imap_max_line_length());
    limits.patience = patience();
    limits.append = false;
    while (!ended_) {
        const Wake wake = co_await client_.wait_command(patience());
        if (wake == Wake::interrupted) {
            stream().write("* BYE Server shutting down.\r\n");
            end("Disconnected: Shutting down");
            break;
        }
        if (wake == Wake::timed_out) {
            stream().write("* BYE Disconnected for inactivity.\r\n");
            end("Disconnected: Inactivity");
            break;
        }
        ReadCommand next = co_await read_command(stream(), limits);
        if (next.command) {
            co_await execute(std::move(*next.command));
            continue;
        }
        switch (next.failure.kind) {
        case CommandFailure::Kind::lost: end("Disconnected"); break;
        case CommandFailure::Kind::idle:
            stream().write("* BYE Disconnected for inactivity.\r\n");
            end("Disconnected: Inactivity");
            break;
        case CommandFailure::Kind::too_long: bad(next.failure.tag, "[LIMIT] Command too long."); break;
        case CommandFailure::Kind::close:
            stream().write("* BYE [TOOBIG] Literal too large.\r\n");
            end("Disconnected: Input buffer full");
            break;
        }
    }
    if (!given_away_) {
        [[maybe_unused]] const Result<void> sent =
            co_await stream().flush(std::chrono::seconds(10));
        client_.log_disconnect(why_);
        stream().close();
    }
}

Front::Handler Front::find_handler(std::string_view name) {
    struct Row {
        std::string_view name;
        Handler handler;
    };
    static constexpr Row kRows[] = {
        {"AUTHENTICATE", &Front::authenticate}, {"CAPABILITY", &Front::capability}, {"ID", &Front::id},
        {"LOGIN", &Front::login},               {"LOGOUT", &Front::logout},         {"NOOP", &Front::noop},
        {"STARTTLS", &Front::starttls},
    };
    for (const Row& row : kRows) {
        if (row.name == name) {
            return row.handler;
        }
    }
    return nullptr;
}

Task<> Front::execute(CommandText text) {
    Parser parser(text.text);
    CommandHead head;
    if (!parse_head(parser, head)) {
        bad(head.tag, "Error in IMAP command received by server: " + parser.error());
        co_return;
    }
    const Handler handler = head.uid ? nullptr : find_handler(head.name);
    if (handler == nullptr) {
        bad(head.tag, "Error in IMAP command " + printable(head.name, 40) + ": Unknown command before login.");
        co_return;
    }
    co_await (this->*handler)(head.tag, parser);
}

/// CAPABILITY (RFC 3501 section 6.1.1).
Task<> Front::capability(const std::string& tag, Parser& parser) {
    if (!parser.end()) {
        co_return bad(tag, parser.error());
    }
    const std::string can = co_await capabilities();
    stream().write(fmt::format("* CAPABILITY {}\r\n{} OK Pre-login capabilities listed, post-login capabilities have "
                               "more.\r\n", can, tag));
}

Task<> Front::noop(const std::string& tag, Parser& parser) {
    if (!parser.end()) {
        co_return bad(tag, parser.error());
    }
    stream().write(tag + " OK NOOP completed.\r\n");
    co_return;
}

/// ID (RFC 2971).
Task<> Front::id(const std::string& tag, Parser& parser) {
    std::vector<std::pair<std::string, std::string>> pairs;
    if (!parse_id(parser, pairs)) {
        co_return bad(tag, parser.error());
    }
    const std::string logged = id_for_log(pairs, shared_.config().imap_id_log());
    if (!logged.empty()) {
        log_info("imap-login: ID sent: {}: rip={}, lip={}, session=<{}>", logged, client_.addresses().remote_ip,
                 client_.addresses().local_ip, client_.session_id());
    }
    stream().write(id_response(shared_.config().imap_id_send()) + tag + " OK ID completed.\r\n");
}

Task<> Front::logout(const std::string& tag, Parser& parser) {
    if (!parser.end()) {
        co_return bad(tag, parser.error());
    }
    stream().write("* BYE Logging out\r\n" + tag + " OK Logout completed.\r\n");
    end("Aborted login");
}

/// STARTTLS (RFC 3501 section 6.2.1).  What the client sent along in the clear is dropped by the stream.
Task<> Front::starttls(const std::string& tag, Parser& parser) {
    if (!parser.end()) {
        co_return bad(tag, parser.error());
    }
    if (stream().tls() != nullptr) {
        co_return bad(tag, "TLS is already active.");
    }
    if (!client_.can_start_tls()) {
        co_return bad(tag, "TLS support isn't enabled.");
    }
    stream().write(tag + " OK Begin TLS negotiation now.\r\n");
    const Result<void> secured = co_await client_.start_tls();
    if (!secured) {
        ended_ = true;
        given_away_ = true;                      // logged, and nothing can be said any more
        stream().close();
    }
}

/// LOGIN (RFC 3501 section 6.2.3).
Task<> Front::login(const std::string& tag, Parser& parser) {
    std::string user;
    std::string password;
    if (!parser.astring(user) || !parser.space() || !parser.astring(password) || !parser.end()) {
        co_return bad(tag, "Error in IMAP command LOGIN: " + parser.error());
    }
    LoginResult result = co_await client_.login(std::move(user), std::move(password));
    co_await conclude(tag, std::move(result));
}

/// AUTHENTICATE (RFC 3501 section 6.2.2, RFC 4959):
///
///     authenticate = "AUTHENTICATE" SP mechanism [SP (base64 / "=")]
Task<> Front::authenticate(const std::string& tag, Parser& parser) {
    std::string mechanism;
    if (!parser.atom(mechanism)) {
        co_return bad(tag, "Error in IMAP command AUTHENTICATE: " + parser.error());
    }
    std::optional<std::string> initial;
    if (parser.take(' ') && !parser.at_end()) {
        initial.emplace();
        if (!parser.astring(*initial)) {
            co_return bad(tag, "Error in IMAP command AUTHENTICATE: " + parser.error());
        }
    }
    if (!parser.end()) {
        co_return bad(tag, "Error in IMAP command AUTHENTICATE: " + parser.error());
    }
    LoginResult result = co_await client_.authenticate(std::move(mechanism), std::move(initial));
    co_await conclude(tag, std::move(result));
}

/// Answers the login command, or gives the client to its session, which then answers it.
Task<> Front::conclude(const std::string& tag, LoginResult result) {
    using Kind = LoginResult::Kind;
    std::string_view code;
    switch (result.kind) {
    case Kind::accepted: {
        const bool gone = co_await client_.hand_over(tag);
        if (gone) {
            ended_ = true;
            given_away_ = true;
            co_return;
        }
        stream().write(tag + " NO [UNAVAILABLE] Temporary authentication failure.\r\n");
        co_return;
    }
    case Kind::lost:
        end("Disconnected");
        co_return;
    case Kind::bad_mechanism: code = "NO "; break;
    case Kind::cancelled:
    case Kind::malformed: co_return bad(tag, result.text);
    case Kind::temporary: code = "NO [UNAVAILABLE] "; break;
    case Kind::not_secured:
        stream().write("* BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client did it "
                       "anyway. If anyone was listening, the password was exposed.\r\n");
        code = "NO [PRIVACYREQUIRED] ";
        break;
    case Kind::disabled: code = "NO [CONTACTADMIN] "; break;
    case Kind::refused:
    case Kind::too_many_tries: code = "NO [AUTHENTICATIONFAILED] "; break;
    }
    stream().write(fmt::format("{} {}{}\r\n", tag, code, printable(result.text, 300)));
    if (result.kind == Kind::too_many_tries) {
        stream().write("* BYE Too many authentication failures.\r\n");
        end("Disconnected: Too many authentication failures");
    }
}

}  // namespace

Task<> serve_front(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front, bool implicit_tls) {
    Front client(std::move(stream), std::move(addresses), front);
    co_await client.run(implicit_tls);
}

}  // namespace postern::imapd
