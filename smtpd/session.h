/// One SMTP client (RFC 5321), from the greeting to the end of its connection.
///
/// The session is a coroutine that reads like the protocol: run() takes commands one after another; each command
/// has a handler in a cmd_*.cc file.  What belongs to one message is one Transaction, so RSET is `mail_.reset()`.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/core.h>

#include "lib/async/task.h"
#include "lib/notice/transcript.h"
#include "lib/queue/envelope.h"
#include "lib/stream/stream.h"
#include "smtpd/content.h"
#include "smtpd/restrictions.h"
#include "smtpd/server.h"

namespace postern::smtpd {

/// Who the client is.  XCLIENT replaces it.
struct ClientInfo {
    std::string name = "unknown";           ///< verified host name, or "unknown"
    std::string reverse_name = "unknown";
    std::string address;
    std::string port;
    std::string server_address, server_port;
    bool name_temporary = false;            ///< the name may be known later
    bool unannounced = false;               ///< smtpd_upstream_proxy_protocol: the proxy did not say who it is
    bool local = false;                     ///< standard input of a local user (-bs)

    std::string text() const { return name + "[" + address + "]"; }
};

/// What an XFORWARD client says about where it got the message (Postfix XFORWARD_README).
struct ForwardedInfo {
    std::string name = "unknown", address = "unknown", port = "unknown", protocol = "unknown", helo;
    std::string ident, source;
    bool has_client = false;   ///< one of the first five was told; the others are unknown then
};

/// A command line cut into its verb (upper case) and the rest.
struct Command {
    std::string verb;
    std::string argument;
    std::string line;
};
Command split_command(std::string_view line);

/// One message, from MAIL to its end.
struct Transaction {
    queue::Envelope envelope;
    std::uint64_t declared_size = 0;
    std::string instance;                   ///< for policy servers
    SideEffects effects;
    std::unique_ptr<Submission> submission; ///< once content comes
    std::uint64_t content_bytes = 0;        ///< with LF line ends
    std::uint64_t wire_bytes = 0;           ///< as they came, with CRLF: what policy servers are told
    long refused_recipients = 0;            ///< over smtpd_recipient_limit
    std::string content;                    ///< what cleanup has not got yet
    std::optional<std::string> refusal;     ///< BDAT: the answer is known, the content is only read off the wire
    bool refusal_logged = false;
    bool in_bdat = false;
    bool bare_newline = false;              ///< BDAT: a LF came without CR
    bool pending_cr = false;                ///< the last chunk ended in CR
};

/// How the client authenticated, if it did.
struct SaslState {
    std::string username, method, sender;
    bool authenticated() const { return !username.empty(); }
};

/// For the limits and the line at the end of the session.
struct Counters {
    long errors = 0;
    long junk = 0;
    struct PerVerb {
        long good = 0, total = 0;
    };
    std::array<PerVerb, 20> verbs{};        ///< in the order of the command table
    long unknown = 0;                       ///< commands that are in no table
    long commands_good = 0, commands_total = 0;
};

class Session {
public:
    /// `client` and `server` outlive the session.
    Session(Stream& client, Server& server, ClientInfo info);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// The whole conversation.
    Task<> run();

    using Handler = Task<> (Session::*)(const Command&);
    struct KnownCommand;
    static const KnownCommand* find_command(std::string_view verb);

private:
    // Replies.  `text` begins with the code: "250 2.1.0 Ok".  refuse() also counts an error; `trouble` is its class in
    // notify_classes, if it has one.
    Task<> reply(std::string text);
    std::string with_own_footer(std::string text);
    std::string as_filtered(std::string text);
    Task<> refuse(std::string text, std::optional<Trouble> trouble = Trouble::protocol);
    /// Logs a reject line, answers, counts.  `where` is "RCPT", "MAIL", ...
    Task<> reject(std::string_view where, const Verdict& verdict);
    Task<> reject(std::string_view where, int code, std::string_view dsn, std::string text);
    /// Logs a reject line and ends the session after the answer if the verdict is so; returns the answer.
    std::string note_refusal(std::string_view where, const Verdict& verdict);
    void log_effects(std::string_view where, SideEffects& effects);

    // The parts of run().
    Task<> greet();
    Task<> count_connection();
    Task<bool> wrapper_tls();
    Task<> one_command(std::string line);
    Task<> known_command(const Command& command, const KnownCommand& known);
    std::string filtered(std::string line);
    Task<bool> does_nothing(const Command& command);
    void begin_request() { request_begun_ = std::chrono::steady_clock::now(); }
    Millis time_left(std::uint64_t bytes = 0) const;
    Task<Result<std::string>> next_line(std::size_t limit);
    bool note_pipelining(const Command& command, const KnownCommand& known);
    Task<bool> forbidden(const Command& command);
    Task<> end_of_conversation(const Error& error);
    Task<> end_after_errors();
    void log_disconnect();
    Task<bool> over_limit(ClientEvent event);
    Task<> count_tls_session();
    void log_tls_session();

