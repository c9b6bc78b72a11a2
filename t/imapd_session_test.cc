#include <catch2/catch.hpp>

#include <ctime>

#include "imapd/base_subject.h"
#include "t/imapd_dialogue.h"

using namespace postern;
using namespace postern::imapd;

namespace {

const std::string kMessage =
    "From: Fred <fred@example.org>\r\nTo: joe@example.net\r\nSubject: first\r\n"
    "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nMessage-ID: <1@example.org>\r\n\r\nbody line\r\nsecond\r\n";

/// An INBOX with `count` copies of kMessage, selected.
void fill(Dialogue& client, int count) {
    for (int i = 0; i < count; ++i) {
        REQUIRE(has(client.append("INBOX", kMessage), "OK [APPENDUID"));
    }
    REQUIRE(has(client.command("SELECT INBOX"), "OK [READ-WRITE]"));
}

}  // namespace

TEST_CASE("commands that need nothing", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    CHECK(client.wait_for("Logged in") == "login OK Logged in\r\n");
    CHECK(has(client.command("CAPABILITY"), "* CAPABILITY IMAP4rev1 "));
    CHECK(client.command("NOOP") == "OK NOOP completed.\r\n");
    CHECK(has(client.command("NAMESPACE"), "* NAMESPACE ((\"\" \".\")) NIL NIL\r\n"));
    CHECK(has(client.command("ID NIL"), "* ID (\"name\" \"Postern\")\r\n"));
    CHECK(has(client.command("ID (\"name\" \"x\" \"version\" NIL)"), "OK ID"));
    CHECK(has(client.command("ENABLE CONDSTORE X-FOO"), "* ENABLED CONDSTORE\r\nOK"));
    CHECK(has(client.command("LOGIN a b"), "BAD"));
    CHECK(has(client.command("CHECK"), "BAD No mailbox selected"));
    CHECK(has(client.command("FOO"), "BAD"));
    CHECK(has(client.command("UID NOOP"), "BAD"));
    CHECK(has(client.command("NOOP x"), "BAD"));
    CHECK(has(client.send("\r\n", "*"), "* BAD"));
    CHECK(has(client.send("+x NOOP\r\n", "*"), "* BAD"));
    CHECK(client.command("LOGOUT") == "* BYE Logging out\r\nOK Logout completed.\r\n");
    CHECK(client.done());
}

TEST_CASE("a separator that must be quoted is quoted", "[imapd]") {
    ScratchAccount scratch('\\');
    Dialogue client(scratch);
    CHECK(has(client.command("NAMESPACE"), "* NAMESPACE ((\"\" \"\\\\\")) NIL NIL\r\n"));
    CHECK(has(client.command("LIST \"\" \"\""), "* LIST (\\Noselect) \"\\\\\" \"\"\r\n"));
    CHECK(has(client.command("LIST \"\" *"), "\"\\\\\" INBOX\r\n"));
}

TEST_CASE("imap_capability adds or replaces", "[imapd]") {
    ScratchAccount scratch;
    Dialogue adds(scratch, "imap_capability = +X-ONE X-TWO\n");
    CHECK(has(adds.command("CAPABILITY"), " X-ONE X-TWO\r\n"));
    Dialogue replaces(scratch, "imap_capability = IMAP4rev1 X-THREE\n");
    CHECK(has(replaces.command("CAPABILITY"), "* CAPABILITY IMAP4rev1 X-THREE\r\n"));
}

TEST_CASE("too many bad commands end the session, a good one in between does not count", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    for (int i = 0; i < 19; ++i) {
        client.command("FOO");
    }
    client.command("NOOP");
    for (int i = 0; i < 19; ++i) {
        client.command("FOO");
    }
    CHECK_FALSE(client.done());
    CHECK(has(client.command("FOO"), "* BYE Too many"));
}

