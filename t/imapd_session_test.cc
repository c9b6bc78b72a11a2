#include <catch2/catch.hpp>

#include "t/imapd_dialogue.h"

using namespace postern;
using namespace postern::imapd;

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
