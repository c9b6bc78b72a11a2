/// RCPT TO (RFC 5321 section 4.1.1.3) with NOTIFY and ORCPT (RFC 3461): adds one recipient to the open transaction.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/scan.h"
#include "lib/mail/xtext.h"
#include "smtpd/session.h"

namespace postern::smtpd {
namespace {

/// "type;address": an atom and xtext (RFC 3461 section 4.2), or with SMTPUTF8 any visible characters (RFC 6533 section 3).
bool valid_orcpt(std::string_view value, bool utf8) {
    const std::size_t semicolon = value.find(';');
    if (semicolon == 0 || semicolon == value.npos || value.size() > 500) {
        return false;
    }
    const std::string_view type = value.substr(0, semicolon), address = value.substr(semicolon + 1);
    const bool visible = std::none_of(address.begin(), address.end(), [](char c) { return static_cast<unsigned char>(c) <= 32 || c == 127; });
    return std::all_of(type.begin(), type.end(), is_atext) && (utf8 ? visible : valid_xtext(address));
}

}  // namespace

Task<> Session::rcpt(const Command& command) {
    const bool is_secure = co_await secure("RCPT");
    if (!is_secure) {
        co_return;
    }
    if (!mail_) {
        co_return co_await refuse("503 5.5.1 Error: need MAIL command");
    }
    if (mail_->in_bdat) {
        co_return co_await refuse("503 5.5.1 Error: MAIL transaction in progress");
    }
    if (!starts_with_ignoring_case(command.argument, "TO:")) {
        co_return co_await refuse("501 5.5.4 Syntax: RCPT TO:<address>");
    }
    const PathOptions options{config_.strict_rfc821_envelopes(), false};
    Result<SmtpPath> path = parse_path(std::string_view(command.argument).substr(3), options);
    if (!path || path->address.empty()) {
        co_return co_await refuse("501 5.1.3 Bad recipient address syntax");
    }
    if (path->utf8 && !mail_->envelope.smtputf8 && config_.strict_smtputf8()) {
        co_return co_await refuse("553 5.6.7 Must declare SMTPUTF8 to send unicode address");
    }
    const bool too_many = co_await over_limit(ClientEvent::recipient);
    if (too_many) {
        co_return;
    }
    if (mail_->envelope.recipients.size() >= static_cast<std::size_t>(config_.smtpd_recipient_limit())) {
        // RFC 5321 section 4.5.3.1.10: 452, and the client sends the rest in another transaction.
        // Some send all of them nevertheless: smtpd_recipient_overshoot_limit forgives.
        constexpr const char* kTooMany = "452 4.5.3 Error: too many recipients";
        if (mail_->refused_recipients++ < config_.smtpd_recipient_overshoot_limit()) {
            co_return co_await reply(kTooMany);
        }
        co_return co_await refuse(kTooMany);
    }
    queue::Recipient recipient;
    const bool parameters_fine = co_await rcpt_parameters(path->parameters, recipient);
    if (!parameters_fine) {
        co_return;
    }
    const std::string original = path->address.internal();
    recipient.address = server_.router().rewrite_address(original, RewriteContext::local);
    if (!is_usable_address(recipient.address)) {
        co_return co_await refuse("501 5.1.3 Bad recipient address syntax");
    }
    recipient.original = recipient.address == original ? std::string() : original;
    recipient_ = recipient.address;
    const Verdict verdict = co_await judge_recipient(equals_ignoring_case(original, "postmaster"), "RCPT");
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_await reject("RCPT", verdict);
    } else {
        mail_->envelope.recipients.push_back(std::move(recipient));
        co_await reply("250 2.1.5 Ok");
    }
    recipient_.reset();
}

