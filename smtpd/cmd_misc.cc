/// The short commands: RSET, NOOP, QUIT, VRFY, EXPN, ETRN, HELP (RFC 5321 sections 4.1.1.5 to 4.1.1.10, RFC 1985).
#include <fmt/format.h>

#include <utility>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/ipc/channel.h"
#include "lib/queue/messages.h"
#include "smtpd/session.h"

namespace postern::smtpd {

namespace {

/// Commands that do nothing for the client count against smtpd_junk_command_limit.
bool too_much_junk(Counters& counters, const Config& config) {
    return ++counters.junk > config.smtpd_junk_command_limit();
}

}  // namespace

Task<> Session::rset(const Command& command) {
    if (!command.argument.empty()) {
        co_return co_await refuse("501 5.5.4 Syntax: RSET");
    }
    co_await flush_transcript();
    reset_transaction();
    counters_.errors += too_much_junk(counters_, config_) ? 1 : 0;
    co_await reply("250 2.0.0 Ok");
}

Task<> Session::noop(const Command&) {
    counters_.errors += too_much_junk(counters_, config_) ? 1 : 0;
    co_await reply("250 2.0.0 Ok");
}

/// What is said behind QUIT does not matter, as in Postfix: who wants to leave, leaves.
Task<> Session::quit(const Command&) {
    co_await reply("221 2.0.0 Bye");
    finished_ = true;
}

/// VRFY: whether a message to this address would be taken, by the rules of RCPT.
Task<> Session::vrfy(const Command& command) {
    if (config_.disable_vrfy_command()) {
        co_return co_await refuse("502 5.5.1 VRFY command is disabled", Trouble::policy);
    }
    if (command.argument.empty()) {
        co_return co_await refuse("501 5.5.4 Syntax: VRFY address");
    }
    counters_.errors += too_much_junk(counters_, config_) ? 1 : 0;
    const std::string_view argument = command.argument;
    const bool utf8_word = argument.size() > 9 && equals_ignoring_case(argument.substr(argument.size() - 9), " SMTPUTF8");
    if (config_.strict_smtputf8() && !utf8_word && has_eight_bit(argument)) {
        co_return co_await refuse("553 5.6.7 Must declare SMTPUTF8 to send unicode address");
    }
    Result<Address> address = parse_address(utf8_word ? argument.substr(0, argument.size() - 9) : argument);
    if (!address || address->empty() || !is_usable_address(address->internal())) {
        co_return co_await refuse("501 5.1.3 Bad recipient address syntax");
    }
    std::optional<Transaction> message = std::exchange(mail_, std::nullopt);   // its sender has nothing to do with this
    mail_.emplace();
    verifying_ = true;
    recipient_ = server_.router().rewrite_address(address->internal(), RewriteContext::local);
    const Verdict verdict = co_await judge_recipient(false, "VRFY");
    const std::string shown = external_form(*recipient_);
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_await reject("VRFY", verdict);
    } else {
        co_await reply(fmt::format("252 2.0.0 {}", shown));
    }
    recipient_.reset();
    verifying_ = false;
    mail_ = std::move(message);
}

Task<> Session::expn(const Command&) {
    co_await refuse("502 5.5.1 EXPN command is not available");
}

Task<> Session::help(const Command&) {
    counters_.errors += too_much_junk(counters_, config_) ? 1 : 0;
    co_await reply("214 2.0.0 HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY ETRN QUIT");
}

/// qmgr has been asked to try the site's mail.
Task<bool> Session::flush_site(std::string domain) {
    Result<UniqueFd> socket = co_await connect_unix("public/" + config_.queue_service_name(), Seconds(10));
    if (!socket) {
        log_warning("{}", socket.error().what);
        co_return false;
    }
    Channel<queue::ToQmgr, queue::FromQmgr> qmgr(std::move(*socket));
    queue::FlushSite request;
    request.domain = std::move(domain);
    qmgr.post(std::move(request));
    const Result<queue::FromQmgr> answer = co_await qmgr.receive(Seconds(30));
    co_return answer.ok();
}

/// ETRN (RFC 1985): asks qmgr to try the deferred mail of a site that this server relays for.  Replies have no enhanced status codes, as
/// in Postfix; "@" and "#" before the site mean nothing.
Task<> Session::etrn(const Command& command) {
    if (helo_.empty() && config_.smtpd_helo_required()) {
        co_return co_await refuse("503 Error: send HELO/EHLO first");
    }
    if (mail_) {
        co_return co_await refuse("503 Error: MAIL transaction in progress");
    }
    const std::vector<std::string> words = split(command.argument, " \t");
    if (words.size() != 1) {
        co_return co_await refuse("500 Syntax: ETRN domain");
    }
    const bool marked = words[0].front() == '@' || words[0].front() == '#';
    const std::string domain = words[0].substr(marked ? 1 : 0);
    if (!valid_mail_domain(domain)) {
        co_return co_await refuse("501 Error: invalid parameter syntax");
    }
    counters_.errors += too_much_junk(counters_, config_) ? 1 : 0;
    if (info_.local) {
        co_return co_await refuse("458 Unable to queue messages", Trouble::software);
    }
    etrn_domain_ = domain;
    const Verdict verdict = co_await judge_alone(server_.lists().etrn, "ETRN");
    etrn_domain_.clear();
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_return co_await reject("ETRN", verdict);
    }
    const Result<bool> flushed = server_.flushes(domain);
    if (flushed && !*flushed) {
        log_warning("reject: ETRN {}... from {}", domain.substr(0, 100), info_.text());
        co_return co_await refuse(fmt::format("459 <{}>: service unavailable", domain), Trouble::policy);
    }
    if (!flushed) {
        log_warning("{}", flushed.error().what);
    }
    bool asked = false;
    if (flushed) {
        asked = co_await flush_site(domain);
    }
    if (!asked) {
        co_return co_await refuse("458 Unable to queue messages", Trouble::software);
    }
    co_await reply("250 Queuing started");
}

}  // namespace postern::smtpd