TEST_CASE("a line that is too long is refused and the next one is read", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch, "imap_max_line_length = 2000\n");
    CHECK(client.send("a1 NOOP " + std::string(3000, 'x') + "\r\n", "a1").find("a1 BAD [LIMIT]") == 0);
    CHECK(has(client.send(std::string(3000, 'x') + "\r\n", "*"), "* BAD [LIMIT]"));
    CHECK(has(client.send("(a NOOP " + std::string(3000, 'x') + "\r\n", "*"), "* BAD [LIMIT]"));
    CHECK(has(client.command("NOOP"), "OK"));
    CHECK(has(client.command("LIST \"\" {5000}"), "BAD [LIMIT]"));
    CHECK(has(client.command("NOOP"), "OK"));
    const std::string big(3000, 'x');
    CHECK(has(client.command("LIST \"\" {3000+}\r\n" + big), "BAD [LIMIT]"));
    CHECK(has(client.command("NOOP"), "OK"));
    CHECK(has(client.command("LIST \"\" {99999999999999999999+}"), "BYE"));
}

TEST_CASE("a session that is stopped says BYE, idle or in IDLE, and after the command it is in", "[imapd]") {
    ScratchAccount scratch;
    const std::pair<const char*, const char*> states[] = {
        {"", "login OK"}, {"s SELECT INBOX\r\n", "s OK"}, {"s SELECT INBOX\r\ni IDLE\r\n", "+ idling"}};
    for (const auto& [before, answer] : states) {
        CAPTURE(before);
        Dialogue client(scratch);
        client.feed(before);
        client.wait_for(answer);
        client.forget();
        client.session().stop();
        CHECK(client.wait_for("* BYE") == "* BYE Server shutting down.\r\n");
        CHECK(client.done());
    }
    Dialogue busy(scratch);
    busy.feed("a APPEND INBOX {5+}\r\nab");
    busy.forget();
    busy.session().stop();
    CHECK(busy.stream().sent().empty());
    busy.feed("cde\r\nb NOOP\r\n");
    const std::string rest = busy.wait_for("* BYE");
    CHECK(rest.find("a OK [APPENDUID ") == 0);
    CHECK(has(rest, "] Append completed.\r\n* BYE Server shutting down.\r\n"));
    CHECK_FALSE(has(rest, "b OK"));
}

