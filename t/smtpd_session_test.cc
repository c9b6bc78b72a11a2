#include <catch2/catch.hpp>

#include <cstdlib>

#include "lib/base/escapes.h"
#include "smtpd/reply_names.h"
#include "t/smtpd_dialogue.h"

using namespace postern;
using namespace postern::smtpd;

namespace {

const std::string kMessage = "EHLO c.example\r\nMAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n";

}  // namespace

TEST_CASE("a message goes from greeting to queue", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example> SIZE=20 BODY=8BITMIME\r\n");
    dialogue.client("RCPT TO:<a@example.org>\r\n");
    dialogue.client("DATA\r\n");
    dialogue.client("Subject: x\r\n\r\n..dot\r\n.\r\n");
    dialogue.client("QUIT\r\n");
    CHECK(dialogue.codes() == "220 250 250 250 354 250 221");
    REQUIRE(dialogue.cleanup().messages.size() == 1);
    const Submitted& message = dialogue.cleanup().messages[0];
    CHECK(message.content == "Subject: x\n\n.dot\n");
    CHECK(message.begin.envelope.sender == "s@c.example");
    REQUIRE(message.begin.envelope.recipients.size() == 1);
    CHECK(message.begin.envelope.recipients[0].address == "a@example.org");
    CHECK(message.begin.envelope.client.protocol == "ESMTP");
    CHECK(message.begin.envelope.encoding == queue::kEncoding8bit);
    CHECK_FALSE(message.begin.complete_headers);
    CHECK(dialogue.log().count("4A1B: client=c.example[192.0.2.1]") == 1);
    CHECK(dialogue.log().last() ==
          "disconnect from c.example[192.0.2.1] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5");
    CHECK(dialogue.closed());
}

TEST_CASE("QUIT ends the session, whatever follows it", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("QUIT x\r\n");
    CHECK(dialogue.last_reply() == "221 2.0.0 Bye");
    CHECK(dialogue.closed());
}

TEST_CASE("EHLO offers what this server can do", "[smtpd]") {
    SmtpDialogue dialogue("message_size_limit = 1000\n");
    dialogue.client("EHLO c.example\r\n");
    for (const char* keyword : {"250-mail.example.org\r\n", "250-PIPELINING\r\n", "250-SIZE 1000\r\n", "250-ETRN\r\n", "250-8BITMIME\r\n",
                                "250-ENHANCEDSTATUSCODES\r\n", "250-DSN\r\n", "250-SMTPUTF8\r\n", "250 CHUNKING\r\n"}) {
        CHECK(dialogue.sent().find(keyword) != std::string::npos);
    }
    CHECK(dialogue.sent().find("STARTTLS") == std::string::npos);
    CHECK(dialogue.sent().find("XCLIENT") == std::string::npos);
}

TEST_CASE("EHLO keywords can be hidden", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_discard_ehlo_keywords = chunking, silent-discard\n");
    dialogue.client("EHLO c.example\r\n");
    CHECK(dialogue.sent().find("CHUNKING") == std::string::npos);
}

TEST_CASE("RCPT before MAIL is refused and the conversation goes on", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("RCPT TO:<a@example.org>\r\nNOOP\r\n");
    dialogue.client("QUIT\r\n");
    CHECK(dialogue.codes() == "220 250 503 250 221");
}

TEST_CASE("replies do not depend on how the bytes are cut", "[smtpd]") {
    const std::string script = "MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n";
    const std::string content = "x\r\n.\r\nQUIT\r\n";
    SmtpDialogue whole;
    whole.client("EHLO c.example\r\n");
    whole.client(script);
    whole.client(content);
    for (std::size_t cut = 1; cut < script.size(); ++cut) {
        CAPTURE(cut);
        SmtpDialogue pieces;
        pieces.client("EHLO c.example\r\n");
        pieces.client(script.substr(0, cut));
        pieces.client(script.substr(cut));
        pieces.client(content);
        CHECK(pieces.sent() == whole.sent());
    }
}

