// cleanup(8): what becomes of headers and bodies.
#include <catch2/catch.hpp>

#include "lib/mail/transfer_encoding.h"
#include "t/cleanup_message.h"

using namespace postern;
using namespace postern::cleanup;

TEST_CASE("a relayed message gets a Received field and nothing else changes", "[cleanup]") {
    Cleanup c;
    REQUIRE(c.submit(remote_mail("Subject: x\nX-Odd :  y \n\tfolded\nTo: someone\n\nbody\n\0\r\n")));
    CHECK(c.normal_header() == "Received: from helo.example (client.example [192.0.2.1])\n"
                               "\tby mx.example.org (Postern) with ESMTPSA id QID\n"
                               "\tfor <rcpt@example.org>; " + kDate + "\n"
                               "Subject: x\nX-Odd :  y \n\tfolded\nTo: someone\n");
    CHECK(c.log.count(c.id + ": message-id=<>") == 1);
    CHECK(c.told_qmgr);
    CHECK(c.envelope.sender == "from@remote.example");
}

TEST_CASE("with several recipients Received names none", "[cleanup]") {
    Cleanup c;
    queue::Begin begin = remote_mail("\nx\n");
    begin.envelope.recipients.push_back({"b@example.org", "", "", 0});
    begin.envelope.client.address = "2001:db8::1";
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.normal_header() == "Received: from helo.example (client.example [IPv6:2001:db8::1])\n"
                               "\tby mx.example.org (Postern) with ESMTPSA id QID;\n\t" + kDate + "\n");
    CHECK(c.body == "\nx\n");
}

TEST_CASE("a client cannot add header lines by way of HELO", "[cleanup]") {
    Cleanup c;
    queue::Begin begin = remote_mail("\nx\n");
    begin.envelope.client.helo = "a\nX-Forged: y";
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.header.find("\nX-Forged") == std::string::npos);
    CHECK(c.header.find("from a?X-Forged: y (") != std::string::npos);
}

TEST_CASE("a local submission is completed as Postfix completes it", "[cleanup]") {
    Cleanup c;
    queue::Begin begin = local_mail("To: friend, \"A B\" <other@host>\nSubject: hi\n\nbody\n");
    begin.envelope.sender_full_name = "J. User";
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.normal_header() == "Received: by mx.example.org (Postern, from userid 1000)\n\tid QID; " + kDate + "\n"
                               "To: friend@example.org, \"A B\" <other@host>\nSubject: hi\n"
                               "Message-Id: <20231114221320.QID@mx.example.org>\nDate: " + kDate + "\n"
                               "From: \"J. User\" <user@example.org>\n");
    CHECK(c.envelope.sender == "user@example.org");
    CHECK(c.recipients() == "rcpt@example.org(rcpt)");
    CHECK(c.log.count("message-id=<20231114221320." + c.id + "@mx.example.org>") == 1);
}

TEST_CASE("fields that are there are not added again", "[cleanup]") {
    Cleanup c;
    REQUIRE(c.submit(local_mail("from: me@x.example\ndate: d\nmessage-id: <a@b>\nto: a@b.example\n\n")));
    CHECK(c.header.substr(c.header.find("from:")) == "from: me@x.example\ndate: d\nmessage-id: <a@b>\nto: a@b.example\n");
    CHECK(c.log.count(c.id + ": message-id=<a@b>") == 1);
}

TEST_CASE("a resent message gets the Resent- fields it lacks", "[cleanup]") {
    Cleanup c;
    REQUIRE(c.submit(local_mail("From: a@b.example\nResent-To: x@y.example\nMessage-ID: <1@b>\n\n")));
    CHECK(c.normal_header().find("Resent-Message-Id: <20231114221320.QID@mx.example.org>\nResent-Date: " + kDate +
                                 "\nResent-From: user@example.org\n") != std::string::npos);
    CHECK(c.header.find("\nDate:") == std::string::npos);
    CHECK(c.log.count(": message-id=<1@b>") == 1);
    CHECK(c.log.count(": resent-message-id=<2023") == 1);
}

