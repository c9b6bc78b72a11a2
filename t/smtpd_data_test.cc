/// DATA and BDAT: how content is taken, and when it is not.
#include <catch2/catch.hpp>

#include "t/smtpd_dialogue.h"

using namespace postern;
using namespace postern::smtpd;

TEST_CASE("a message over the limit is read to its end and refused", "[smtpd]") {
    SmtpDialogue dialogue("message_size_limit = 100\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    dialogue.client(std::string(90, 'x') + "\r\n" + std::string(90, 'y') + "\r\n.\r\n");
    CHECK(dialogue.last_reply() == "552 5.3.4 Error: message file too big");
    dialogue.client("MAIL FROM:<s@c.example>\r\n");
    CHECK(dialogue.last_reply() == "250 2.1.0 Ok");
    CHECK(dialogue.cleanup().messages.empty());
}

TEST_CASE("cleanup's refusal becomes the reply", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.cleanup().answer = Receipt{false, "", 452, "4.3.1", "Error: queue file write error"};
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    dialogue.client("x\r\n.\r\n");
    CHECK(dialogue.last_reply() == "452 4.3.1 Error: queue file write error");
}

TEST_CASE("bare newlines are refused from strangers and taken from trusted clients", "[smtpd]") {
    SmtpDialogue stranger;
    stranger.client("EHLO c.example\r\n");
    stranger.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    stranger.client("x\n.\nMAIL FROM:<smuggled@c.example>\r\n.\r\n");
    CHECK(stranger.last_reply() == "550 5.5.2 mail.example.org Error: bare <LF> received");
    CHECK(stranger.cleanup().messages.empty());
    CHECK(stranger.log().count("NOQUEUE: reject: END-OF-MESSAGE from c.example[192.0.2.1]: bare <LF> received; from=<s@c.example> "
                               "to=<a@example.org> proto=ESMTP helo=<c.example>") == 1);
    stranger.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");   // nothing was left in between
    stranger.client("x\r\n.\r\n");
    CHECK(stranger.codes() == "220 250 250 250 354 550 250 250 354 250");
    CHECK(stranger.cleanup().messages.size() == 1);
    SmtpDialogue command;
    command.client("EHLO c.example\n");
    CHECK(command.last_reply() == "550 5.5.2 mail.example.org Error: bare <LF> received");
    CHECK(command.closed());
    CHECK(command.log().count("NOQUEUE: reject: CONNECT from c.example[192.0.2.1]: bare <LF> received; proto=SMTP") == 1);
    SmtpDialogue trusted("", "10.1.2.3");
    trusted.client("EHLO c.example\n");
    trusted.client("MAIL FROM:<s@c.example>\nRCPT TO:<a@example.org>\nDATA\n");
    trusted.client("x\n.\n");
    CHECK(trusted.codes() == "220 250 250 250 354 250");
    SmtpDialogue normal("smtpd_forbid_bare_newline = normalize\n");
    normal.client("EHLO c.example\r\n");
    normal.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n");
    normal.client("x\n.\ny\r\n.\r\n");
    REQUIRE(normal.cleanup().messages.size() == 1);
    CHECK(normal.cleanup().messages[0].content == "x\n\ny\n");
}

TEST_CASE("bare newlines in chunks are refused with the chunk that has them", "[smtpd]") {
    const std::string envelope = "MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\n";
    const std::string refusal = "550 5.5.2 mail.example.org Error: bare <LF> received";
    SmtpDialogue early;
    early.client("EHLO c.example\r\n");
    early.client(envelope + "BDAT 2\r\nx\n");
    CHECK(early.last_reply() == refusal);
    early.client("BDAT 3\r\nd\r\n");
    CHECK(early.last_reply() == "551 5.0.0 Discarded 3 bytes after earlier error");
    early.client("BDAT 3 LAST\r\nd\r\n");
    CHECK(early.last_reply() == "551 5.0.0 Discarded 3 bytes after earlier error");
    CHECK(early.cleanup().messages.empty());
    CHECK(early.log().count("NOQUEUE: reject: BDAT content from c.example[192.0.2.1]: bare <LF> received; from=<s@c.example>") == 1);
    CHECK(early.log().count("reject:") == 1);
    early.client(envelope + "BDAT 3 LAST\r\nd\r\n");
    CHECK(early.last_reply() == "250 2.0.0 Ok: queued as 4A1B");
    SmtpDialogue late;
    late.client("EHLO c.example\r\n");
    late.client(envelope + "BDAT 2\r\nx\rBDAT 4 LAST\r\n\ny\nz");   // the first LF has its CR in the chunk before
    CHECK(late.last_reply() == refusal);
    CHECK(late.log().count("NOQUEUE: reject: END-OF-MESSAGE from c.example[192.0.2.1]: bare <LF> received;") == 1);
    CHECK(late.log().count("reject:") == 1);
    CHECK(late.cleanup().messages.empty());
    SmtpDialogue noted("smtpd_forbid_bare_newline = note\n");
    noted.client("EHLO c.example\r\n");
    noted.client(envelope + "BDAT 2\r\nx\nBDAT 3 LAST\r\ny\r\n");
    CHECK(noted.log().count("NOQUEUE: info: END-OF-MESSAGE from c.example[192.0.2.1]: bare <LF> received;") == 1);
    SmtpDialogue normal("smtpd_forbid_bare_newline = normalize\n");
    normal.client("EHLO c.example\r\n");
    normal.client(envelope + "BDAT 2\r\nx\nBDAT 3 LAST\r\ny\r\n");
    CHECK(normal.log().count("bare <LF>") == 0);
    for (SmtpDialogue* taken : {&noted, &normal}) {
        REQUIRE(taken->cleanup().messages.size() == 1);
        CHECK(taken->cleanup().messages[0].content == "x\ny\n");
    }
}

TEST_CASE("BDAT takes chunks as they are", "[smtpd]") {
    SmtpDialogue dialogue;
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\n");
    dialogue.client("BDAT 7\r\na\r\n.\r\nx");
    CHECK(dialogue.last_reply() == "250 2.0.0 Ok: 7 bytes");
    dialogue.client("BDAT 3 LAST\r\n\r\ny");
    CHECK(dialogue.last_reply() == "250 2.0.0 Ok: queued as 4A1B");
    REQUIRE(dialogue.cleanup().messages.size() == 1);
    CHECK(dialogue.cleanup().messages[0].content == "a\n.\nx\ny");
}

TEST_CASE("BDAT errors keep the conversation in step", "[smtpd]") {
    SmtpDialogue early;
    early.client("EHLO c.example\r\n");
    early.client("BDAT 6 LAST\r\nabc\r\n\nNOOP\r\n");
    CHECK(early.codes() == "220 250 503 250");
    SmtpDialogue zero;
    zero.client("EHLO c.example\r\n");
    zero.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nBDAT 3\r\nx\r\nBDAT 0 LAST\r\n");
    CHECK(zero.last_reply() == "250 2.0.0 Ok: queued as 4A1B");
    SmtpDialogue mixed;
    mixed.client("EHLO c.example\r\n");
    mixed.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nBDAT 3\r\nx\r\nDATA\r\n");
    CHECK(mixed.last_reply() == "503 5.5.1 Error: DATA after BDAT");
    SmtpDialogue nonsense;
    nonsense.client("EHLO c.example\r\n");
    nonsense.client("BDAT many\r\n");
    CHECK(nonsense.last_reply() == "501 5.5.4 Syntax: BDAT count [LAST]");
    CHECK(nonsense.closed());
}

TEST_CASE("a verdict that ends the session does so after the chunk", "[smtpd]") {
    SmtpDialogue dialogue("smtpd_data_restrictions = check_client_access inline:{ {c.example=521 go away} }\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nBDAT 2\r\nx\nNOOP\r\n");
    CHECK(dialogue.codes() == "220 250 250 250 521");
    CHECK(dialogue.closed());
}

TEST_CASE("content that does not wait for the answer to DATA is improper pipelining", "[smtpd]") {
    const std::string settings = "smtpd_forbid_unauth_pipelining = no\nsmtpd_data_restrictions = reject_unauth_pipelining\n";
    const std::string envelope = "MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n";
    SmtpDialogue patient(settings);
    patient.client("EHLO c.example\r\n");
    patient.client(envelope);
    CHECK(patient.codes() == "220 250 250 250 354");
    SmtpDialogue hasty(settings);
    hasty.client("EHLO c.example\r\n");
    hasty.client(envelope + "Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n");
    CHECK(hasty.codes().substr(0, 19) == "220 250 250 250 503");
    CHECK(hasty.cleanup().messages.empty());
    CHECK(hasty.log().count("improper command pipelining after DATA") == 1);
    SmtpDialogue greeting(settings);   // once is enough for the whole session
    greeting.client("EHLO c.example\r\nMAIL FROM:<s@c.example>\r\n");
    greeting.client("RCPT TO:<a@example.org>\r\nDATA\r\n");
    CHECK(greeting.last_reply() == "503 5.5.0 <DATA>: Data command rejected: Improper use of SMTP command pipelining");
}