TEST_CASE("SELECT tells what a client needs, EXAMINE does not change anything", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    fill(client, 2);
    const std::string selected = client.command("SELECT inbox");
    CHECK(has(selected, "* OK [CLOSED]"));
    CHECK(has(selected, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"));
    CHECK(has(selected, "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)]"));
    CHECK(has(selected, "* 2 EXISTS\r\n"));
    CHECK(has(selected, "* 0 RECENT\r\n"));
    CHECK(has(selected, "* OK [UNSEEN 1]"));
    CHECK(has(selected, "* OK [UIDNEXT 3]"));
    CHECK(has(selected, "* OK [UIDVALIDITY "));
    CHECK(has(selected, "* OK [HIGHESTMODSEQ "));
    const std::string examined = client.command("EXAMINE INBOX");
    CHECK(has(examined, "PERMANENTFLAGS ()"));
    CHECK(has(examined, "OK [READ-ONLY]"));
    CHECK(has(client.command("STORE 1 +FLAGS \\Seen"), "NO [CANNOT]"));
    CHECK(has(client.command("EXPUNGE"), "NO [CANNOT]"));
    CHECK(has(client.command("MOVE 1 Trash"), "NO [CANNOT]"));
    client.command("FETCH 1 BODY[]");
    CHECK(has(client.command("FETCH 1 FLAGS"), "FLAGS ()"));
    CHECK(has(client.command("SELECT nothere"), "NO [NONEXISTENT]"));
    CHECK(has(client.command("FETCH 1 FLAGS"), "BAD No mailbox"));
    CHECK(has(client.command("SELECT \"&&&\""), "NO [CANNOT]"));
}

TEST_CASE("\\Recent goes to one session", "[imapd]") {
    ScratchAccount scratch;
    Dialogue first(scratch);
    first.append("INBOX", kMessage);
    CHECK(has(first.command("SELECT INBOX"), "* 1 RECENT"));
    CHECK(has(first.command("FETCH 1 FLAGS"), "\\Recent"));
    Dialogue second(scratch);
    CHECK(has(second.command("SELECT INBOX"), "* 0 RECENT"));
    CHECK_FALSE(has(second.command("FETCH 1 FLAGS"), "\\Recent"));
}

TEST_CASE("APPEND", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch, "imap_literal_size_limit = 1000\n");
    const std::string answer =
        client.append("INBOX", kMessage, "(\\Seen $Junk) \"17-Jul-1996 02:44:25 -0700\" ");
    CHECK(has(answer, "OK [APPENDUID "));
    CHECK(has(answer, " 1] Append completed."));
    client.command("SELECT INBOX");
    const std::string fetched = client.command("FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)");
    CHECK(has(fetched, "\\Seen"));
    CHECK(has(fetched, "$Junk"));
    CHECK(has(fetched, "INTERNALDATE \"17-Jul-1996"));
    CHECK(has(fetched, "RFC822.SIZE " + std::to_string(kMessage.size())));
    CHECK(has(client.append("INBOX", kMessage), "* 2 EXISTS"));
    CHECK(has(client.append("nowhere", kMessage), "NO [TRYCREATE]"));
    CHECK(has(client.append("INBOX", std::string(1001, 'x')), "NO [TOOBIG]"));
    CHECK(has(client.append("INBOX", ""), "NO"));
    CHECK(has(client.append("INBOX", kMessage, "(\\Recent) "), "BAD"));
    CHECK(has(client.append("INBOX", kMessage, "\"yesterday\" "), "BAD"));
    CHECK(has(client.command("APPEND INBOX \"x\""), "BAD"));
    CHECK(has(client.command("APPEND"), "BAD"));
    // literal8 (RFC 3516): text is taken, what would change in storage is not.
    CHECK(has(client.command("APPEND nowhere ~{9+}\r\nA: b\r\n\r\nc"), "NO [TRYCREATE]"));
    CHECK(has(client.command("APPEND INBOX ~{9+}\r\nA: b\n\r\nc\n"), "NO [UNKNOWN-CTE]"));
    // The synchronising form: refused before anything is sent, else asked for.
    CHECK(has(client.command("APPEND INBOX {1001}"), "NO [TOOBIG]"));
    CHECK(has(client.command("APPEND nowhere {10}"), "NO [TRYCREATE]"));
    client.forget();
    client.feed("b APPEND INBOX {" + std::to_string(kMessage.size()) + "}\r\n");
    CHECK(client.wait_for("+ OK\r\n") == "+ OK\r\n");
    CHECK(has(client.send(kMessage + "\r\n", "b"), "b OK [APPENDUID"));
    CHECK(has(client.command("APPEND INBOX ~{9+}\r\nA: b\r\n\r\nc"), "OK [APPENDUID"));
    CHECK(has(client.command("FETCH 3 BODY.PEEK[]"), "{" + std::to_string(kMessage.size()) + "}\r\n" + kMessage + ")"));
}

TEST_CASE("appends of many sessions at once each get their own UID", "[imapd]") {
    ScratchAccount scratch;
    std::vector<std::unique_ptr<Dialogue>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<Dialogue>(scratch));
    }
    const std::string command = "a APPEND INBOX {" + std::to_string(kMessage.size()) + "+}\r\n" + kMessage + "\r\n";
    for (auto& client : clients) {
        client->feed(command + "b APPEND nowhere {1+}\r\nx\r\n");
    }
    std::vector<bool> seen(9, false);
    for (auto& client : clients) {
        const std::string sent = client->wait_for("b NO [TRYCREATE]");
        const std::size_t end = sent.find("] Append completed");
        REQUIRE(end != std::string::npos);
        const int uid = std::stoi(sent.substr(sent.rfind(' ', end)));
        REQUIRE((uid >= 1 && uid <= 8));
        CHECK_FALSE(seen[static_cast<std::size_t>(uid)]);
        seen[static_cast<std::size_t>(uid)] = true;
    }
    CHECK(has(clients[0]->command("STATUS INBOX (MESSAGES)"), "(MESSAGES 8)"));
}