TEST_CASE("undisclosed_recipients_header and always_add_missing_headers are obeyed", "[cleanup]") {
    Cleanup c("undisclosed_recipients_header = To: undisclosed-recipients:;\nalways_add_missing_headers = yes\n");
    REQUIRE(c.submit(remote_mail("Subject: x\n\n")));
    CHECK(c.header.find("Message-Id: <") != std::string::npos);
    CHECK(c.header.find("From: from@remote.example\nTo: undisclosed-recipients:;\n") != std::string::npos);
}

TEST_CASE("Bcc and Return-Path are dropped whoever sent them, other fields as configured", "[cleanup]") {
    Cleanup c;
    REQUIRE(c.submit(remote_mail("Return-Path: <x>\nBcc: secret@x\n more\nContent-Length: 5\nA: b\nResent-Bcc: y\n\n")));
    CHECK(c.header.substr(c.header.find("UTC)\n") + 5) == "A: b\n");
    Cleanup d("message_drop_headers = x-secret\n");
    REQUIRE(d.submit(remote_mail("X-Secret: 1\nBcc: kept@x\n\n")));
    CHECK(d.header.substr(d.header.find("UTC)\n") + 5) == "Bcc: kept@x\n");
}

TEST_CASE("the result does not depend on how the content is cut", "[cleanup]") {
    const std::string content = "Subject: a\n b\nTo: x\nBcc: gone\n\nbody line\n.\nlast\n";
    Cleanup whole;
    REQUIRE(whole.submit(local_mail(content)));
    for (std::size_t cut = 1; cut < content.size(); ++cut) {
        CAPTURE(cut);
        Cleanup pieces("");
        REQUIRE(pieces.submit(local_mail(content), cut));
        REQUIRE(pieces.normal_header() == whole.normal_header());
        REQUIRE(pieces.body == whole.body);
    }
}

TEST_CASE("where the body begins", "[cleanup]") {
    Cleanup c;
    REQUIRE(c.submit(remote_mail("no header here\nSubject: body\n")));
    CHECK(c.body == "\nno header here\nSubject: body\n");
    REQUIRE(c.submit(remote_mail(" starts with a space\n")));
    CHECK(c.body == "\n starts with a space\n");
    REQUIRE(c.submit(remote_mail("Subject: only\n")));
    CHECK(c.body.empty());
    REQUIRE(c.submit(remote_mail("Subject: a\njunk line\nTo: b\n\nx\n")));
    CHECK(c.body == "junk line\nTo: b\n\nx\n");   // relayed: byte for byte
    REQUIRE(c.submit(local_mail("Subject: a\njunk line\n")));
    CHECK(c.body == "\njunk line\n");             // fields were added, so the body is set apart
    REQUIRE(c.submit(remote_mail("Subject: a\n\nno newline at the end")));
    CHECK(c.body == "\nno newline at the end\n");
    REQUIRE(c.submit(remote_mail("")));
    CHECK(c.body.empty());
    REQUIRE(c.submit(remote_mail(">From me Tue Nov 14\nSubject: x\n\n")));
    CHECK(c.header.find("UTC)\nX-Mailbox-Line: >From me Tue Nov 14\nSubject: x\n") != std::string::npos);
}

TEST_CASE("non_empty_end_of_header_action tells of a header without an empty line behind it, or refuses", "[cleanup]") {
    const std::string joined = "Subject: a\njunk line\nTo: b\n\nx\n", parted = "Subject: a\n\nx\n";
    Cleanup fixes("non_empty_end_of_header_action = fix_quietly\n");
    REQUIRE(fixes.submit(remote_mail(joined)));
    CHECK(fixes.header.ends_with("Subject: a\n"));
    CHECK(fixes.body == "\njunk line\nTo: b\n\nx\n");
    Cleanup tells("non_empty_end_of_header_action = add_header\n");
    REQUIRE(tells.submit(remote_mail(joined)));
    CHECK(tells.header.ends_with("Subject: a\nMIME-Error: message header was not terminated by empty line\n"));
    CHECK(tells.body == "\njunk line\nTo: b\n\nx\n");
    REQUIRE(tells.submit(remote_mail(parted)));
    CHECK(tells.header.find("MIME-Error") == std::string::npos);
    Cleanup refuses("non_empty_end_of_header_action = reject\n");
    REQUIRE(refuses.submit(remote_mail(parted)));
    REQUIRE(refuses.submit(remote_mail("no header\n")));
    CHECK_FALSE(refuses.submit(remote_mail(joined), 3));
    CHECK(refuses.refused.code == 550);
    CHECK(refuses.refused.text == "message header was not terminated by empty line");
}

