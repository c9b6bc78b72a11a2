// What is said to the client, and what is written into the log about it.
#include <fmt/format.h>

#include <ctime>

#include "lib/base/strings.h"
#include "lib/config/expand.h"
#include "lib/log/clean.h"
#include "lib/log/log.h"
#include "lib/mail/logged_address.h"
#include "smtpd/reply_names.h"
#include "smtpd/session.h"

namespace postern::smtpd {

/// smtpd_reject_footer_maps and smtpd_reject_footer: the refusal with what they put behind it.
std::string Session::with_own_footer(std::string text) {
    std::string footer = config_.smtpd_reject_footer();
    if (const Lookup found = server_.reject_footer_maps().lookup(text); !found) {
        log_warning("{}", found.error().what);
    } else if (*found) {
        footer = **found;
    }
    if (footer.empty()) {
        return text;
    }
    char now[40] = "";
    const time_t seconds = std::time(nullptr);
    struct tm local {};
    ::localtime_r(&seconds, &local);
    (void)std::strftime(now, sizeof now, "%b %d %H:%M:%S", &local);
    const Subject who = subject("");
    const Result<std::string> expanded = expand(footer, ReplyNames(config_, who, {{"localtime", now}}));
    if (!expanded) {
        log_warning("smtpd_reject_footer: bad template: {}: {}", footer, expanded.error().what);
        return text;
    }
    return with_footer(text, *expanded);
}

/// smtpd_reject_filter_maps: another refusal instead of this one.
std::string Session::as_filtered(std::string text) {
    const Lookup found = server_.reject_filter_maps().lookup(text);
    if (!found) {
        log_warning("{}", found.error().what);
    } else if (*found && is_refusal(**found)) {
        text = printable(**found);
    } else if (*found) {
        log_warning("smtpd_reject_filter_maps: not a refusal: \"{}\"", **found);
    }
    return text;
}

Task<> Session::reply(std::string text) {
    if (text[0] == '4' || text[0] == '5') {
        text = server_.reject_filter_maps().empty() ? std::move(text) : as_filtered(std::move(text));
        text = server_.has_reject_footer() ? with_own_footer(std::move(text)) : std::move(text);
    }
    note_reply(text);
    client_.write(text);
    client_.write("\r\n");
    if (client_.congested()) {
        Result<void> sent = co_await client_.flush(config_.smtpd_timeout());
        (void)sent.ok();   // the next read tells
    }
}

Task<> Session::refuse(std::string text, std::optional<Trouble> trouble) {
    ++counters_.errors;
    if (trouble) {
        transcript_.happened(*trouble);
    }
    if (counters_.errors >= config_.smtpd_soft_error_limit()) {
        co_await sleep_for(config_.smtpd_error_sleep_time());
    }
    co_await reply(std::move(text));
}

std::string Session::where_from(std::string_view where) const {
    return fmt::format("{} from {}", where, info_.text());
}

/// "from=<..> to=<..> proto=ESMTP helo=<..>", as far as known.
std::string Session::envelope_text() const {
    std::string out;
    if (mail_ && !verifying_) {
        out += fmt::format(" from=<{}>", logged_address(config_, mail_->envelope.sender));
    }
    if (recipient_) {
        out += fmt::format(" to=<{}>", logged_address(config_, *recipient_));
    } else if (mail_ && mail_->envelope.recipients.size() == 1) {
        out += fmt::format(" to=<{}>", logged_address(config_, mail_->envelope.recipients[0].address));
    }
    out += fmt::format(" proto={}", esmtp_ ? "ESMTP" : "SMTP");
    if (!helo_.empty()) {
        out += fmt::format(" helo=<{}>", helo_);
    }
    return out;
}

Task<> Session::reject(std::string_view where, const Verdict& verdict) {
    co_await refuse(note_refusal(where, verdict), verdict.trouble);
}

std::string Session::note_refusal(std::string_view where, const Verdict& verdict) {
    log_info("NOQUEUE: reject: {}: {} {} {};{}", where_from(where), verdict.code, verdict.dsn, verdict.text,
             envelope_text());
    finished_ = finished_ || verdict.disconnect || verdict.code == 421 || verdict.code == 521;
    std::string answer = fmt::format("{} {} {}", verdict.code, verdict.dsn, verdict.text.substr(0, 1000));
    clean_log_text(answer.data(), answer.size());   // it names addresses, which may be UTF-8
    return answer;
}

Task<> Session::reject(std::string_view where, int code, std::string_view dsn, std::string text) {
    Verdict verdict;
    verdict.outcome = Verdict::Outcome::reject;
    verdict.code = code;
    verdict.dsn = dsn;
    verdict.text = std::move(text);
    co_await reject(where, verdict);
}

void Session::log_effects(std::string_view where, SideEffects& effects) {
    for (const auto& [action, text] : effects.log) {
        log_info("NOQUEUE: {}: {}: {};{}", action, where_from(where), text, envelope_text());
    }
    effects.log.clear();
}

}  // namespace postern::smtpd
