/// Commands on the messages of a mailbox: FETCH, STORE, COPY, SEARCH and their like.
#include <catch2/catch.hpp>

#include <ctime>

#include "imapd/base_subject.h"
#include "t/imapd_dialogue.h"

using namespace postern;
using namespace postern::imapd;

TEST_CASE("a subject of nothing but brackets is soon read", "[imapd]") {
    std::string subject;
    for (int i = 0; i < 30000; ++i) {
        subject += "[x]";
    }
    const std::clock_t start = std::clock();
    CHECK(base_subject(subject + " Re: y").text == "y");
    CHECK(base_subject(subject + "y").text == "y");
    CHECK(base_subject(subject).text == "[x]");
    CHECK(std::clock() - start < CLOCKS_PER_SEC / 2);
}

TEST_CASE("FETCH from the index", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 3);
    CHECK(has(client.command("FETCH 2 UID"), "* 2 FETCH (UID 2)\r\nOK"));
    CHECK(has(client.command("UID FETCH 3 FLAGS"), "* 3 FETCH (UID 3 FLAGS (\\Recent))\r\n"));
    CHECK(has(client.command("FETCH 1 ENVELOPE"),
              "ENVELOPE (\"Mon, 7 Feb 1994 21:52:25 -0800\" \"first\" ((\"Fred\" NIL \"fred\" \"example.org\"))"));
    CHECK(has(client.command("FETCH 1 BODYSTRUCTURE"), "BODYSTRUCTURE (\"text\" \"plain\""));
    CHECK(has(client.command("FETCH 1 BODY"), "BODY (\"text\" \"plain\""));
    CHECK(has(client.command("FETCH 1 FULL"), "BODY ("));
    CHECK(has(client.command("FETCH 1:* UID"), "* 3 FETCH (UID 3)"));
    CHECK(has(client.command("FETCH * UID"), "* 3 FETCH (UID 3)\r\nOK"));
    CHECK(has(client.command("UID FETCH 100:* UID"), "* 3 FETCH (UID 3)"));
    CHECK(client.command("UID FETCH 100 UID") == "OK Fetch completed.\r\n");
    CHECK(has(client.command("FETCH 4 UID"), "BAD"));
    CHECK(has(client.command("FETCH 0 UID"), "BAD"));
    CHECK(has(client.command("FETCH 1"), "BAD"));
    CHECK(has(client.command("FETCH 1 (UID"), "BAD"));
}

TEST_CASE("FETCH of texts", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 1);
    const std::size_t blank = kMessage.find("\r\n\r\n") + 4;
    const std::string header = kMessage.substr(0, blank);
    const std::string body = kMessage.substr(blank);
    const auto literal = [](const std::string& text) { return "{" + std::to_string(text.size()) + "}\r\n" + text; };
    CHECK(has(client.command("FETCH 1 BODY.PEEK[]"), "* 1 FETCH (BODY[] " + literal(kMessage) + ")\r\nOK"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[HEADER]"), "BODY[HEADER] " + literal(header) + ")"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[TEXT]"), "BODY[TEXT] " + literal(body) + ")"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[1]"), "BODY[1] " + literal(body) + ")"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[2]"), "BODY[2] NIL)"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[TEXT]<5.4>"), "BODY[TEXT]<5> " + literal(body.substr(5, 4)) + ")"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[]<0.10>"), "BODY[]<0> " + literal(kMessage.substr(0, 10)) + ")"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[TEXT]<500.4>"), "BODY[TEXT]<500> {0}\r\n)"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject X-No)]"),
              "BODY[HEADER.FIELDS (SUBJECT X-NO)] " + literal("Subject: first\r\n\r\n") + ")"));
    CHECK(has(client.command("FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (From To Date Message-ID)]"),
              literal("Subject: first\r\n\r\n") + ")"));
    CHECK(has(client.command("FETCH 1 RFC822.HEADER"), "RFC822.HEADER " + literal(header) + ")"));
    CHECK(has(client.command("FETCH 1 (UID BINARY.PEEK[1] BINARY.SIZE[1])"),
              "BINARY[1] " + literal(body) + " BINARY.SIZE[1] " + std::to_string(body.size()) + ")"));
    CHECK_FALSE(has(client.command("FETCH 1 FLAGS"), "\\Seen"));
    const std::string seen = client.command("FETCH 1 RFC822.TEXT");
    CHECK(has(seen, "RFC822.TEXT " + literal(body)));
    CHECK(has(seen, "* 1 FETCH (FLAGS (\\Seen \\Recent))"));
    CHECK(client.session().counters().body_count > 0);
}