TEST_CASE("stray CR bytes stay as they are, unless cleanup_replace_stray_cr_lf makes them spaces", "[cleanup]") {
    const std::string content = "Subject: a\rb\n c\r\n\nx\ry\n\r\nend\r";
    Cleanup replaces("cleanup_replace_stray_cr_lf = yes\n");
    for (std::size_t cut = 1; cut < content.size(); ++cut) {
        REQUIRE(replaces.submit(remote_mail(content), cut));
        CHECK(replaces.header.ends_with("\nSubject: a b\n c \n"));
        CHECK(replaces.body == "\nx y\n \nend \n");
    }
    Cleanup keeps;
    REQUIRE(keeps.submit(remote_mail(content)));
    CHECK(keeps.header.ends_with("\nSubject: a\rb\n c\r\n"));
    CHECK(keeps.body == "\nx\ry\n\r\nend\r\n");
}

TEST_CASE("a full name beyond ASCII is encoded as full_name_encoding_charset says", "[cleanup]") {
    const auto from = [](const std::string& settings, const std::string& name) {
        Cleanup cleanup(settings);
        queue::Begin begin = local_mail("Subject: x\n\nb\n");
        begin.envelope.sender_full_name = name;
        REQUIRE(cleanup.submit(std::move(begin)));
        const std::size_t at = cleanup.header.find("From: ");
        REQUIRE(at != std::string::npos);
        return cleanup.header.substr(at, cleanup.header.find('>', at) + 1 - at);
    };
    CHECK(from("", "J\xc3\xb6rg X") == "From: =?utf-8?Q?J=C3=B6rg_X?= <user@example.org>");
    CHECK(from("full_name_encoding_charset = iso-8859-1\n", "J\xf6rg X") == "From: =?iso-8859-1?Q?J=F6rg_X?= <user@example.org>");
    CHECK(from("full_name_encoding_charset = iso-8859-1\n", "Joe X") == "From: Joe X <user@example.org>");
    CHECK_FALSE(Config::from_text("full_name_encoding_charset = utf-8?q?x\n"));
    CHECK_FALSE(Config::from_text("full_name_encoding_charset =\n"));
}

TEST_CASE("a field over header_size_limit loses its excess", "[cleanup]") {
    Cleanup c("header_size_limit = 30\n");
    queue::Begin begin = remote_mail("A: 1234567890\n 1234567890\n 1234567890\n 1234567890\nB: " + std::string(100, 'x') + "\nC: d\n\n");
    begin.add_received = false;
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.header == "A: 1234567890\n 1234567890\nB: " + std::string(26, 'x') + "\nC: d\n");
}

TEST_CASE("limits are answered with the right codes and leave nothing behind", "[cleanup]") {
    Cleanup c("hopcount_limit = 3\nqueue_minfree = 0\n");
    CHECK_FALSE(c.submit(remote_mail("Subject: x\n\n" + std::string(200000, 'y') + "\n")));
    CHECK(c.refused.code == 552);
    CHECK(c.refused.dsn == "5.3.4");
    CHECK_FALSE(c.submit(remote_mail("Received: a\nReceived: b\n\n")));
    CHECK(c.refused.code == 554);
    CHECK(c.refused.dsn == "5.4.6");
    CHECK(c.log.count("hopcount exceeded") == 1);
    CHECK(c.submit(remote_mail("Received: a\n\n")));
    queue::Begin nobody = remote_mail("\n");
    nobody.envelope.recipients.clear();
    CHECK_FALSE(c.submit(std::move(nobody)));
    CHECK(c.refused.code == 550);
    CHECK(c.files("/incoming").size() == 1);
    Cleanup full("queue_minfree = 1000000000000000\n");
    CHECK_FALSE(full.submit(remote_mail("\n")));
    CHECK(full.refused.code == 452);
    CHECK(full.refused.dsn == "4.3.1");
}

