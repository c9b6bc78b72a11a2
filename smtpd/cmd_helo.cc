/// HELO and EHLO (RFC 5321 section 4.1.1.1): who the client says it is, and what this server can do.
#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "smtpd/session.h"

namespace postern::smtpd {

/// Syntax, limits and smtpd_helo_restrictions; answers when the client may not go on.
Task<bool> Session::hello_accepted(const Command& command, std::string_view verb) {
    if (command.argument.empty()) {
        co_await refuse(fmt::format("501 Syntax: {} hostname", verb));
        co_return false;
    }
    co_await flush_transcript();
    reset_transaction();
    helo_ = printable(command.argument, 255);
    esmtp_ = verb == "EHLO";
    if (config_.smtpd_delay_reject()) {
        co_return true;
    }
    const Verdict verdict = co_await judge(server_.lists().helo, std::string(verb), deferred_at_helo_);
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_await reject(verb, verdict);
        helo_.clear();
        co_return false;
    }
    co_return true;
}

Task<> Session::helo(const Command& command) {
    const bool accepted = co_await hello_accepted(command, "HELO");
    if (accepted) {
        co_await reply("250 " + config_.myhostname());
    }
}

Task<> Session::ehlo(const Command& command) {
    const bool accepted = co_await hello_accepted(command, "EHLO");
    if (accepted) {
        const std::string text = co_await ehlo_reply();
        note_reply(text);
        client_.write(text);
    }
}

Task<std::string> Session::ehlo_reply() {
    std::vector<std::string> lines{config_.myhostname()};
    const auto offer = [this, &lines](std::string_view keyword, std::string_view parameter = "") {
        if (!keyword_hidden(keyword)) {
            lines.push_back(parameter.empty() ? std::string(keyword) : fmt::format("{} {}", keyword, parameter));
        }
    };
    const bool tls_active = client_.tls() != nullptr;
    offer("PIPELINING");
    if (config_.message_size_limit() > 0) {
        offer("SIZE", std::to_string(config_.message_size_limit()));
    } else {
        offer("SIZE");
    }
    if (!config_.disable_vrfy_command()) {
        offer("VRFY");
    }
    offer("ETRN");
    if (server_.tls() != nullptr && !tls_active) {
        offer("STARTTLS");
    }
    Result<bool> no_sasl = server_.clients().sasl_exceptions.matches(info_.name, info_.address);
    if (config_.smtpd_sasl_auth_enable() && !(server_.auth_needs_tls() && !tls_active && !info_.local) && no_sasl && !*no_sasl &&
        !keyword_hidden("AUTH")) {
        const std::vector<std::string> mechanisms = co_await server_.sasl_mechanisms(tls_active);
        std::string names;
        for (const std::string& name : mechanisms) {
            names += (names.empty() ? "" : " ") + name;
        }
        if (!names.empty()) {
            lines.push_back("AUTH " + names);
            if (config_.broken_sasl_auth_clients()) {
                lines.push_back("AUTH=" + names);
            }
        }
    }
    Result<bool> may_verp = server_.clients().verp.matches(info_.name, info_.address);
    if (may_verp && *may_verp) {
        offer("XVERP");
    }
    Result<bool> may_xclient = server_.clients().xclient.matches(info_.name, info_.address);
    if (may_xclient && *may_xclient) {
        offer("XCLIENT", "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT");
    }
    Result<bool> may_xforward = server_.clients().xforward.matches(info_.name, info_.address);
    if (may_xforward && *may_xforward) {
        offer("XFORWARD", "NAME ADDR PORT PROTO HELO IDENT SOURCE");
    }
    offer("ENHANCEDSTATUSCODES");
    offer("8BITMIME");
    offer("DSN");
    if (config_.smtputf8_enable()) {
        offer("SMTPUTF8");
    }
    if (config_.requiretls_enable() && tls_active) {   // RFC 8689 section 2: never in the clear
        offer("REQUIRETLS");
    }
    offer("CHUNKING");
    std::string out;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        out += fmt::format("250{}{}\r\n", i + 1 < lines.size() ? '-' : ' ', lines[i]);
    }
    co_return out;
}

}  // namespace postern::smtpd
