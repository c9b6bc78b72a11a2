/// All commands, in the order in which the disconnect line counts them.
#include <array>

#include "lib/base/strings.h"
#include "smtpd/session.h"

namespace postern::smtpd {

Command split_command(std::string_view line) {
    Command out;
    out.line = line;
    const std::string_view text = trim(line);
    const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
    out.verb = to_upper(text.substr(0, end));
    out.argument = trim(text.substr(end));
    return out;
}

const Session::KnownCommand* Session::find_command(std::string_view verb) {
    static constexpr std::array<KnownCommand, 17> kCommands{{
        {"HELO", "helo", &Session::helo, false},
        {"EHLO", "ehlo", &Session::ehlo, false},
        {"STARTTLS", "starttls", &Session::starttls, false},
        {"AUTH", "auth", &Session::auth, true},
        {"MAIL", "mail", &Session::mail, true},
        {"RCPT", "rcpt", &Session::rcpt, true},
        {"DATA", "data", &Session::data, false},
        {"BDAT", "bdat", &Session::bdat, true},
        {"RSET", "rset", &Session::rset, true},
        {"NOOP", "noop", &Session::noop, false},
        {"VRFY", "vrfy", &Session::vrfy, false},
        {"EXPN", "expn", &Session::expn, false},
        {"ETRN", "etrn", &Session::etrn, true},
        {"HELP", "help", &Session::help, true},
        {"XCLIENT", "xclient", &Session::xclient, true},
        {"XFORWARD", "xforward", &Session::xforward, true},
        {"QUIT", "quit", &Session::quit, false},
    }};
    for (const KnownCommand& command : kCommands) {
        if (verb == command.verb) {
            return &command;
        }
    }
    return nullptr;
}

}  // namespace postern::smtpd