TEST_CASE("a message with bare line feeds, NUL and no empty line is sent with its exact size", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    client.append("INBOX", std::string("Subject: x\n\na\r\nb\nc\0d", 20));
    client.append("INBOX", "Subject: no body");
    client.append("INBOX", "\r\nonly body\r\n");
    std::string big = "Subject: big\r\n\r\n";
    while (big.size() < 200000) {
        big += "0123456789012345678901234567890123456789\r\n";
    }
    client.append("INBOX", big);
    client.command("SELECT INBOX");
    CHECK(has(client.command("FETCH 1 (RFC822.SIZE BODY.PEEK[])"),
              "RFC822.SIZE 23 BODY[] {23}\r\nSubject: x\r\n\r\na\r\nb\r\nc\x80" "d)"));
    CHECK(has(client.command("FETCH 2 (RFC822.SIZE BODY.PEEK[HEADER] BODY.PEEK[TEXT])"),
              "RFC822.SIZE 16 BODY[HEADER] {16}\r\nSubject: no body BODY[TEXT] {0}\r\n)"));
    CHECK(has(client.command("FETCH 3 (BODY.PEEK[HEADER] BODY.PEEK[TEXT])"),
              "BODY[HEADER] {2}\r\n\r\n BODY[TEXT] {11}\r\nonly body\r\n)"));
    CHECK(has(client.command("FETCH 4 BODY.PEEK[]"), "{" + std::to_string(big.size()) + "}\r\n" + big + ")\r\n"));
}

TEST_CASE("STORE", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 3);
    CHECK(has(client.command("STORE 1:2 +FLAGS (\\Seen)"),
              "* 1 FETCH (FLAGS (\\Seen \\Recent))\r\n* 2 FETCH (FLAGS (\\Seen \\Recent))\r\nOK"));
    CHECK(client.command("STORE 1 +FLAGS.SILENT \\Flagged") == "OK Store completed.\r\n");
    CHECK(has(client.command("FETCH 1 FLAGS"), "(\\Flagged \\Seen \\Recent)"));
    CHECK(has(client.command("STORE 1 -FLAGS \\Flagged"), "* 1 FETCH (FLAGS (\\Seen \\Recent))"));
    CHECK(has(client.command("STORE 1 FLAGS ($Work)"), "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)"));
    CHECK(has(client.command("FETCH 1 FLAGS"), "(\\Recent $Work)"));
    CHECK(has(client.command("UID STORE 2 FLAGS ()"), "* 2 FETCH (UID 2 FLAGS (\\Recent))"));
    CHECK(has(client.command("STORE 9 FLAGS ()"), "BAD"));
    CHECK(has(client.command("STORE 1 FLAGS \\Foo"), "BAD"));
    CHECK(client.command("UID STORE 9 FLAGS ()") == "OK Store completed.\r\n");
    Dialogue other(scratch);
    other.command("SELECT INBOX");
    client.command("STORE 3 +FLAGS \\Answered");
    CHECK(has(other.command("NOOP"), "* 3 FETCH (FLAGS (\\Answered))"));
}