TEST_CASE("MULTIAPPEND is all or nothing", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    const std::string literal = "{" + std::to_string(kMessage.size()) + "+}\r\n" + kMessage;
    CHECK(has(client.command("APPEND INBOX (\\Seen) " + literal + " (\\Draft) " + literal), " 1:2] Append"));
    CHECK(has(client.command("APPEND INBOX " + literal + " {0+}\r\n"), "NO"));
    CHECK(has(client.command("APPEND INBOX " + literal + " nonsense"), "BAD"));
    CHECK(has(client.command("STATUS INBOX (MESSAGES)"), "(MESSAGES 2)"));
}

TEST_CASE("a literal behind a bad MULTIAPPEND is no command", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    const std::string good = "{" + std::to_string(kMessage.size()) + "+}\r\n" + kMessage;
    const std::string evil = "x CREATE evil\r\n";
    const std::string bad = " (\\NoSuchFlag) {" + std::to_string(evil.size()) + "+}\r\n" + evil;
    CHECK(has(client.command("APPEND INBOX " + good + bad), "BAD"));
    CHECK_FALSE(has(client.command("LIST \"\" *"), "evil"));
    CHECK(has(client.command("APPEND INBOX " + good + bad + bad), "BAD"));
    CHECK_FALSE(has(client.command("LIST \"\" *"), "evil"));
    CHECK(has(client.command("APPEND INBOX " + good + " (\\NoSuchFlag) {10}"), "BAD"));   // the client waits
    CHECK(has(client.command("STATUS INBOX (MESSAGES)"), "(MESSAGES 0)"));
}

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

TEST_CASE("LIST, LSUB and subscriptions", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    CHECK(has(client.command("LIST \"\" \"\""), "* LIST (\\Noselect) \".\" \"\"\r\n"));
    for (const char* const name : {"Work", "Work.Sub", "Deep.er.est", "Sent", "\"with space\"", "\"p&AOQ-\""}) {
        CAPTURE(name);
        CHECK(has(client.command(std::string("CREATE ") + name), "OK"));
    }
    const std::string all = client.command("LIST \"\" *");
    CHECK(has(all, "* LIST (\\HasNoChildren) \".\" INBOX\r\n"));
    CHECK(has(all, "* LIST (\\HasChildren) \".\" Work\r\n"));
    CHECK(has(all, "* LIST (\\HasNoChildren) \".\" Work.Sub\r\n"));
    CHECK(has(all, "* LIST (\\Noselect \\HasChildren) \".\" Deep\r\n"));
    CHECK(has(all, "* LIST (\\HasNoChildren \\Sent) \".\" Sent\r\n"));
    CHECK(has(all, "\"with space\""));
    CHECK(has(all, "p&AOQ-"));
    const std::string top = client.command("LIST \"\" %");
    CHECK(has(top, " Work\r\n"));
    CHECK_FALSE(has(top, "Work.Sub"));
    CHECK(has(client.command("LIST \"\" inbox"), " INBOX\r\n"));
    CHECK(has(client.command("LIST Work. %"), " Work.Sub\r\n"));
    CHECK(client.command("LIST \"\" none") == "OK List completed.\r\n");
    CHECK(has(client.command("SUBSCRIBE Work.Sub"), "OK"));
    CHECK(has(client.command("SUBSCRIBE none"), "NO [NONEXISTENT]"));
    CHECK(has(client.command("LSUB \"\" *"), "* LSUB () \".\" Work.Sub\r\n"));
    CHECK(has(client.command("LSUB \"\" %"), "* LSUB (\\Noselect) \".\" Work\r\n"));
    const std::string extended = client.command("LIST (SUBSCRIBED) \"\" * RETURN (CHILDREN STATUS (MESSAGES))");
    CHECK(has(extended, "* LIST (\\Subscribed \\HasNoChildren) \".\" Work.Sub\r\n* STATUS Work.Sub (MESSAGES 0)\r\n"));
    CHECK(has(client.command("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %"), "Work (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"));
    CHECK(has(client.command("LIST (SPECIAL-USE) \"\" *"), "\\Sent) \".\" Sent\r\n"));
    CHECK(has(client.command("LIST \"\" (Work INBOX)"), " Work\r\n"));
    CHECK(has(client.command("DELETE Work.Sub"), "OK"));
    CHECK(has(client.command("LIST (SUBSCRIBED) \"\" *"), "\\NonExistent \\Subscribed"));
    CHECK(has(client.command("UNSUBSCRIBE Work.Sub"), "OK"));
    CHECK(client.command("LSUB \"\" *") == "OK Lsub completed.\r\n");
}