TEST_CASE("a client that vanishes is logged with the command it got to", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<>\r\n");
    dialogue.hang_up();
    CHECK(dialogue.log().count("lost connection after MAIL from c.example[192.0.2.1]") == 1);
    SmtpDialogue in_data;
    in_data.client("EHLO c.example\r\n");
    in_data.client("MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    in_data.client("abc\r\n");
    in_data.hang_up();
    CHECK(in_data.log().count("lost connection after DATA (4 bytes) from c.example[192.0.2.1]") == 1);
    CHECK(in_data.cleanup().messages.empty());
}

TEST_CASE("commands with bad syntax get the right code", "[smtpd]") {
    struct Case {
        const char* line;
        const char* reply;
    };
    const Case cases[] = {
        {"HELO", "501 Syntax: HELO hostname"},
        {"EHLO", "501 Syntax: EHLO hostname"},
        {"FOO", "500 5.5.2 Error: command not recognized"},
        {"", "500 5.5.2 Error: bad syntax"},
        {"MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"},
        {"MAIL TO:<a@example.org>", "501 5.5.4 Syntax: MAIL FROM:<address>"},
        {"MAIL FROM:<@>", "501 5.1.7 Bad sender address syntax"},
        {"MAIL FROM:<s@-c.example>", "501 5.1.7 Bad sender address syntax"},
        {"MAIL FROM:<-oQ/tmp@c.example>", "501 5.1.7 Bad sender address syntax"},
        {"MAIL FROM:<s@[192.0.2.300]>", "501 5.1.7 Bad sender address syntax"},
        {"MAIL FROM:<s@[192.0.2.3]>", "250 2.1.0 Ok"},
        {"MAIL FROM:<s@c.example.>", "250 2.1.0 Ok"},
        {"MAIL FROM:<s@c.example> RET=x", "501 5.5.4 Bad RET parameter syntax"},
        {"MAIL FROM:<u@192.0.2.7>", "501 5.1.7 Bad sender address syntax"},
        {"VRFY u@192.0.2.7", "501 5.1.3 Bad recipient address syntax"},
        {"MAIL FROM:<s@c.example> FOO=BAR", "555 5.5.4 Unsupported option: FOO=BAR"},
        {"MAIL FROM:<s@c.example> SIZE=x", "501 5.5.4 Bad message size syntax"},
        {"MAIL FROM:<s@c.example> SIZE=99999999999", "552 5.3.4 Message size exceeds fixed limit"},
        {"MAIL FROM:<s@c.example> ENVID=a+b", "501 5.5.4 Bad ENVID parameter syntax"},
        {"MAIL FROM:<s@c.example> REQUIRETLS", "530 5.7.10 REQUIRETLS needs a TLS session"},
        {"MAIL FROM:<s@c.example> REQUIRETLS=yes", "555 5.5.4 Unsupported option: REQUIRETLS=yes"},
        {"DATA", "503 5.5.1 Error: need RCPT command"},
        {"DATA x", "501 5.5.4 Syntax: DATA"},
        {"RSET x", "501 5.5.4 Syntax: RSET"},
        {"VRFY", "501 5.5.4 Syntax: VRFY address"},
        {"ETRN", "500 Syntax: ETRN domain"},
        {"ETRN a..b", "501 Error: invalid parameter syntax"},
        {"ETRN a.example", "459 <a.example>: service unavailable"},
        {"AUTH PLAIN", "503 5.5.1 Error: authentication not enabled"},
        {"STARTTLS", "502 5.5.1 Error: command not implemented"},
        {"EXPN staff", "502 5.5.1 EXPN command is not available"},
        {"XCLIENT NAME=x", "550 5.7.0 Error: insufficient authorization"},
        {"XFORWARD NAME=x", "550 5.7.0 Error: insufficient authorization"},
    };
    for (const Case& one : cases) {
        CAPTURE(one.line);
        SmtpDialogue dialogue;
        dialogue.client("EHLO c.example\r\n");
        dialogue.client(std::string(one.line) + "\r\n");
        CHECK(dialogue.last_reply() == one.reply);
        dialogue.client("NOOP\r\n");
        CHECK(dialogue.last_reply() == "250 2.0.0 Ok");
    }
}

TEST_CASE("RCPT is checked for syntax, relaying and known users", "[smtpd]") {
    struct Case {
        const char* argument;
        const char* reply;
    };
    const Case cases[] = {
        {"<a@example.org>", "250 2.1.5 Ok"},
        {"<A@EXAMPLE.ORG>", "250 2.1.5 Ok"},
        {"<postmaster>", "250 2.1.5 Ok"},
        {"<a@-example.org>", "501 5.1.3 Bad recipient address syntax"},
        {"<a@[192.0.2.300]>", "501 5.1.3 Bad recipient address syntax"},
        {"<nobody@example.org>",
         "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown in local recipient table"},
        {"<a@elsewhere.example>", "454 4.7.1 <a@elsewhere.example>: Relay access denied"},
        {"<a%elsewhere.example@example.org>", "454 4.7.1 <a%elsewhere.example@example.org>: Relay access denied"},
        {"<>", "501 5.1.3 Bad recipient address syntax"},
        {"<a@example.org> NOTIFY=NEVER,SUCCESS", "501 5.5.4 Error: Bad NOTIFY parameter syntax"},
        {"<a@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@example.org", "250 2.1.5 Ok"},
        {"<a@example.org> ORCPT=nonsense", "501 5.5.4 Error: Bad ORCPT parameter syntax"},
    };
    for (const Case& one : cases) {
        CAPTURE(one.argument);
        SmtpDialogue dialogue;
        dialogue.client("EHLO c.example\r\n");
        dialogue.client("MAIL FROM:<s@c.example>\r\n");
        dialogue.client(std::string("RCPT TO:") + one.argument + "\r\n");
        CHECK(dialogue.last_reply() == one.reply);
    }
}

TEST_CASE("a rejected recipient is logged as Postfix does", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<x@elsewhere.example>\r\n");
    CHECK(dialogue.log().last() ==
          "NOQUEUE: reject: RCPT from c.example[192.0.2.1]: 454 4.7.1 <x@elsewhere.example>: Relay access denied; "
          "from=<s@c.example> to=<x@elsewhere.example> proto=ESMTP helo=<c.example>");
}

TEST_CASE("clients in mynetworks may relay", "[smtpd]") {
    SmtpDialogue dialogue("", "10.1.2.3");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<x@elsewhere.example>\r\n");
    CHECK(dialogue.last_reply() == "250 2.1.5 Ok");
}

TEST_CASE("too many errors, too long lines and web browsers end the session", "[smtpd]") {
    SmtpDialogue errors("smtpd_hard_error_limit = 3\n");
    errors.client("EHLO c.example\r\n");
    errors.client("FOO\r\nFOO\r\nFOO\r\nNOOP\r\n");
    CHECK(errors.codes() == "220 250 500 500 500 421");
    CHECK(errors.log().count("too many errors after UNKNOWN from c.example[192.0.2.1]") == 1);
    SmtpDialogue line;
    line.client(std::string(5000, 'x') + "\r\nNOOP\r\n");
    CHECK(line.codes() == "220 500 250");
    SmtpDialogue browser;
    browser.client("GET / HTTP/1.0\r\n");
    CHECK(browser.closed());
    CHECK(browser.log().count("non-SMTP command from c.example[192.0.2.1]: GET / HTTP/1.0") == 1);
}

TEST_CASE("a client that does not wait for EHLO's reply is refused", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\nMAIL FROM:<s@c.example>\r\n");
    CHECK(dialogue.last_reply() == "554 5.5.0 Error: SMTP protocol synchronization");
    CHECK(dialogue.closed());
    CHECK(dialogue.log().count("improper command pipelining after EHLO from c.example[192.0.2.1]") == 1);
}

TEST_CASE("commands whose answer must be waited for end the session, others do not", "[smtpd]") {
    for (const char* last : {"NOOP", "VRFY a@example.org", "DATA", "HELO c.example"}) {   // as Postfix has it
        CAPTURE(last);
        SmtpDialogue dialogue;
        dialogue.client("EHLO c.example\r\n");
        dialogue.client(std::string(last) + "\r\nRSET\r\n");
        CHECK(dialogue.codes() == "220 250 554");
        CHECK(dialogue.closed());
    }
    for (const char* any : {"RSET", "FOO", "HELP", "ETRN x.example", "XCLIENT ADDR=203.0.113.5", "AUTH", "MAIL FROM:<s@c.example>"}) {
        CAPTURE(any);
        SmtpDialogue dialogue;
        dialogue.client("EHLO c.example\r\n");
        dialogue.client(std::string(any) + "\r\nNOOP\r\n");
        CHECK(dialogue.codes().size() == 15);
        CHECK(dialogue.codes().substr(11) == " 250");
        CHECK_FALSE(dialogue.closed());
    }
    SmtpDialogue old;   // who has not said EHLO has not been told of PIPELINING
    old.client("HELO c.example\r\n");
    old.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\n");
    CHECK(old.codes() == "220 250 554");
    CHECK(old.log().count("improper command pipelining after MAIL from c.example[192.0.2.1]: RCPT TO:<a@example.org>") == 1);
    SmtpDialogue quits;
    quits.client("HELO c.example\r\n");
    quits.client("QUIT\r\nNOOP\r\n");
    CHECK(quits.codes() == "220 250 221");
}

TEST_CASE("restrictions decide in their order", "[smtpd]") {
    SmtpDialogue dialogue(
        "smtpd_sender_restrictions = check_sender_access inline:{ { bad@c.example = REJECT go away }, { wait@c.example = 450 4.7.1 later } }\n"
        "smtpd_helo_restrictions = reject_non_fqdn_helo_hostname\n"
        "smtpd_recipient_restrictions = warn_if_reject reject_non_fqdn_sender, check_recipient_access inline:{b@example.org=HOLD}\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<bad@c.example>\r\nRCPT TO:<a@example.org>\r\n");
    CHECK(dialogue.last_reply() == "554 5.7.1 <bad@c.example>: Sender address rejected: go away");
    dialogue.client("RSET\r\nMAIL FROM:<wait@c.example>\r\nRCPT TO:<a@example.org>\r\n");
    CHECK(dialogue.last_reply() == "450 4.7.1 <wait@c.example>: Sender address rejected: later");
    dialogue.client("RSET\r\nMAIL FROM:<ok@c.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    dialogue.client("x\r\n.\r\n");
    REQUIRE(dialogue.cleanup().messages.size() == 1);
    CHECK(dialogue.cleanup().messages[0].begin.envelope.hold);
    dialogue.client("EHLO short\r\n");
    dialogue.client("MAIL FROM:<ok@c.example>\r\nRCPT TO:<a@example.org>\r\n");
    CHECK(dialogue.last_reply() == "504 5.5.2 <short>: Helo command rejected: need fully-qualified hostname");
}

TEST_CASE("wrong restrictions are refused at start with the parameter's name", "[smtpd]") {
    const auto problem = [](const std::string& settings) {
        try {
            SmtpDialogue dialogue(settings);
        } catch (const std::runtime_error& error) {
            return std::string(error.what());
        }
        return std::string("no error");
    };
    CHECK(problem("smtpd_helo_restrictions = reject_nonsense\n").find("parameter smtpd_helo_restrictions: unknown restriction \"reject_nonsense\"") == 0);
    CHECK(problem("smtpd_relay_restrictions = permit_mynetworks\n").find("open mail relay") != std::string::npos);
    CHECK(problem("smtpd_client_restrictions = check_client_access\n").find("needs an argument") != std::string::npos);
}

TEST_CASE("VRFY answers as RCPT would, and can be off", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("VRFY a@example.org\r\n");
    CHECK(dialogue.last_reply() == "252 2.0.0 a@example.org");
    dialogue.client("VRFY nobody@example.org\r\n");
    CHECK(dialogue.last_reply().substr(0, 9) == "550 5.1.1");
    SmtpDialogue off("disable_vrfy_command = yes\n");
    off.client("EHLO c.example\r\n");
    off.client("VRFY a@example.org\r\n");
    CHECK(off.last_reply() == "502 5.5.1 VRFY command is disabled");
}

TEST_CASE("XCLIENT and XFORWARD speak for another client", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_authorized_xclient_hosts = 192.0.2.1\nsmtpd_authorized_xforward_hosts = 192.0.2.1, 198.51.100.7\n");
    dialogue.client("EHLO c.example\r\n");
    CHECK(dialogue.sent().find("250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n") != std::string::npos);
    dialogue.client("XFORWARD NAME=far.example ADDR=203.0.113.5 IDENT=ABC\r\n");
    CHECK(dialogue.last_reply() == "250 2.0.0 Ok");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    dialogue.client("x\r\n.\r\n");
    REQUIRE(dialogue.cleanup().messages.size() == 1);
    CHECK(dialogue.cleanup().messages[0].begin.envelope.client.address == "203.0.113.5");
    CHECK(dialogue.cleanup().messages[0].begin.envelope.client.port == "unknown");   // as all of the client that was not told
    CHECK(dialogue.cleanup().messages[0].begin.envelope.client.protocol == "unknown");
    CHECK(dialogue.cleanup().messages[0].begin.envelope.client.helo.empty());
    REQUIRE(dialogue.cleanup().messages[0].begin.peer);
    CHECK(dialogue.cleanup().messages[0].begin.peer->name == "c.example");
    CHECK(dialogue.cleanup().messages[0].begin.peer->address == "192.0.2.1");
    CHECK(dialogue.cleanup().messages[0].begin.peer->protocol == "ESMTP");
    CHECK(dialogue.log().count(": client=c.example[192.0.2.1], orig_queue_id=ABC, orig_client=far.example[203.0.113.5]") == 1);
    dialogue.client("XCLIENT NAME=other.example ADDR=198.51.100.7\r\n");
    CHECK(dialogue.last_reply() == "220 mail.example.org ESMTP Postern");
    dialogue.client("EHLO other\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<x@elsewhere.example>\r\n");
    CHECK(dialogue.log().last().find("reject: RCPT from other.example[198.51.100.7]") != std::string::npos);
    dialogue.client("RSET\r\nXFORWARD FOO=x\r\n");
    CHECK(dialogue.last_reply() == "501 5.5.4 Bad XFORWARD attribute: FOO=x");
}

TEST_CASE("XFORWARD says where a message came from, and whether as local", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_authorized_xforward_hosts = 192.0.2.1\n");
    dialogue.client("EHLO c.example\r\n");
    const auto send = [&dialogue](const std::string& attributes) -> const queue::Begin& {
        dialogue.client("XFORWARD " + attributes + "\r\nMAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
        dialogue.client("x\r\n.\r\n");
        return dialogue.cleanup().messages.back().begin;
    };
    CHECK(send("ADDR=IPV6:2001:db8::1 NAME=[UNAVAILABLE]").envelope.client.name == "unknown");
    CHECK(dialogue.log().count(", orig_client=unknown[2001:db8::1]") == 1);
    const bool before = dialogue.cleanup().messages.back().begin.envelope.rewrite_local;
    CHECK_FALSE(send("SOURCE=REMOTE").envelope.rewrite_local);
    CHECK_FALSE(dialogue.cleanup().messages.back().begin.peer);
    CHECK(send("SOURCE=LOCAL").envelope.rewrite_local);
    CHECK(send("IDENT=XYZ").envelope.rewrite_local == before);
    CHECK_FALSE(dialogue.cleanup().messages.back().begin.peer);
    CHECK(dialogue.log().count(": client=c.example[192.0.2.1], orig_queue_id=XYZ") == 1);
}

TEST_CASE("what XFORWARD and AUTH= say is about one message", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_authorized_xforward_hosts = 192.0.2.1\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("XFORWARD NAME=far.example ADDR=203.0.113.5 IDENT=ABC\r\nMAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    dialogue.client("x\r\n.\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    dialogue.client("x\r\n.\r\n");
    REQUIRE(dialogue.cleanup().messages.size() == 2);
    CHECK(dialogue.cleanup().messages[0].begin.envelope.client.name == "far.example");
    CHECK(dialogue.cleanup().messages[1].begin.envelope.client.name == "c.example");
    CHECK(dialogue.cleanup().messages[1].begin.envelope.client.ident.empty());
}

TEST_CASE("ORCPT has no control characters, with SMTPUTF8 either", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example> SMTPUTF8\r\n");
    for (const char* bad : {"utf-8;a\rb@example.org", "utf-8;a\x01@example.org", "rf\rc822;a@example.org", "r(c;a@example.org"}) {
        dialogue.client("RCPT TO:<a@example.org> ORCPT=" + std::string(bad) + "\r\n");
        CHECK(dialogue.last_reply() == "501 5.5.4 Error: Bad ORCPT parameter syntax");
    }
    dialogue.client("RCPT TO:<a@example.org> ORCPT=utf-8;\xc3\xbc@example.org\r\n");
    CHECK(dialogue.last_reply() == "250 2.1.5 Ok");
}

TEST_CASE("lines that are too long count as errors like any other", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_hard_error_limit = 3\n");
    const std::string line = std::string(5000, 'x') + "\r\n";
    dialogue.client(line + line + line);
    CHECK(dialogue.codes() == "220 500 500 500 421");
}

TEST_CASE("rates and recipient numbers are limited", "[smtpd]") {
    SmtpDialogue rate("smtpd_client_message_rate_limit = 1\n");
    rate.client("EHLO c.example\r\n");
    rate.client("MAIL FROM:<s@c.example>\r\nRSET\r\nMAIL FROM:<s@c.example>\r\n");
    CHECK(rate.codes() == "220 250 250 250 450");
    CHECK(rate.log().count("Message delivery request rate limit exceeded: 2 from c.example[192.0.2.1] for service smtp") == 1);
    SmtpDialogue many("smtpd_recipient_limit = 2\n");
    many.client("EHLO c.example\r\n");
    many.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<a@example.org>\r\n");
    CHECK(many.last_reply() == "452 4.5.3 Error: too many recipients");
}

TEST_CASE("strict_smtputf8 wants unicode addresses declared", "[smtpd]") {
    const char* const kReply = "553 5.6.7 Must declare SMTPUTF8 to send unicode address";
    SmtpDialogue strict("strict_smtputf8 = yes\nlocal_recipient_maps =\n");
    strict.client("EHLO c.example\r\n");
    strict.client("MAIL FROM:<s\xc3\xa9@c.example>\r\n");
    CHECK(strict.last_reply() == kReply);
    strict.client("VRFY \xc3\xbc@example.org\r\n");
    CHECK(strict.last_reply() == kReply);
    strict.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<\xc3\xbc@example.org>\r\n");
    CHECK(strict.last_reply() == kReply);
    SmtpDialogue loose("local_recipient_maps =\n");
    loose.client("EHLO c.example\r\n");
    loose.client("MAIL FROM:<s\xc3\xa9@c.example>\r\nRCPT TO:<\xc3\xbc@example.org>\r\nVRFY \xc3\xbc@example.org\r\n");
    CHECK(loose.codes() == "220 250 250 250 252");
}

TEST_CASE("recipients over the limit count as errors when there are too many of them", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_recipient_limit = 1\nsmtpd_recipient_overshoot_limit = 2\nsmtpd_hard_error_limit = 2\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\n");
    for (int i = 0; i < 4; ++i) {
        dialogue.client("RCPT TO:<b@example.org>\r\n");
    }
    CHECK(dialogue.codes() == "220 250 250 250 452 452 452 452 421");
}

TEST_CASE("what is said to clients in debug_peer_list, and by them, is logged, passwords excepted", "[smtpd]") {
    SmtpDialogue dialogue("debug_peer_list = 192.0.2.0/24\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("AUTH PLAIN c2VjcmV0\r\n");
    CHECK(dialogue.log().count("< c.example[192.0.2.1]: EHLO c.example") == 1);
    CHECK(dialogue.log().count("> c.example[192.0.2.1]: 220 mail.example.org") == 1);
    CHECK(dialogue.log().count("< c.example[192.0.2.1]: AUTH PLAIN (not shown)") == 1);
    CHECK(dialogue.log().count("c2VjcmV0") == 0);
    SmtpDialogue other("debug_peer_list = 192.0.2.0/24\n", "198.51.100.1");
    other.client("EHLO c.example\r\n");
    CHECK(other.log().count("EHLO") == 0);
}

TEST_CASE("a footer is put behind every line's code, or into the last line", "[smtpd]") {
    CHECK(with_footer("550 5.1.1 no", "a\\nb") == "550-5.1.1 no\r\n550-5.1.1 a\r\n550 5.1.1 b");
    CHECK(with_footer("550 no", "a") == "550-no\r\n550 a");
    CHECK(with_footer("550 5.1.1 no", "\\c, a\\nb\\n") == "550-5.1.1 no, a\r\n550 5.1.1 b");
    CHECK(with_footer("550-5.1.1 one\r\n550 5.1.1 two", "a") == "550-5.1.1 one\r\n550-5.1.1 two\r\n550 5.1.1 a");
    CHECK(with_footer("421 4.7.0 x", "a\rb") == "421-4.7.0 x\r\n421 4.7.0 a?b");
    CHECK(with_footer("500 5.5.2", "a") == "500-5.5.2\r\n500 a");
}

TEST_CASE("what a client says about itself is censored in replies", "[smtpd]") {
    CHECK(without_escapes("a\\t\\40\\\\\\101b\\") == "a\t \\Ab\\");
    CHECK(without_escapes("\\7\\0701\\x") == "\a" "81x");
    SmtpDialogue usual("smtpd_reject_footer = \\c from $helo_name\n");
    usual.client("EHLO a-b.example\r\n");
    usual.client("NONSENSE\r\n");
    CHECK(usual.sent().ends_with("500 5.5.2 Error: command not recognized from a-b.example\r\n"));
    SmtpDialogue strict("smtpd_reject_footer = \\c from $helo_name\nsmtpd_expansion_filter = abcdexmpl\\56\n");
    strict.client("EHLO a-b.example\r\n");
    strict.client("NONSENSE\r\n");
    CHECK(strict.sent().ends_with("500 5.5.2 Error: command not recognized from a_b.example\r\n"));
}

TEST_CASE("a refusal may be replaced by another refusal, by nothing else", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_reject_filter_maps = inline:{{500 5.5.2 Error: command not recognized=454 4.7.1 later},"
                          "{503 5.5.1 Error: need MAIL command=250 fine}}\nsmtpd_reject_footer = \\c!\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("NONSENSE\r\nRSET\r\nRCPT TO:<a@example.org>\r\n");
    CHECK(dialogue.sent().find("\r\n454 4.7.1 later!\r\n") != std::string::npos);
    CHECK(dialogue.sent().ends_with("503 5.5.1 Error: need MAIL command!\r\n"));
    CHECK(dialogue.log().count("smtpd_reject_filter_maps: not a refusal: \"250 fine\"") > 0);
    CHECK(is_refusal("550 5.1.1 no"));
    CHECK_FALSE(is_refusal("550 "));
    CHECK_FALSE(is_refusal("550-x"));
    CHECK_FALSE(is_refusal("550 x\r\n250 y"));
    CHECK_FALSE(is_refusal("5x0 y"));
}

TEST_CASE("SMTPUTF8 addresses pass when declared", "[smtpd]") {
    SmtpDialogue dialogue("local_recipient_maps =\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s\xc3\xa9@c.example> SMTPUTF8\r\nRCPT TO:<\xc3\xbc@example.org>\r\nDATA\r\n");
    dialogue.client("x\r\n.\r\n");
    REQUIRE(dialogue.cleanup().messages.size() == 1);
    CHECK(dialogue.cleanup().messages[0].begin.envelope.smtputf8);
    CHECK(dialogue.cleanup().messages[0].begin.envelope.client.protocol == "UTF8SMTP");
}

TEST_CASE("where TLS is required passwords wait for it, and without a certificate nothing starts", "[smtpd]") {
    char name[] = "/tmp/smtpd-test-XXXXXX";
    const std::string directory = ::mkdtemp(name);
    const std::string pem = directory + "/cert.pem";
    const std::string command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mail.example.org "
                                "-keyout " + pem + ".key -out " + pem + ".crt >/dev/null 2>&1 && cat " + pem + ".key " + pem + ".crt > " + pem;
    REQUIRE(std::system(command.c_str()) == 0);
    SmtpDialogue dialogue("smtpd_tls_security_level = encrypt\nsmtpd_sasl_auth_enable = yes\nsmtpd_tls_chain_files = " + pem + "\n");
    dialogue.client("EHLO c.example\r\n");
    CHECK(dialogue.sent().find("250-STARTTLS\r\n") != std::string::npos);
    dialogue.client("AUTH PLAIN AGEAYg==\r\n");
    CHECK(dialogue.last_reply() == "538 5.7.11 Encryption required for requested authentication mechanism");
    CHECK(std::system(("rm -rf " + directory).c_str()) == 0);
    CHECK_THROWS_WITH(SmtpDialogue("smtpd_tls_security_level = encrypt\n"), Catch::Contains("smtpd_tls_security_level"));
}

TEST_CASE("a word of smtpd_sasl_security_options that is not understood is an error", "[smtpd]") {
    SmtpDialogue any_case("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_security_options = NoAnonymous, noplaintext\tmutual_auth\n");
    SmtpDialogue not_used("smtpd_sasl_security_options = noanonymus\n");
    CHECK_THROWS_WITH(SmtpDialogue("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_security_options = noanonymus\n"),
                      Catch::Contains("parameter smtpd_sasl_security_options: unknown word \"noanonymus\""));
    CHECK_THROWS_WITH(SmtpDialogue("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_tls_security_options = no-anonymous\n"),
                      Catch::Contains("parameter smtpd_sasl_tls_security_options: unknown word"));
}

TEST_CASE("clients that are not offered AUTH do not get it", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_exceptions_networks = 192.0.2.0/24\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("AUTH PLAIN AGEAYg==\r\n");
    CHECK(dialogue.last_reply() == "503 5.5.1 Error: authentication not enabled");
}