TEST_CASE("CONDSTORE", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 3);
    const std::string first = client.command("FETCH 1 MODSEQ");
    CHECK(has(first, "* OK [HIGHESTMODSEQ "));
    CHECK(has(first, "* 1 FETCH (MODSEQ ("));
    const std::string stored = client.command("STORE 2 +FLAGS.SILENT \\Flagged");
    CHECK(has(stored, "* 2 FETCH (MODSEQ ("));
    CHECK_FALSE(has(stored, "FLAGS"));
    const std::string modseq = stored.substr(stored.find("MODSEQ (") + 8, stored.find("))") - stored.find("MODSEQ (") - 8);
    CHECK(has(client.command("STORE 1:2 (UNCHANGEDSINCE " + std::to_string(std::stoul(modseq) - 1) + ") +FLAGS \\Seen"),
              "OK [MODIFIED 2]"));
    CHECK(has(client.command("FETCH 1:3 FLAGS (CHANGEDSINCE " + modseq + ")"), "* 1 FETCH (MODSEQ ("));
    CHECK_FALSE(has(client.command("FETCH 1:3 FLAGS (CHANGEDSINCE " + modseq + ")"), "* 3 FETCH"));
    CHECK(has(client.command("SEARCH MODSEQ " + modseq), "* SEARCH 1 2 (MODSEQ "));
    CHECK(has(client.command("STATUS INBOX (HIGHESTMODSEQ)"), "(HIGHESTMODSEQ "));
    CHECK(has(client.command("SELECT INBOX (CONDSTORE)"), "HIGHESTMODSEQ"));
}

TEST_CASE("EXPUNGE, CLOSE and UNSELECT", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 5);
    client.command("STORE 1,3 +FLAGS.SILENT \\Deleted");
    CHECK(client.command("EXPUNGE") == "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n* 3 RECENT\r\nOK Expunge completed.\r\n");
    CHECK(has(client.command("FETCH 1:* UID"), "* 1 FETCH (UID 2)\r\n* 2 FETCH (UID 4)\r\n* 3 FETCH (UID 5)\r\nOK"));
    client.command("STORE 1:2 +FLAGS.SILENT \\Deleted");
    CHECK(client.command("UID EXPUNGE 4") == "* 2 EXPUNGE\r\n* 2 RECENT\r\nOK Expunge completed.\r\n");
    CHECK(has(client.command("UNSELECT"), "OK"));
    CHECK(has(client.command("SELECT INBOX"), "* 2 EXISTS"));
    CHECK(client.command("CLOSE") == "OK Close completed.\r\n");
    CHECK(has(client.command("SELECT INBOX"), "* 1 EXISTS"));
    CHECK(client.session().counters().expunged == 4);
}

TEST_CASE("EXPUNGE is not told during FETCH, STORE and SEARCH", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 4);
    Dialogue other(scratch);
    other.command("SELECT INBOX");
    client.command("STORE 1 +FLAGS.SILENT \\Deleted");
    client.command("EXPUNGE");
    for (const char* const text : {"FETCH 2 UID", "STORE 2 +FLAGS \\Seen", "SEARCH ALL"}) {
        CAPTURE(text);
        CHECK_FALSE(has(other.command(text), "EXPUNGE\r\n"));
    }
    CHECK(has(other.command("FETCH 2 UID"), "* 2 FETCH (UID 2)"));
    CHECK(has(other.command("NOOP"), "* 1 EXPUNGE\r\n"));
    CHECK(has(other.command("FETCH 2 UID"), "* 2 FETCH (UID 3)"));
    client.append("INBOX", kMessage);
    CHECK(has(other.command("FETCH 1 UID"), "* 4 EXISTS"));
}

TEST_CASE("COPY of what another session has expunged fails (RFC 2180 section 4.4)", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 2);
    Dialogue other(scratch);
    other.command("SELECT INBOX");
    client.command("STORE 1 +FLAGS.SILENT \\Deleted");
    client.command("EXPUNGE");
    const std::string answer = other.command("COPY 1 INBOX");
    CHECK(has(answer, "* 1 EXPUNGE\r\n"));
    CHECK(has(answer, "NO [EXPUNGEISSUED]"));
    CHECK(has(other.command("UID COPY 1 INBOX"), "OK No messages copied."));
}