TEST_CASE("a header that says 8bit counts like BODY=8BITMIME", "[cleanup]") {
    const auto encoding = [](const std::string& settings, const std::string& value, std::uint8_t given) {
        Cleanup c(settings);
        queue::Begin begin = remote_mail("Content-Transfer-Encoding: " + value + "\n\nx\n");
        begin.envelope.recipients = {{"a@x.example", "", "", 0}};
        begin.envelope.encoding = given;
        REQUIRE(c.submit(std::move(begin)));
        return c.envelope.encoding;
    };
    CHECK(encoding("", "8bit", queue::kEncodingUnspecified) == queue::kEncoding8bit);
    CHECK(encoding("", "\n Binary", queue::kEncoding7bit) == queue::kEncoding8bit);
    CHECK(encoding("", "8bit or so", queue::kEncodingUnspecified) == queue::kEncodingUnspecified);
    CHECK(encoding("", "base64", queue::kEncoding7bit) == queue::kEncoding7bit);
    CHECK(encoding("", "8bit ", queue::kEncodingUnspecified) == queue::kEncodingUnspecified);   // as exact as Postfix
    CHECK(encoding("detect_8bit_encoding_header = no\n", "8bit", queue::kEncodingUnspecified) == queue::kEncodingUnspecified);
}

TEST_CASE("a part that says 8bit counts like BODY=8BITMIME", "[cleanup]") {
    const auto encoding = [](const std::string& settings, const std::string& value) {
        Cleanup c(settings);
        queue::Begin begin = remote_mail("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: " + value + "\n\nx\n--b--\n");
        begin.envelope.recipients = {{"a@x.example", "", "", 0}};
        REQUIRE(c.submit(std::move(begin)));
        return c.envelope.encoding;
    };
    for (const std::string also : {"", "body_checks = regexp:{{/never/ WARN}}\n"}) {
        CAPTURE(also);
        CHECK(encoding(also, "8bit") == queue::kEncoding8bit);
        CHECK(encoding(also, "7bit") == queue::kEncodingUnspecified);
        CHECK(encoding(also + "detect_8bit_encoding_header = no\n", "8bit") == queue::kEncodingUnspecified);
        CHECK(encoding(also + "disable_mime_input_processing = yes\n", "8bit") == queue::kEncodingUnspecified);
    }
}

TEST_CASE("force_mime_input_conversion leaves no declared 8-bit bytes", "[cleanup]") {
    const auto stored = [](const std::string& settings, const std::string& mail, std::uint8_t& encoding) {
        Cleanup c("force_mime_input_conversion = yes\n" + settings);
        queue::Begin begin = remote_mail(mail);
        begin.envelope.recipients = {{"a@x.example", "", "", 0}};
        begin.envelope.encoding = queue::kEncoding8bit;
        REQUIRE(c.submit(std::move(begin)));
        encoding = c.envelope.encoding;
        return c.body;
    };
    std::uint8_t encoding = 0;
    const std::string plain = "Content-Transfer-Encoding: 8bit\nSubject: x\n\nd\u00f6n = \n";
    CHECK(stored("", plain, encoding) == "\nd=C3=B6n =3D=20\n");
    CHECK(encoding == queue::kEncodingUnspecified);
    CHECK(stored("body_checks = regexp:{{/^d=C3=B6n/ REPLACE seen}}\n", plain, encoding) == "\nseen\n");
    CHECK(stored("disable_mime_input_processing = yes\n", plain, encoding) == "\nd\u00f6n = \n");
    const std::string parts = "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\npre\u00e4mble\n--b\n"
                              "Content-Transfer-Encoding: binary\nContent-Type: text/html\n\n<p>\u00fc\n--b\n"
                              "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nContent-Transfer-Encoding: 8bit\nA: b\n\n\u00e4\n--b\n"
                              "Content-Type: text/plain\n\nsays nothing \u00e4\n--b--\n\u00e4\n";
    CHECK(stored("", parts, encoding) ==
          "\npre\u00e4mble\n--b\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<p>=C3=BC\n--b\n"
          "Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nA: b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n--b\n"
          "Content-Type: text/plain\n\nsays nothing \u00e4\n--b--\n\u00e4\n");
    const std::string long_line(5000, 'x');
    CHECK(decode_quoted_printable(stored("", "Content-Transfer-Encoding: 8bit\n\n" + long_line + "\u00e4", encoding)) == "\n" + long_line + "\u00e4\n");
}

