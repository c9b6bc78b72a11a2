#include "smtpd/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/stream/request_time.h"

namespace postern::smtpd {

namespace {

/// Which row of the command table a verb is, for the counters.
std::size_t row_of(const Session::KnownCommand* command) {
    return static_cast<std::size_t>(command - Session::find_command("HELO"));
}
constexpr std::size_t kRows = 17;

}  // namespace

Session::Session(Stream& client, Server& server, ClientInfo info)
    : client_(client), server_(server), config_(server.config()), info_(std::move(info)), counted_(server.limits()), transcript_(NotifyClasses(config_)) {}

Session::~Session() = default;

/// Serves one client: the greeting (RFC 5321 section 3.1), then one command after another (section 4.1) until QUIT,
/// too many errors, or a lost connection.
Task<> Session::run() {
    log_info("connect from {}", info_.text());
    debugged_ = server_.debugs(info_.name, info_.address);
    co_await count_connection();
    const bool secured = co_await wrapper_tls();
    if (secured) {
        co_await greet();
        const std::size_t line_limit = static_cast<std::size_t>(config_.line_length_limit());
        while (!finished_) {
            begin_request();
            Result<std::string> line = co_await next_line(line_limit);
            if (!line) {
                if (line.error().code == Errc::too_big) {
                    co_await refuse("500 5.5.2 Error: line too long");
                    co_await end_after_errors();
                    continue;
                }
                co_await end_of_conversation(line.error());
                break;
            }
            co_await one_command(std::move(*line));
            co_await end_after_errors();
        }
        client_.end_follows();
        Result<void> last = co_await client_.flush(config_.smtpd_timeout());
        (void)last.ok();   // the client may be gone already
    }
    log_disconnect();
    client_.close();
    co_await tell_postmaster();
}

/// TLS before the first byte (smtpd_tls_wrappermode).  False when there is nobody to talk to.  A proxy that has announced nobody
/// speaks no TLS either: it hears so in the clear, as from Postfix.
Task<bool> Session::wrapper_tls() {
    if (!config_.smtpd_tls_wrappermode() || info_.unannounced) {
        co_return true;
    }
    const long too_fast = co_await counted_.look(ClientEvent::tls);
    if (too_fast > 0) {
        log_warning("Refusing TLS service request from {} for service {}", info_.text(), server_.service_name());
        co_return false;
    }
    Result<void> done = co_await client_.start_tls(*server_.tls(), config_.smtpd_starttls_timeout());
    if (done) {
        log_tls_session();
        co_await count_tls_session();
        co_return true;
    }
    log_info("SSL_accept error from {}: {}", info_.text(), done.error().what);
    log_info("lost connection after CONNECT from {}", info_.text());
    co_return false;
}

/// In anvil(8)'s books, unless the client is exempt from limits, or nobody knows who it is.
Task<> Session::count_connection() {
    if (info_.local || info_.unannounced || !server_.limits().in_use()) {
        co_return;
    }
    Result<bool> exempt = server_.clients().event_limit_exceptions.matches(info_.name, info_.address);
    Result<bool> may_xclient = server_.clients().xclient.matches(info_.name, info_.address);
    if (exempt && !*exempt && !(may_xclient && *may_xclient)) {
        co_await counted_.open(info_.address);
    }
}

Task<> Session::greet() {
    if (finished_) {
        co_return;   // a TLS session too many: answered already
    }
    if (info_.unannounced) {
        co_await reply(fmt::format("421 4.3.0 {} Server local error", config_.myhostname()));
        finished_ = true;
        co_return;
    }
    hidden_keywords_ = server_.discarded_keywords(info_.address);
    const ClientLimits& limits = server_.limits();
    const bool too_many = limits.connection_limit() > 0 && counted_.connections() > limits.connection_limit();
    const long rate_limit = limits.limit(ClientEvent::connection);
    if (too_many || (rate_limit > 0 && counted_.connection_rate() > rate_limit)) {
        log_warning("Connection {} limit exceeded: {} from {} for service {}", too_many ? "concurrency" : "rate",
                    too_many ? counted_.connections() : counted_.connection_rate(), info_.text(), server_.service_name());
        co_await reply(fmt::format("421 4.7.0 {} Error: too many connections from {}", config_.myhostname(), info_.address));
        finished_ = true;
        co_return;
    }
    if (!config_.smtpd_delay_reject()) {
        const Verdict verdict = co_await judge(server_.lists().client, "CONNECT", deferred_at_connect_);
        if (verdict.outcome == Verdict::Outcome::reject) {
            co_await reject("CONNECT", verdict);
            finished_ = true;
            co_return;
        }
    }
    co_await reply(fmt::format("220 {}", config_.smtpd_banner()));
}

namespace {

/// Names of what a client may do too often, as in Postfix.
struct EventWords {
    ClientEvent event;
    const char* logged;
    const char* answered;
};
constexpr EventWords kEventWords[] = {
    {ClientEvent::message, "Message delivery request", "too much mail"},
    {ClientEvent::recipient, "Recipient address", "too many recipients"},
    {ClientEvent::auth, "AUTH command", "too many AUTH commands"},
};

}  // namespace

/// Counts an event; when it is one too many, logs, answers 450 and yields true.
Task<bool> Session::over_limit(ClientEvent event) {
    const long rate = co_await counted_.count(event);
    if (rate == 0) {
        co_return false;
    }
    for (const EventWords& words : kEventWords) {
        if (words.event == event) {
            log_warning("{} rate limit exceeded: {} from {} for service {}", words.logged, rate, info_.text(),
                        server_.service_name());
            co_await refuse(fmt::format("450 4.7.1 Error: {} from {}", words.answered, info_.address));
        }
    }
    co_return true;
}

Task<> Session::one_command(std::string line) {
    line = filtered(std::move(line));
    const Command command = split_command(line);
    note_command(command);
    if (!client_.line_had_crlf() && bare_newline_policy() == BareNewline::reject) {
        log_info("NOQUEUE: reject: {}: bare <LF> received;{}", where_from(stage_), envelope_text());
        co_await refuse(bare_newline_reply());
        finished_ = true;
        co_return;
    }
    if (command.verb.empty()) {
        co_return co_await refuse("500 5.5.2 Error: bad syntax");
    }
    const bool nothing = co_await does_nothing(command);
    if (nothing) {
        co_return;
    }
    ++counters_.commands_total;
    if (const KnownCommand* known = find_command(command.verb)) {
        co_await known_command(command, *known);
    } else {
        stage_ = "UNKNOWN";
        ++counters_.unknown;
        const bool blocked = co_await forbidden(command);
        if (blocked) {
            co_return;
        }
        co_await refuse("500 5.5.2 Error: command not recognized");
    }
}

/// smtpd_hard_error_limit.
Task<> Session::end_after_errors() {
    if (finished_ || counters_.errors < config_.smtpd_hard_error_limit()) {
        co_return;
    }
    co_await reply(fmt::format("421 4.7.0 {} Error: too many errors", config_.myhostname()));
    log_info("too many errors after {} from {}", stage_, info_.text());
    transcript_.happened(Trouble::protocol);
    aborted_ = "too many errors";
    finished_ = true;
}

Task<> Session::known_command(const Command& command, const KnownCommand& known) {
    stage_ = command.verb;
    const std::size_t row = row_of(&known);
    ++counters_.verbs[row].total;
    const long errors_before = counters_.errors;
    const bool improper = note_pipelining(command, known);
    if (improper && command.verb != "STARTTLS" && config_.smtpd_forbid_unauth_pipelining()) {
        co_await refuse("554 5.5.0 Error: SMTP protocol synchronization");
        finished_ = true;
        co_return;
    }
    co_await (this->*known.handler)(command);
    if (counters_.errors == errors_before) {
        ++counters_.verbs[row].good;
        ++counters_.commands_good;
    }
}

/// Somebody who does not wait for the answer to EHLO or DATA has not read it (RFC 2920 section 3.1); and who has not said EHLO does
/// not know that more than one command may be sent.  What follows STARTTLS in the clear is never looked at (RFC 3207 section 4.2).
bool Session::note_pipelining(const Command& command, const KnownCommand& known) {
    const bool may_be_followed = (known.may_be_followed && esmtp_) || command.verb == "QUIT";
    if (info_.local || may_be_followed || client_.buffered().empty()) {
        return false;
    }
    log_info("improper command pipelining after {} from {}: {}", command.verb, info_.text(),
             command.verb == "AUTH" ? std::string(kNotShown) : printable(before_secret(client_.buffered()), 100));
    pipelined_ = true;
    return true;
}

/// smtpd_command_filter: the line as this server shall see it.
std::string Session::filtered(std::string line) {
    const Lookup found = server_.command_filter().lookup(line);
    if (!found) {
        log_warning("{}", found.error().what);
    }
    if (!found || !*found) {
        return line;
    }
    log_info("{}: replacing command \"{}\" with \"{}\"", info_.text(), printable(before_secret(line), 100),
             printable(before_secret(**found), 100));
    return **found;
}

/// One of smtpd_noop_commands: it is in nobody's statistics.
Task<bool> Session::does_nothing(const Command& command) {
    const Result<bool> listed = server_.does_nothing(command.verb);
    if (!listed || !*listed) {
        co_return false;
    }
    counters_.errors += ++counters_.junk > config_.smtpd_junk_command_limit() ? 1 : 0;
    co_await reply("250 2.0.0 Ok");
    co_return true;
}

/// smtpd_timeout, which counts for the whole request with smtpd_per_request_deadline; content of `bytes` has come.
Millis Session::time_left(std::uint64_t bytes) const {
    const Millis patience = config_.smtpd_timeout();
    return config_.smtpd_per_request_deadline() ? request_time_left(request_begun_, patience, bytes, config_.smtpd_min_data_rate())
                                                : patience;
}

/// As Postfix counts, smtpd_timeout is for each read of a line, and for the whole with smtpd_per_request_deadline.  What drips is
/// bounded by its length; so is what is dropped of a line that is too long, by one smtpd_timeout.
Task<Result<std::string>> Session::next_line(std::size_t limit) {
    const Millis patience = config_.smtpd_timeout();
    while (!config_.smtpd_per_request_deadline() && client_.buffered().size() <= limit && client_.buffered().find('\n') == std::string_view::npos) {
        const Result<void> more = co_await client_.fill_more(patience);
        if (!more) {
            co_return more.error();
        }
    }
    co_return co_await client_.read_line(limit, patience);
}

/// An unknown command: one of smtpd_forbidden_commands, such as a web browser's, or a header line where a command should be?
Task<bool> Session::forbidden(const Command& command) {
    const bool header_like = !command.verb.empty() && command.verb.find(':') == command.verb.size() - 1;
    Result<bool> listed = server_.forbidden(command.verb);
    if (!header_like && !(listed && *listed)) {
        co_return false;
    }
    log_warning("non-SMTP command from {}: {}", info_.text(), secrets_follow_ ? std::string(kNotShown) : printable(command.line, 100));
    co_await reply("221 2.7.0 Error: I can break rules, too. Goodbye.");
    finished_ = true;
    co_return true;
}

Task<> Session::end_of_conversation(const Error& error) {
    if (error.code == Errc::timeout) {
        log_info("timeout after {} from {}", stage_, info_.text());
        aborted_ = "timeout";
        co_await reply(fmt::format("421 4.4.2 {} Error: timeout exceeded", config_.myhostname()));
        co_return;
    }
    log_info("lost connection after {} from {}", stage_, info_.text());
    aborted_ = "lost connection";
}

void Session::log_disconnect() {
    std::string counts;
    for (std::size_t i = 0; i < kRows; ++i) {
        const Counters::PerVerb& verb = counters_.verbs[i];
        if (verb.total == 0) {
            continue;
        }
        counts += fmt::format(" {}={}", find_command("HELO")[i].log_name, verb.good);
        if (verb.good != verb.total) {
            counts += fmt::format("/{}", verb.total);
        }
    }
    if (counters_.unknown > 0) {
        counts += fmt::format(" unknown=0/{}", counters_.unknown);
    }
    counts += fmt::format(" commands={}", counters_.commands_good);
    if (counters_.commands_good != counters_.commands_total) {
        counts += fmt::format("/{}", counters_.commands_total);
    }
    log_info("disconnect from {}{}", info_.text(), counts);
}

bool Session::keyword_hidden(std::string_view keyword) const {
    return std::any_of(hidden_keywords_.begin(), hidden_keywords_.end(),
                       [keyword](const std::string& hidden) { return equals_ignoring_case(hidden, keyword); });
}

bool Session::certificate_verified() const {
    return client_.tls() != nullptr && client_.tls()->peer_verified;
}

BareNewline Session::bare_newline_policy() {
    const std::string& setting = config_.smtpd_forbid_bare_newline();
    if (setting == "no" || info_.local) {
        return BareNewline::accept;
    }
    Result<bool> excluded = server_.clients().bare_newline_exclusions.matches(info_.name, info_.address);
    if (excluded && *excluded) {
        return BareNewline::accept;
    }
    if (setting == "reject") {
        return BareNewline::reject;
    }
    return setting == "note" ? BareNewline::note : BareNewline::normalize;
}

/// `command` as a policy server is told it: "RCPT".
Subject Session::subject(std::string command) const {
    Subject out;
    out.client_name = info_.name;
    out.reverse_name = info_.reverse_name;
    out.name_lookup_failed_softly = info_.name_temporary;
    out.client_address = info_.address;
    out.client_port = info_.port;
    out.server_address = info_.server_address;
    out.server_port = info_.server_port;
    out.helo = helo_;
    out.recipient = recipient_;
    if (mail_ && !verifying_) {
        const std::vector<queue::Recipient>& recipients = mail_->envelope.recipients;
        out.sender = mail_->envelope.sender;
        out.recipient_count = recipients.size();
        out.size = mail_->wire_bytes > 0 ? mail_->wire_bytes : mail_->declared_size;
        out.instance = mail_->instance;
        if (!recipient_ && recipients.size() == 1) {
            out.recipient = recipients[0].address;
        }
    }
    out.sasl_username = sasl_.username;
    out.sasl_method = sasl_.method;
    out.sasl_sender = sasl_.sender;
    out.tls = client_.tls();
    out.certificate_verified = certificate_verified();
    out.pipelined_unexpectedly = pipelined_;
    out.service = server_.service_name();
    out.protocol = esmtp_ ? "ESMTP" : "SMTP";
    out.command = std::move(command);
    out.etrn_domain = etrn_domain_;
    return out;
}

/// One list of several; the caller settles what was deferred.
Task<Verdict> Session::judge_list(const RestrictionList& list, const Subject& who, Deferral& deferral) {
    SideEffects scratch;
    SideEffects& effects = mail_ ? mail_->effects : scratch;
    Verdict verdict = co_await list.evaluate(who, effects, deferral);
    log_effects(stage_, effects);
    co_return verdict;
}

/// A list that is evaluated before there is a recipient (smtpd_delay_reject = no): what it defers waits in `deferral`.
Task<Verdict> Session::judge(const RestrictionList& list, std::string command, Deferral& deferral) {
    deferral = Deferral{};
    if (list.empty()) {
        co_return Verdict{};
    }
    const Subject who = subject(std::move(command));
    co_return co_await judge_list(list, who, deferral);
}

/// A list that decides on its own.
Task<Verdict> Session::judge_alone(const RestrictionList& list, std::string command) {
    Deferral deferral;
    const Verdict verdict = co_await judge(list, std::move(command), deferral);
    co_return RestrictionList::settle(verdict, deferral);
}

/// RFC 3848 and RFC 6531 section 4.3.
std::string Session::protocol_name() const {
    if (!esmtp_) {
        return "SMTP";
    }
    const bool utf8 = mail_ && mail_->envelope.smtputf8;
    return fmt::format("{}{}{}", utf8 ? "UTF8SMTP" : "ESMTP", client_.tls() != nullptr ? "S" : "",
                       sasl_.authenticated() ? "A" : "");
}

/// What XFORWARD and AUTH= said was about this message.
void Session::reset_transaction() {
    mail_.reset();
    recipient_.reset();
    forwarded_ = ForwardedInfo{};
    sasl_.sender.clear();
}

}  // namespace postern::smtpd
