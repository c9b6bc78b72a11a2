/// MAIL FROM (RFC 5321 section 4.1.1.2) with SIZE (RFC 1870), BODY (6152), RET and ENVID (3461), SMTPUTF8 (6531) and
/// AUTH (4954).
#include <fmt/format.h>

#include <chrono>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/verp.h"
#include "lib/mail/xtext.h"
#include "smtpd/session.h"

namespace postern::smtpd {

namespace {

std::int64_t now_usec() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

/// TLS and authentication that the settings demand before mail is talked about; answers when they are missing.
Task<bool> Session::secure(std::string_view where) {
    if (server_.tls_level() == TlsLevel::encrypt && client_.tls() == nullptr && !info_.local) {
        co_await reject(where, 530, "5.7.0", "Must issue a STARTTLS command first");
        co_return false;
    }
    if (helo_.empty() && config_.smtpd_helo_required()) {
        co_await refuse("503 5.5.1 Error: send HELO/EHLO first");
        co_return false;
    }
    co_return true;
}

/// Whether what follows the last "@" of a rewritten address can be a domain (RFC 5321 section 4.1.2); mail from or to
/// another would only be returned later.  With resolve_numeric_domain an address needs no brackets.  Nor may it begin like a
/// command's option, unless allow_min_user.
bool Session::is_usable_address(std::string_view address) const {
    if (address.starts_with('-') && !config_.allow_min_user()) {
        return false;
    }
    const std::size_t at = address.rfind('@');
    std::string_view domain = at == std::string_view::npos ? std::string_view() : address.substr(at + 1);
    if (domain.ends_with('.')) {
        domain.remove_suffix(1);
    }
    return domain.empty() || valid_mail_domain(domain, true) || (config_.resolve_numeric_domain() && valid_ip_address(domain));
}

Task<> Session::mail(const Command& command) {
    const bool is_secure = co_await secure("MAIL");
    if (!is_secure) {
        co_return;
    }
    if (mail_) {
        co_return co_await refuse("503 5.5.1 Error: nested MAIL command");
    }
    if (!starts_with_ignoring_case(command.argument, "FROM:")) {
        co_return co_await refuse("501 5.5.4 Syntax: MAIL FROM:<address>");
    }
    const bool too_many = co_await over_limit(ClientEvent::message);
    if (too_many) {
        co_return;
    }
    const PathOptions options{config_.strict_rfc821_envelopes(), true};
    Result<SmtpPath> path = parse_path(std::string_view(command.argument).substr(5), options);
    if (!path) {
        co_return co_await refuse("501 5.1.7 Bad sender address syntax");
    }
    Transaction transaction;
    transaction.envelope.arrival_usec = now_usec();
    transaction.envelope.sender = path->address.empty()
                                      ? std::string()
                                      : server_.router().rewrite_address(path->address.internal(), RewriteContext::local);
    if (!is_usable_address(transaction.envelope.sender)) {
        co_return co_await refuse("501 5.1.7 Bad sender address syntax");
    }
    transaction.instance = fmt::format("{:x}.{:x}", transaction.envelope.arrival_usec,
                                       reinterpret_cast<std::uintptr_t>(this) >> 4 & 0xffffff);
    mail_ = std::move(transaction);
    const bool parameters_fine = co_await mail_parameters(path->parameters);
    if (!parameters_fine) {
        reset_transaction();
        co_return;
    }
    if (path->utf8 && !mail_->envelope.smtputf8 && config_.strict_smtputf8()) {
        co_await refuse("553 5.6.7 Must declare SMTPUTF8 to send unicode address");
        reset_transaction();
        co_return;
    }
    if (config_.smtpd_delay_reject()) {
        co_return co_await reply("250 2.1.0 Ok");
    }
    Verdict verdict = co_await judge(server_.lists().sender, "MAIL", deferred_at_mail_);
    if (verdict.outcome != Verdict::Outcome::reject) {
        verdict = judge_unlisted_sender(subject("MAIL"));
    }
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_await reject("MAIL", verdict);
        reset_transaction();
        co_return;
    }
    co_await reply("250 2.1.0 Ok");
}

/// XVERP, from clients that may (VERP_README).  Empty, or what is wrong; "Unsupported option: " wants the word behind it.
std::string Session::take_verp(const std::string& delimiters) {
    const Result<bool> allowed = server_.clients().verp.matches(info_.name, info_.address);
    if (!allowed || !*allowed) {
        return "555 5.5.4 Unsupported option: ";
    }
    if (!valid_verp_delimiters(delimiters, config_.verp_delimiter_filter())) {
        return "501 5.5.4 Error: XVERP needs two characters from " + printable(config_.verp_delimiter_filter());
    }
    if (mail_->envelope.sender.empty()) {
        return "503 5.5.4 Error: XVERP requires non-null sender";
    }
    mail_->envelope.verp_delimiters = delimiters;
    return "";
}

/// Answers when a parameter is not acceptable.
Task<bool> Session::mail_parameters(std::string_view text) {
    queue::Envelope& envelope = mail_->envelope;
    for (const std::string& word : split(text, " \t")) {
        const std::size_t equals = word.find('=');
        const std::string name = to_upper(word.substr(0, equals));
        const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
        std::string problem;
        if (name == "SIZE") {
            const auto size = parse_number(value);
            if (!size) {
                problem = "501 5.5.4 Bad message size syntax";
            } else if (config_.message_size_limit() > 0 && *size > static_cast<std::uint64_t>(config_.message_size_limit())) {
                co_await reject("MAIL", 552, "5.3.4", "Message size exceeds fixed limit");
                co_return false;
            } else {
                mail_->declared_size = *size;
            }
        } else if (name == "BODY" && equals_ignoring_case(value, "8BITMIME")) {
            envelope.encoding = queue::kEncoding8bit;
        } else if (name == "BODY" && equals_ignoring_case(value, "7BIT")) {
            envelope.encoding = queue::kEncoding7bit;
        } else if (name == "SMTPUTF8" && config_.smtputf8_enable() && equals == std::string::npos) {
            envelope.smtputf8 = true;
        } else if (name == "REQUIRETLS" && config_.requiretls_enable() && equals == std::string::npos) {
            if (client_.tls() == nullptr) {
                co_await reject("MAIL", 530, "5.7.10", "REQUIRETLS needs a TLS session");
                co_return false;
            }
            envelope.requiretls = true;
        } else if (name == "RET") {   // RFC 3461 section 4.3: FULL or HDRS, once
            const bool good = equals_ignoring_case(value, "FULL") || equals_ignoring_case(value, "HDRS");
            problem = !good || envelope.dsn_ret != queue::kRetNone ? "501 5.5.4 Bad RET parameter syntax" : "";
            envelope.dsn_ret = equals_ignoring_case(value, "FULL") ? queue::kRetFull : queue::kRetHeaders;
        } else if (name == "ENVID") {
            // RFC 3461 section 4.4: at most 100 characters of xtext, one ENVID.
            const bool good = !value.empty() && value.size() <= 100 && envelope.dsn_envid.empty() && valid_xtext(value);
            problem = good ? "" : "501 5.5.4 Bad ENVID parameter syntax";
            envelope.dsn_envid = value;
        } else if (name == "XVERP") {
            problem = take_verp(equals == std::string::npos ? config_.default_verp_delimiters() : value);
        } else if (name == "AUTH") {
            problem = value.empty() ? "501 5.5.4 Bad AUTH parameter syntax" : "";
            if (sasl_.authenticated()) {
                sasl_.sender = value == "<>" ? std::string() : xtext_decode(value).value_or("");
            }
        } else {
            problem = "555 5.5.4 Unsupported option: ";
        }
        if (!problem.empty()) {
            if (problem.back() == ' ') {
                problem += printable(word, 100);
            }
            co_await refuse(std::move(problem));
            co_return false;
        }
    }
    co_return true;
}

}  // namespace postern::smtpd