TEST_CASE("COPY and MOVE", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 3);
    CHECK(has(client.command("COPY 1:2 Other"), "NO [TRYCREATE]"));
    client.command("CREATE Other");
    client.command("STORE 2 +FLAGS.SILENT (\\Flagged $Work)");
    const std::string copied = client.command("COPY 1:2 Other");
    CHECK(has(copied, "OK [COPYUID "));
    CHECK(has(copied, " 1:2 1:2] Copy completed."));
    CHECK(has(client.command("UID COPY 3 Other"), " 3 3] Copy"));
    CHECK(has(client.command("COPY 7 Other"), "BAD"));
    CHECK(client.command("UID COPY 77 Other") == "OK No messages copied.\r\n");
    const std::string moved = client.command("MOVE 1,3 Other");
    CHECK(has(moved, "* OK [COPYUID "));
    CHECK(has(moved, " 1,3 4:5]"));
    CHECK(has(moved, "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n"));
    CHECK(moved.find("COPYUID") < moved.find("EXPUNGE"));
    client.command("SELECT Other");
    const std::string flags = client.command("FETCH 2 FLAGS");
    CHECK(has(flags, "\\Flagged"));
    CHECK(has(flags, "$Work"));
    CHECK(has(client.command("FETCH 5 BODY.PEEK[TEXT]"), "body line"));
}

TEST_CASE("SEARCH", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 2);
    client.append("INBOX",
                  "From: =?utf-8?q?J=C3=B6rg?= <joerg@example.com>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
                  "Date: Tue, 8 Mar 2005 01:00:00 +0300\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
                  "Content-Transfer-Encoding: quoted-printable\r\n\r\nKuchen aus Z=FCrich\r\n",
                  "(\\Seen) \"01-Jan-2001 00:00:00 +0000\" ");
    client.command("NOOP");
    const auto search = [&](const std::string& keys) {
        const std::string answer = client.command("SEARCH " + keys);
        return answer.substr(0, answer.find("\r\n"));
    };
    CHECK(search("ALL") == "* SEARCH 1 2 3");
    CHECK(search("SEEN") == "* SEARCH 3");
    CHECK(search("UNSEEN 2:3") == "* SEARCH 2");
    CHECK(search("NOT SEEN") == "* SEARCH 1 2");
    CHECK(search("OR SEEN UID 1") == "* SEARCH 1 3");
    CHECK(search("SUBJECT FIRST") == "* SEARCH 1 2");
    CHECK(search("FROM fred@") == "* SEARCH 1 2");
    CHECK(search("CHARSET UTF-8 FROM {5+}\r\nj\xC3\x96rg") == "* SEARCH 3");
    CHECK(search("CHARSET ISO-8859-1 SUBJECT {5+}\r\ngr\xFC\xDF" "e") == "* SEARCH 3");
    CHECK(search("CHARSET UTF-8 BODY \"z\xC3\xBCrich\"") == "* SEARCH 3");
    CHECK(search("TEXT first") == "* SEARCH 1 2");
    CHECK(search("BODY first") == "* SEARCH");
    CHECK(search("BODY \"second\"") == "* SEARCH 1 2");
    CHECK(search("HEADER Message-ID \"\"") == "* SEARCH 1 2");
    CHECK(search("HEADER X-None \"\"") == "* SEARCH");
    CHECK(search("SENTON 7-Feb-1994") == "* SEARCH 1 2");
    CHECK(search("SENTON 8-Mar-2005") == "* SEARCH 3");
    CHECK(search("SENTSINCE 1-Jan-1995") == "* SEARCH 3");
    CHECK(search("BEFORE 1-Jan-2002") == "* SEARCH 3");
    CHECK(search("YOUNGER 3600") == "* SEARCH 1 2");
    CHECK(search("OLDER 3600") == "* SEARCH 3");
    CHECK(search("LARGER " + std::to_string(kMessage.size() - 1) + " SMALLER " + std::to_string(kMessage.size() + 1)) ==
          "* SEARCH 1 2");
    CHECK(search("KEYWORD $nope") == "* SEARCH");
    CHECK(search("1000") == "* SEARCH");
    CHECK(has(client.command("SEARCH CHARSET X-NONE SUBJECT x"), "NO [BADCHARSET (US-ASCII UTF-8)]"));
    CHECK(has(client.command("SEARCH CHARSET X-NONE ALL"), "NO [BADCHARSET (US-ASCII UTF-8)]"));
    CHECK(has(client.command("SEARCH"), "BAD"));
    CHECK(has(client.command("SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN"), ") MIN 1 MAX 2 ALL 1:2 COUNT 2\r\n"));
    CHECK(has(client.command("UID SEARCH RETURN () SEEN"), ") UID ALL 3\r\n"));
    CHECK(client.command("SEARCH RETURN (SAVE) UNSEEN") == "OK Search completed.\r\n");
    CHECK(has(client.command("FETCH $ UID"), "* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 2)\r\nOK"));
    CHECK(has(client.command("SEARCH $ UID 2"), "* SEARCH 2\r\n"));
}