TEST_CASE("CREATE, DELETE, RENAME, STATUS", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    CHECK(has(client.command("CREATE a.b"), "OK"));
    CHECK(has(client.command("CREATE a.b"), "NO [ALREADYEXISTS]"));
    CHECK(has(client.command("CREATE c."), "OK"));
    CHECK(has(client.command("CREATE Drafts (USE (\\Drafts))"), "OK"));
    CHECK(has(client.command("CREATE x (USE (\\All))"), "NO [USEATTR]"));
    CHECK(has(client.command("CREATE x (USE (\\Sent \\Nonsense))"), "NO [USEATTR]"));
    CHECK(has(client.command("CREATE x (USE (\\Sen))"), "NO [USEATTR]"));
    CHECK(has(client.command("LIST \"\" x"), "OK List completed.") );
    CHECK_FALSE(has(client.command("LIST \"\" x"), "* LIST"));
    CHECK(has(client.command("CREATE Entwurf (USE (\\drafts \\Archive))"), "OK"));
    CHECK(has(client.command("LIST (SPECIAL-USE) \"\" Entwurf"), "\\Archive \\Drafts) \".\" Entwurf\r\n"));
    CHECK(has(client.command("LIST \"\" Entwurf RETURN (SPECIAL-USE)"), "\\Archive \\Drafts) \".\" Entwurf\r\n"));
    CHECK(has(client.command("DELETE Entwurf"), "OK"));
    CHECK(has(client.command("CREATE \"\""), "NO [CANNOT] Invalid mailbox name: Name is empty"));
    CHECK(has(client.command("SELECT \"\""), "NO [CANNOT] Invalid mailbox name: Name is empty"));
    CHECK(has(client.command("RENAME INBOX \"\""), "NO [CANNOT] Invalid mailbox name: Name is empty"));
    CHECK(has(client.command("CREATE \"&\""), "Mailbox name is not valid modified UTF-7"));
    CHECK(has(client.command("CREATE"), "BAD"));
    CHECK(has(client.append("a.b", kMessage), "OK"));
    CHECK(has(client.command("STATUS a.b (MESSAGES UNSEEN RECENT UIDNEXT SIZE)"),
              "* STATUS a.b (MESSAGES 1 RECENT 1 UIDNEXT 2 UNSEEN 1 SIZE " + std::to_string(kMessage.size()) + ")"));
    CHECK(has(client.command("RENAME a.b z"), "OK"));
    CHECK(has(client.command("STATUS a.b (MESSAGES)"), "NO [NONEXISTENT]"));
    CHECK(has(client.command("SELECT z"), "* 1 EXISTS"));
    CHECK(has(client.command("DELETE z"), "OK"));
    CHECK(has(client.command("FETCH 1 UID"), "BAD No mailbox selected"));
    CHECK(has(client.command("DELETE INBOX"), "NO [CANNOT]"));
    CHECK(has(client.command("DELETE z"), "NO [NONEXISTENT]"));
    CHECK(has(client.command("RENAME nope y"), "NO [NONEXISTENT]"));
    client.append("INBOX", kMessage);
    CHECK(has(client.command("RENAME INBOX old"), "OK"));
    CHECK(has(client.command("STATUS old (MESSAGES)"), "(MESSAGES 1)"));
    CHECK(has(client.command("STATUS INBOX (MESSAGES)"), "(MESSAGES 0)"));
}