TEST_CASE("message_reject_characters refuses and message_strip_characters takes out", "[cleanup]") {
    Cleanup cleanup("message_reject_characters = \\001\\b\nmessage_strip_characters = \\0q\\n\n");
    CHECK_FALSE(cleanup.submit(remote_mail("Subject: a\n\nfine\nx\001y\nfine\n")));
    CHECK(cleanup.refused.code == 550);
    CHECK(cleanup.refused.dsn == "5.7.1");
    CHECK(cleanup.refused.text == "disallowed character");
    CHECK(cleanup.log.count("reject: content x?y from client.example[192.0.2.1]; from=<from@remote.example> to=<rcpt@example.org> "
                    "proto=ESMTPSA helo=<helo.example>: 5.7.1 disallowed character") == 1);
    CHECK_FALSE(cleanup.submit(remote_mail("Subject: a\bc\n\nfine\n"), 3));
    REQUIRE(cleanup.submit(remote_mail(std::string("Subject: q\0z\n\nqq\nxqy\0\n", 22))));
    CHECK(cleanup.header.find("Subject: z\n") != std::string::npos);
    CHECK(cleanup.body == "\n\nxy\n");
    queue::Begin bounce = remote_mail("Subject: q\001\n\n");
    bounce.check_headers_and_body = false;
    REQUIRE(cleanup.submit(std::move(bounce)));
    CHECK(cleanup.header.find("Subject: q\001\n") != std::string::npos);
}

TEST_CASE("Require-TLS-ESMTP says what the envelope said before a content filter", "[cleanup]") {
    const auto asks = [](const std::string& field, const std::string& settings = "") {
        Cleanup cleanup(settings);
        REQUIRE(cleanup.submit(remote_mail(field + "Subject: x\n\nRequire-TLS-ESMTP: yes\n")));
        CHECK(cleanup.header.find(field) != std::string::npos);
        return cleanup.envelope.requiretls;
    };
    CHECK(asks("Require-TLS-ESMTP: yes\n"));
    CHECK(asks("require-tls-esmtp:  YES \n"));
    CHECK_FALSE(asks("Require-TLS-ESMTP: no\n"));
    CHECK_FALSE(asks("X-Require-TLS-ESMTP: yes\n"));
    CHECK_FALSE(asks(""));
    CHECK_FALSE(asks("Require-TLS-ESMTP: yes\n", "requiretls_esmtp_header = no\n"));
    CHECK_FALSE(asks("Require-TLS-ESMTP: yes\n", "requiretls_enable = no\n"));
}