TEST_CASE("SORT and THREAD", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    const auto message = [](const std::string& id, const std::string& subject, int day, const std::string& references) {
        return "From: a@b\r\nSubject: " + subject + "\r\nDate: " + std::to_string(day) +
               " Jan 2001 00:00:00 +0000\r\nMessage-ID: <" + id + "@x>\r\n" +
               (references.empty() ? "" : "References: " + references + "\r\n") + "\r\nx\r\n";
    };
    client.append("INBOX", message("1", "b", 3, ""));
    client.append("INBOX", message("2", "Re: a", 2, "<gone@x>"));
    client.append("INBOX", message("3", "A (fwd)", 1, "<gone@x>"));
    client.append("INBOX", message("4", "re: b", 4, "<1@x>"));
    client.append("INBOX", message("5", "re: b", 5, "<1@x> <4@x>"));
    client.command("SELECT INBOX");
    CHECK(has(client.command("SORT (SUBJECT DATE) UTF-8 ALL"), "* SORT 3 2 1 4 5\r\n"));
    CHECK(has(client.command("UID SORT (REVERSE DATE) US-ASCII 2:4"), "* SORT 4 1 2\r\n") == false);
    CHECK(has(client.command("UID SORT (REVERSE DATE) US-ASCII 2:4"), "* SORT 4 2 3\r\n"));
    CHECK(has(client.command("THREAD REFERENCES UTF-8 ALL"), "* THREAD ((3)(2))(1 4 5)\r\n"));
    CHECK(has(client.command("THREAD ORDEREDSUBJECT UTF-8 ALL"), "* THREAD (3 2)(1 (4)(5))\r\n"));
    CHECK(has(client.command("THREAD FOO UTF-8 ALL"), "BAD"));
    CHECK(has(client.command("SORT (FOO) UTF-8 ALL"), "BAD"));
    CHECK(has(client.command("THREAD REFERENCES UTF-8 SEEN"), "* THREAD\r\n"));
}

TEST_CASE("a thread of great depth", "[imapd]") {
    // Nothing recurses over it: see thread.h.
    ScratchAccount scratch;
    Dialogue client(scratch);
    std::string messages;
    for (int i = 0; i < 900; ++i) {
        const std::string text = "Message-ID: <" + std::to_string(i) + "@x>\r\nIn-Reply-To: <" + std::to_string(i - 1) +
                                 "@x>\r\nSubject: s\r\n\r\n";
        messages += (messages.empty() ? "{" : " {") + std::to_string(text.size()) + "+}\r\n" + text;
    }
    REQUIRE(has(client.command("APPEND INBOX " + messages), "OK [APPENDUID"));
    client.command("SELECT INBOX");
    CHECK(has(client.command("THREAD REFERENCES UTF-8 ALL"), "* THREAD (1 2 3 4 5 6 7 8 9 10 "));
}