TEST_CASE("IDLE tells about changes while it waits", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    Dialogue other(scratch);
    client.command("SELECT INBOX");
    client.forget();
    client.feed("i IDLE\r\n");
    CHECK(client.wait_for("+ idling\r\n") == "+ idling\r\n");
    other.append("INBOX", kMessage);
    CHECK(client.wait_for("RECENT") == "+ idling\r\n* 1 EXISTS\r\n* 1 RECENT\r\n");
    CHECK(has(client.send("DONE\r\n", "i"), "i OK Idle completed."));
    client.feed("j IDLE\r\n");
    client.wait_for("+ idling");
    CHECK(has(client.send("STOP\r\n", "j"), "j BAD Expected DONE."));
    client.feed("k IDLE\r\n");
    client.wait_for("+ idling");
    client.session().stop();
    CHECK(has(client.wait_for("BYE"), "* BYE Server shutting down."));
    CHECK(client.done());
}

TEST_CASE("a mailbox that is deleted under a session ends it", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    client.command("CREATE gone");
    client.command("SELECT gone");
    Dialogue other(scratch);
    other.command("DELETE gone");
    CHECK(has(client.command("NOOP"), "* BYE"));
}

TEST_CASE("answers do not depend on how the bytes are cut", "[imapd]") {
    const std::string script =
        "a CREATE x\r\nb APPEND INBOX (\\Seen) {" + std::to_string(kMessage.size()) + "+}\r\n" + kMessage +
        "\r\nc SELECT {5+}\r\nINBOX\r\nd FETCH 1 (FLAGS BODY.PEEK[HEADER.FIELDS (\"Subject\")])\r\n"
        "e SEARCH SUBJECT {5+}\r\nfirst\r\nf LOGOUT\r\n";
    const auto strip = [](std::string text) {
        for (const char* const varying : {"APPENDUID ", "UIDVALIDITY "}) {
            const std::size_t at = text.find(varying);
            if (at != std::string::npos) {
                text.erase(at, text.find_first_of(" ]", at + std::string(varying).size()) - at);
            }
        }
        return text;
    };
    const auto run = [&](std::size_t cut) {
        ScratchAccount scratch;
        Dialogue client(scratch);
        client.feed(script.substr(0, cut));
        client.feed(script.substr(cut));
        return strip(client.wait_for("f OK Logout completed.\r\n"));
    };
    const std::string whole = run(0);
    REQUIRE(has(whole, "* SEARCH 1\r\n"));
    for (std::size_t cut = 1; cut < script.size(); cut += 3) {
        CAPTURE(cut);
        REQUIRE(run(cut) == whole);
    }
}

TEST_CASE("a client that says nothing is logged out", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch);
    client.command("NOOP");
    client.stream().expire();
    CHECK(has(client.wait_for("BYE"), "* BYE Disconnected for inactivity."));
    CHECK(client.done());
}

TEST_CASE("a session is logged as Dovecot logs it", "[imapd]") {
    ScratchAccount scratch;
    LogCapture log;
    {
        Dialogue client(scratch);
        client.command("LOGOUT");
        CHECK(has(log.last(), "imap(fred)<"));
        CHECK(has(log.last(), "><s1>: Logged out in="));
        CHECK(has(log.last(), " deleted=0 expunged=0 trashed=0 hdr_count=0 hdr_bytes=0 body_count=0 body_bytes=0"));
    }
    {
        Dialogue client(scratch);
        client.command("NOOP");
    }
    CHECK(has(log.last(), "Connection closed in="));
}