    // For the postmaster (session_transcript.cc).
    void note_command(const Command& command);
    void note_heard(std::string_view line);
    void note_reply(std::string_view text);
    void note_response(std::string_view line);
    Task<> flush_transcript();
    Task<> tell_postmaster();

    // Commands (cmd_*.cc).
    Task<> helo(const Command& command);
    Task<> ehlo(const Command& command);
    Task<> starttls(const Command& command);
    Task<> auth(const Command& command);
    Task<> mail(const Command& command);
    Task<> rcpt(const Command& command);
    Task<> data(const Command& command);
    Task<> bdat(const Command& command);
    Task<> rset(const Command& command);
    Task<> noop(const Command& command);
    Task<> quit(const Command& command);
    Task<> vrfy(const Command& command);
    Task<> expn(const Command& command);
    Task<> etrn(const Command& command);
    Task<bool> flush_site(std::string domain);
    Task<> help(const Command& command);
    Task<> xclient(const Command& command);
    Task<> xforward(const Command& command);

    // Steps of commands.
    Task<std::string> ehlo_reply();
    Task<bool> hello_accepted(const Command& command, std::string_view verb);
    Task<bool> secure(std::string_view where);
    bool is_usable_address(std::string_view address) const;
    Task<Verdict> judge(const RestrictionList& list, std::string command, Deferral& deferral);
    Task<Verdict> judge_alone(const RestrictionList& list, std::string command);
    Task<Verdict> judge_list(const RestrictionList& list, const Subject& who, Deferral& deferral);
    std::string take_verp(const std::string& delimiters);
    Task<bool> mail_parameters(std::string_view text);
    Task<bool> rcpt_parameters(std::string_view text, queue::Recipient& recipient);
    Verdict judge_unlisted_sender(const Subject& who);
    Task<Verdict> judge_recipient(bool bare_postmaster, std::string command);
    Task<bool> message_may_begin(std::string_view where);
    void begin_submission();
    Task<Result<void>> read_data(DataDecoder& decoder);
    Task<Result<bool>> read_chunk(std::uint64_t size);
    Task<> finish_message(std::string_view where);
    Task<std::optional<std::string>> sasl_exchange(const Command& command, std::string_view mechanism,
                                                   std::optional<std::string> initial);
    bool certificate_verified() const;
    Subject subject(std::string command) const;
    std::string protocol_name() const;
    std::string where_from(std::string_view where) const;
    std::string envelope_text() const;
    bool keyword_hidden(std::string_view keyword) const;
    BareNewline bare_newline_policy();
    std::optional<std::string> judge_bare_newline(std::string_view where);
    std::string bare_newline_reply() const;
    void judge_chunk(bool last);
    Task<> answer_chunk(std::uint64_t size, bool last, bool refused_before);
    void reset_transaction();

    Stream& client_;
    Server& server_;
    const Config& config_;
    ClientInfo info_;
    ForwardedInfo forwarded_;
    std::string helo_;
    bool esmtp_ = false;
    SaslState sasl_;
    std::optional<Transaction> mail_;
    std::optional<std::string> recipient_;   ///< the one being judged
    Counters counters_;
    std::string stage_ = "CONNECT";          ///< for "lost connection after ..."
    std::vector<std::string> hidden_keywords_;
    CountedClient counted_;
    Transcript transcript_;
    std::string aborted_;                    ///< why the session ended before QUIT, for the transcript
    bool secrets_follow_ = false;            ///< AUTH was said: what comes next may be a password, whatever we think of it
    std::string etrn_domain_;                ///< while ETRN is being judged
    Deferral deferred_at_connect_, deferred_at_helo_, deferred_at_mail_;   ///< until a recipient is judged
    std::chrono::steady_clock::time_point request_begun_;   ///< smtpd_per_request_deadline
    bool verifying_ = false;                 ///< VRFY: mail_ stands for no message
    bool pipelined_ = false;                 ///< reject_unauth_pipelining: the client did not wait where it must
    bool debugged_ = false;                  ///< debug_peer_list
    bool finished_ = false;
};

struct Session::KnownCommand {
    const char* verb;
    const char* log_name;     ///< as in the disconnect line: "mail"
    Handler handler;
    bool may_be_followed;     ///< RFC 2920 section 3.1: more commands may be in the same packet; what it does not list as the last of
                              ///< its group may be followed, as with Postfix
};

}  // namespace postern::smtpd