TEST_CASE("a long header field does not slip past a pattern", "[cleanup]") {
    Cleanup c("header_checks = regexp:{ { /^Subject: .*bad/ REJECT no thanks } }\n");
    const std::string subject = "Subject: " + std::string(70'000, 'x') + " bad\n\nbody\n";
    CHECK_FALSE(c.submit(remote_mail(subject)));
    CHECK(c.refused.text == "no thanks");
}

TEST_CASE("header_checks and body_checks carry out their actions", "[cleanup]") {
    Cleanup c("header_checks = inline:{ { Subject: bad = REJECT no thanks } { Subject: later = REJECT 4.7.9 wait } "
              "{ Subject: drop = IGNORE } { Subject: hold = HOLD } { Subject: gone = DISCARD } "
              "{ Subject: old = REPLACE Subject: new } { Subject: pre = PREPEND X-Pre: 1 } "
              "{ Subject: else = REDIRECT other@example.org } { Subject: filter = FILTER scan:[127.0.0.1]:10 } "
              "{ Subject: copy = BCC copy@example.org } { Subject: warn = WARN look } }\n"
              "body_checks = inline:{ { spam line = REJECT } { old line = REPLACE new line } { cut = IGNORE } }\n");
    CHECK_FALSE(c.submit(remote_mail("Subject: bad\n\n")));
    CHECK(c.refused.code == 550);
    CHECK(c.refused.dsn + " " + c.refused.text == "5.7.1 no thanks");
    CHECK(c.log.count(": reject: header Subject: bad from client.example[192.0.2.1]; from=<from@remote.example> "
                      "to=<rcpt@example.org> proto=ESMTPSA helo=<helo.example>: 5.7.1 no thanks") == 1);
    CHECK_FALSE(c.submit(remote_mail("Subject: later\n\n")));
    CHECK(c.refused.code == 451);
    CHECK(c.refused.dsn + " " + c.refused.text == "4.7.9 wait");
    REQUIRE(c.submit(remote_mail("Subject: drop\nA: b\n\n")));
    CHECK(c.header.find("Subject") == std::string::npos);
    REQUIRE(c.submit(remote_mail("Subject: old\n\n")));
    CHECK(c.header.find("\nSubject: new\n") != std::string::npos);
    REQUIRE(c.submit(remote_mail("Subject: pre\n\n")));
    CHECK(c.header.find("\nX-Pre: 1\nSubject: pre\n") != std::string::npos);
    REQUIRE(c.submit(remote_mail("Subject: else\n\n")));
    CHECK(c.recipients() == "other@example.org");
    REQUIRE(c.submit(remote_mail("Subject: filter\n\n")));
    CHECK(c.envelope.content_filter == "scan:[127.0.0.1]:10");
    REQUIRE(c.submit(remote_mail("Subject: copy\n\n")));
    CHECK(c.recipients() == "rcpt@example.org copy@example.org");
    REQUIRE(c.submit(remote_mail("Subject: warn\n\n")));
    CHECK(c.log.count(": warning: header Subject: warn from client.example[192.0.2.1]") == 1);
    const std::size_t before = c.files("/incoming").size();
    REQUIRE(c.submit(remote_mail("Subject: gone\n\n")));
    CHECK_FALSE(c.told_qmgr);
    CHECK(c.files("/incoming").size() == before);
    REQUIRE(c.submit(remote_mail("Subject: hold\n\n")));
    CHECK_FALSE(c.told_qmgr);
    CHECK(c.files("/hold").size() == 1);
    for (const std::size_t cut : {1, 3, 1000}) {
        REQUIRE(c.submit(remote_mail("A: b\n\nkeep\nold line\ncut\nold line\n"), cut));
        CHECK(c.body == "\nkeep\nnew line\nnew line\n");
    }
    CHECK_FALSE(c.submit(remote_mail("A: b\n\nspam line\n")));
    CHECK(c.refused.text == "message content rejected");
    queue::Begin unchecked = remote_mail("Subject: bad\n\nspam line\n");
    unchecked.check_headers_and_body = false;
    CHECK(c.submit(std::move(unchecked)));
}

TEST_CASE("Received names who sent the message to us, when XFORWARD told of another client", "[cleanup]") {
    Cleanup cleanup;
    queue::Begin begin = remote_mail("Subject: x\n\nbody\n");
    begin.peer = begin.envelope.client;
    begin.envelope.client.name = "far.example";
    begin.envelope.client.address = "203.0.113.5";
    begin.envelope.client.helo = begin.envelope.client.protocol = "unknown";
    REQUIRE(cleanup.submit(std::move(begin)));
    CHECK(cleanup.normal_header().find("Received: from helo.example (client.example [192.0.2.1])\n"
                                       "\tby mx.example.org (Postern) with ESMTPSA id QID\n") == 0);
    CHECK(cleanup.envelope.client.address == "203.0.113.5");
}

TEST_CASE("a hidden client leaves no trace in Received", "[cleanup]") {
    Cleanup cleanup;
    queue::Begin begin = remote_mail("Subject: x\n\nbody\n");
    begin.envelope.origin = queue::kOriginSmtp;
    begin.envelope.client.sasl_username = "someone";
    begin.hide_client = true;
    REQUIRE(cleanup.submit(std::move(begin)));
    CHECK(cleanup.normal_header() == "Received: by mx.example.org (Postern)\n\tid QID; " + kDate + "\nSubject: x\n");
}