/// All lists that apply here, in Postfix's order; with smtpd_delay_reject those of earlier stages too.
Task<Verdict> Session::judge_recipient(bool bare_postmaster, std::string command) {
    Lists& lists = server_.lists();
    std::array<const RestrictionList*, 5> order{};
    std::size_t count = 0;
    Deferral deferral;
    if (config_.smtpd_delay_reject()) {
        for (const RestrictionList* list : {&lists.client, &lists.helo, &lists.sender}) {
            order[count++] = list;
        }
    } else {
        for (const Deferral* earlier : {&deferred_at_connect_, &deferred_at_helo_, &deferred_at_mail_}) {
            deferral.if_permit = deferral.if_permit ? deferral.if_permit : earlier->if_permit;
            deferral.if_reject = deferral.if_reject ? deferral.if_reject : earlier->if_reject;
        }
    }
    if (!bare_postmaster) {   // RFC 5321 section 4.5.1: <postmaster> without a domain is always taken
        const bool relay_first = config_.smtpd_relay_before_recipient_restrictions();
        order[count++] = relay_first ? &lists.relay : &lists.recipient;
        order[count++] = relay_first ? &lists.recipient : &lists.relay;
    }
    const Subject who = subject(std::move(command));
    for (std::size_t i = 0; i < count; ++i) {
        Verdict verdict;
        if (!order[i]->empty()) {
            verdict = co_await judge_list(*order[i], who, deferral);
        }
        if (order[i] == &lists.sender && verdict.outcome != Verdict::Outcome::reject) {
            verdict = judge_unlisted_sender(who);
        }
        if (verdict.outcome == Verdict::Outcome::reject) {
            co_return verdict;
        }
        if (mail_->effects.discard) {
            co_return Verdict{};
        }
    }
    const Verdict settled = RestrictionList::settle(Verdict{}, deferral);   // what waits comes before what no table lists
    if (settled.outcome == Verdict::Outcome::reject || bare_postmaster || !config_.smtpd_reject_unlisted_recipient()) {
        co_return settled;
    }
    co_return lists.recipient.judge_unlisted_recipient(who);
}

/// smtpd_reject_unlisted_sender, behind smtpd_sender_restrictions.
Verdict Session::judge_unlisted_sender(const Subject& who) {
    return config_.smtpd_reject_unlisted_sender() ? server_.lists().sender.judge_unlisted_sender(who) : Verdict{};
}

/// Answers when a parameter is not acceptable.
Task<bool> Session::rcpt_parameters(std::string_view text, queue::Recipient& recipient) {
    for (const std::string& word : split(text, " \t")) {
        const std::size_t equals = word.find('=');
        const std::string name = to_upper(word.substr(0, equals));
        const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
        if (name == "NOTIFY" && recipient.notify == 0) {
            std::uint8_t notify = 0;
            bool good = !value.empty();
            for (const std::string& kind : split_exact(value, ',')) {
                if (equals_ignoring_case(kind, "NEVER")) {
                    notify |= queue::kNotifyNever;
                } else if (equals_ignoring_case(kind, "SUCCESS")) {
                    notify |= queue::kNotifySuccess;
                } else if (equals_ignoring_case(kind, "FAILURE")) {
                    notify |= queue::kNotifyFailure;
                } else if (equals_ignoring_case(kind, "DELAY")) {
                    notify |= queue::kNotifyDelay;
                } else {
                    good = false;
                }
            }
            // NEVER stands alone (RFC 3461 section 4.1).
            good = good && ((notify & queue::kNotifyNever) == 0 || notify == queue::kNotifyNever);
            if (!good) {
                co_await refuse("501 5.5.4 Error: Bad NOTIFY parameter syntax");
                co_return false;
            }
            recipient.notify = notify;
        } else if (name == "ORCPT" && recipient.dsn_orcpt.empty()) {
            if (!valid_orcpt(value, mail_->envelope.smtputf8)) {
                co_await refuse("501 5.5.4 Error: Bad ORCPT parameter syntax");
                co_return false;
            }
            recipient.dsn_orcpt = value;
        } else {
            co_await refuse("555 5.5.4 Unsupported option: " + printable(word, 100));
            co_return false;
        }
    }
    co_return true;
}

}  // namespace postern::smtpd
