#include <catch2/catch.hpp>

#include "t/pop3d_dialogue.h"

using namespace postern;
using namespace postern::pop3d;

namespace {

const std::string kFirst = "Subject: one\n\n.dot\nline\n";                                        // 28 octets with CRLF
const std::string kFirstSent = "Subject: one\r\n\r\n..dot\r\nline\r\n.\r\n";
const std::string kSecond = "Subject: two\nX-UIDL: old.id\n\nA\nB\nC\n";                           // 41

void fill(ScratchAccount& scratch) {
    scratch.add(kFirst);
    scratch.add(kSecond);
}

}  // namespace

TEST_CASE("a session that is stopped says so and removes nothing", "[pop3d]") {
    ScratchAccount scratch;
    scratch.add("Subject: x\n\nx\n");
    Dialogue client(scratch);
    client.say("DELE 1\r\n");
    client.stop();
    CHECK(client.done());
    CHECK(client.last_words() == "-ERR [SYS/TEMP] Server shutting down.\r\n");
    CHECK(scratch.status().messages == 1);
}

TEST_CASE("an empty mailbox is no special case", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    Dialogue client(scratch);
    CHECK(client.greeting() == "+OK Logged in.\r\n");
    CHECK(client.say("STAT\r\nLIST\r\nUIDL\r\nNOOP\r\nRSET\r\n") == "+OK 0 0\r\n+OK 0 messages:\r\n.\r\n+OK\r\n.\r\n+OK\r\n+OK\r\n");
    CHECK(client.say("RETR 1\r\n") == "-ERR There's no message 1.\r\n");
    CHECK(client.say("QUIT\r\n") == "+OK Logging out.\r\n");
}

TEST_CASE("STAT, LIST, RETR and TOP count and send as RFC 1939 says", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    Dialogue client(scratch);
    CHECK(client.say("STAT\r\n") == "+OK 2 69\r\n");
    CHECK(client.say("LIST\r\n") == "+OK 2 messages:\r\n1 28\r\n2 41\r\n.\r\n");
    CHECK(client.say("list 2\r\n") == "+OK 2 41\r\n");
    CHECK(client.say("RETR 1\r\n") == "+OK 28 octets\r\n" + kFirstSent);
    CHECK(client.say("TOP 2 1\r\n") == "+OK\r\nSubject: two\r\nX-UIDL: old.id\r\n\r\nA\r\n.\r\n");
    CHECK(client.say("TOP 2 0\r\n") == "+OK\r\nSubject: two\r\nX-UIDL: old.id\r\n\r\n.\r\n");
    CHECK(has(client.say("CAPA\r\n"), "PIPELINING\r\n"));
    CHECK_FALSE(has(client.say("CAPA\r\n"), "LAST"));
}

TEST_CASE("every command refuses what it cannot use and the conversation goes on", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    Dialogue client(scratch);
    for (const char* bad : {"", " ", "FOO", "RETR", "RETR x", "RETR 0", "RETR 3", "RETR -1", "RETR 1 2", "RETR 99999999999999999999",
                            "TOP", "TOP 1", "TOP 1 x", "TOP 1 -1", "TOP 3 1", "TOP 1 1 1", "DELE", "DELE x", "DELE 3", "DELE 1 2",
                            "LIST x", "LIST 3", "LIST 1 2", "UIDL x", "UIDL 3", "UIDL 1 2", "STAT x", "NOOP x", "RSET x", "QUIT x", "LAST",
                            "CAPA x", "USER fred", "PASS x", "STLS", "AUTH PLAIN", "APOP a b", "RETR\t1", "\x80\xff"}) {
        CAPTURE(bad);
        const std::string answer = client.say(std::string(bad) + "\r\n");
        CHECK(answer.substr(0, 5) == "-ERR ");
        CHECK(answer.find("\r\n") == answer.size() - 2);
        CHECK(client.say("NOOP\r\n") == "+OK\r\n");
    }
    CHECK(client.say(std::string(300, 'x') + "\r\n") == "-ERR Command line too long.\r\n");
    CHECK(client.say(std::string("RETR 1\0\r\n", 9)).substr(0, 4) == "-ERR");
    CHECK(client.say("NOOP\n") == "+OK\r\n");
    CHECK(client.say("STAT\r\n") == "+OK 2 69\r\n");
}

TEST_CASE("too many wrong commands in a row end the session", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    Dialogue client(scratch);
    std::string all;
    for (int i = 0; i < 20; ++i) {
        all += "FOO\r\n";
    }
    client.say(all);
    client.hang_up();
    CHECK(has(client.last_words(), "-ERR Too many invalid commands.\r\n"));
}

TEST_CASE("deleted messages are gone after QUIT, their numbers are not reused", "[pop3d]") {
    ScratchAccount scratch;
    fill(scratch);
    LogCapture log;
    {
        Dialogue client(scratch);
        CHECK(client.say("DELE 1\r\n") == "+OK Marked to be deleted.\r\n");
        CHECK(client.say("DELE 1\r\n") == "-ERR Message is deleted.\r\n");
        CHECK(client.say("RETR 1\r\n") == "-ERR Message is deleted.\r\n");
        CHECK(client.say("STAT\r\n") == "+OK 1 41\r\n");
        CHECK(client.say("LIST\r\n") == "+OK 1 messages:\r\n2 41\r\n.\r\n");
        CHECK(client.say("LIST 2\r\n") == "+OK 2 41\r\n");
        CHECK(client.say("RSET\r\n") == "+OK\r\n");
        CHECK(client.say("STAT\r\n") == "+OK 2 69\r\n");
        CHECK(client.say("RETR 2\r\n").substr(0, 4) == "+OK ");
        CHECK(client.say("DELE 1\r\nQUIT\r\n") == "+OK Marked to be deleted.\r\n+OK Logging out, messages deleted.\r\n");
        CHECK(has(log.last(), "pop3(fred)<"));
        CHECK(has(log.last(), "><s1>: Disconnected: Logged out top=0/0, retr=1/41, del=1/2, size=69"));
    }
    CHECK(scratch.status().messages == 1);
    CHECK(scratch.status().unseen == 0);
    Dialogue again(scratch);
    CHECK(again.say("LIST\r\n") == "+OK 1 messages:\r\n1 41\r\n.\r\n");
}

TEST_CASE("without QUIT nothing is deleted, but what was read has been read", "[pop3d]") {
    ScratchAccount scratch;
    fill(scratch);
    LogCapture log;
    {
        Dialogue client(scratch);
        client.say("RETR 1\r\nDELE 1\r\nDELE 2\r\n");
        client.hang_up();
        CHECK(has(log.last(), "Disconnected: Connection closed top=0/0, retr=1/28, del=0/2, size=69"));
    }
    CHECK(scratch.status().messages == 2);
    CHECK(scratch.status().unseen == 1);
    {
        Dialogue client(scratch);
        client.say("DELE 1\r\n");
        client.expire();
        CHECK(client.last_words() == "-ERR Disconnected for inactivity.\r\n");
        CHECK(has(log.last(), "Disconnected for inactivity"));
    }
    CHECK(scratch.status().messages == 2);
}

TEST_CASE("pop3_no_flag_updates leaves flags alone", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    Dialogue client(scratch, "pop3_no_flag_updates = yes\n");
    client.say("RETR 1\r\nQUIT\r\n");
    CHECK(scratch.status().unseen == 2);
}

TEST_CASE("UIDL is stable and follows pop3_uidl_format", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    std::string first;
    {
        Dialogue client(scratch);
        first = client.say("UIDL\r\n");
        CHECK(first.substr(0, 6) == "+OK\r\n1");
        CHECK(has(first, "1 00000001"));
        CHECK(has(first, "2 00000002"));
        CHECK(has(client.say("UIDL 2\r\n"), "+OK 2 00000002"));
        client.say("DELE 1\r\n");
        CHECK_FALSE(has(client.say("UIDL\r\n"), "1 0000"));
    }
    CHECK(Dialogue(scratch).say("UIDL\r\n") == first);
    const std::string names = Dialogue(scratch, "pop3_uidl_format = %g\n").say("UIDL\r\n");
    CHECK(names == Dialogue(scratch, "pop3_uidl_format = %f\n").say("UIDL\r\n"));
    CHECK(names.size() > 30);
    const std::string md5 = Dialogue(scratch, "pop3_uidl_format = %m\n").say("UIDL 1\r\n");
    CHECK(md5.size() == std::string("+OK 1 ").size() + 32 + 2);
    CHECK(Dialogue(scratch, "pop3_reuse_xuidl = yes\n").say("UIDL 2\r\n") == "+OK 2 old.id\r\n");
    CHECK(has(Dialogue(scratch, "pop3_uidl_format = same\n").say("UIDL\r\n"), "1 same\r\n2 same\r\n"));
    CHECK(has(Dialogue(scratch, "pop3_uidl_format = same\npop3_uidl_duplicates = rename\n").say("UIDL\r\n"), "1 same\r\n2 same-2\r\n"));
    CHECK(has(Dialogue(scratch, "pop3_uidl_format = %q\n").greeting(), "-ERR [SYS/PERM]"));
}

TEST_CASE("pop3_lock_session lets one session in at a time", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    Dialogue first(scratch, "pop3_lock_session = yes\n");
    CHECK(first.greeting() == "+OK Logged in.\r\n");
    {
        Dialogue second(scratch, "pop3_lock_session = yes\n");
        CHECK(second.greeting().substr(0, 14) == "-ERR [IN-USE] ");
    }
    first.say("QUIT\r\n");
    Dialogue third(scratch, "pop3_lock_session = yes\n");
    CHECK(third.greeting() == "+OK Logged in.\r\n");
}

TEST_CASE("pop3_delete_type = flag hides a message instead of removing it", "[pop3d]") {
    LogCapture log;
    for (const char* flag : {"$POP3Deleted", "\\Deleted"}) {
        CAPTURE(flag);
        ScratchAccount scratch;
        fill(scratch);
        const std::string plain = std::string("pop3_delete_type = flag\npop3_deleted_flag = ") + (flag[0] == '$' ? "$" : "") + flag + "\n";
        {
            Dialogue client(scratch, plain);
            client.say("DELE 1\r\nQUIT\r\n");
        }
        CHECK(scratch.status().messages == 2);
        CHECK(Dialogue(scratch, plain).say("STAT\r\n") == "+OK 1 41\r\n");
        CHECK(Dialogue(scratch).say("STAT\r\n") == "+OK 2 69\r\n");
    }
}

TEST_CASE("sizes learnt by an earlier session are used and completed", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    const Config config = Config::defaults();
    KnownSizes known;
    {
        OpenedMaildrop first = Maildrop::open(scratch.account(), config);
        REQUIRE(first);
        known = (*first)->sizes();
        REQUIRE(known.sizes.size() == 2);
        known.sizes[1].second = 1000;          // to see that it is not asked for again
    }
    scratch.add(kFirst);
    OpenedMaildrop second = Maildrop::open(scratch.account(), config, &known);
    REQUIRE(second);
    CHECK((*second)->octets() == 28 + 1000 + 28);
    known.sizes.erase(known.sizes.begin());
    CHECK((*Maildrop::open(scratch.account(), config, &known))->octets() == 28 + 1000 + 28);
    known.uidvalidity += 1;                    // another mailbox under the same name
    CHECK((*Maildrop::open(scratch.account(), config, &known))->octets() == 28 + 41 + 28);
}

TEST_CASE("LAST, for programs older than RFC 1725", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    {
        Dialogue client(scratch, "pop3_enable_last = yes\n");
        CHECK(client.say("LAST\r\n") == "+OK 0\r\n");
        client.say("RETR 1\r\n");
        CHECK(client.say("LAST\r\n") == "+OK 1\r\n");
        client.say("DELE 2\r\n");
        CHECK(client.say("LAST\r\n") == "+OK 2\r\n");
        client.say("RSET\r\n");
        CHECK(client.say("LAST\r\n") == "+OK 0\r\n");
        CHECK(has(client.say("CAPA\r\n"), "LAST\r\n"));
        client.say("QUIT\r\n");
    }
    CHECK(Dialogue(scratch, "pop3_enable_last = yes\n").say("LAST\r\n") == "+OK 1\r\n");
}

TEST_CASE("answers do not depend on how the bytes are cut", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    const std::string script = "STAT\r\nLIST 1\r\nRETR 1\r\nTOP 2 1\r\nFOO\r\nUIDL\r\nDELE 2\r\nRSET\r\nNOOP\r\n";
    const std::string whole = Dialogue(scratch).say(script);
    CHECK(has(whole, kFirstSent));
    for (std::size_t cut = 1; cut < script.size(); ++cut) {
        CAPTURE(cut);
        Dialogue pieces(scratch);
        std::string sent = pieces.say(script.substr(0, cut));
        sent += pieces.say(script.substr(cut));
        CHECK(sent == whole);
    }
}

TEST_CASE("a large message goes out whole", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    std::string text = "Subject: big\n\n";
    std::string expected = "Subject: big\r\n\r\n";
    for (int i = 0; i < 30000; ++i) {
        const std::string line = (i % 7 == 0 ? "." : "") + std::string(static_cast<std::size_t>(i % 90), 'x');
        text += line + "\n";
        expected += (i % 7 == 0 ? "." : "") + line + "\r\n";
    }
    scratch.add(text);
    Dialogue client(scratch);
    const std::string sent = client.say("RETR 1\r\n");
    const std::size_t begin = sent.find("\r\n") + 2;
    CHECK(sent.substr(begin) == expected + ".\r\n");
}

TEST_CASE("a message that another program removed is missed politely", "[pop3d]") {
    LogCapture log;
    ScratchAccount scratch;
    fill(scratch);
    Dialogue client(scratch);
    for (const char* folder : {"/Maildir/cur", "/Maildir/new"}) {
        for (const auto& entry : std::filesystem::directory_iterator(scratch.directory() + folder)) {
            std::filesystem::remove(entry.path());
        }
    }
    CHECK(client.say("RETR 1\r\n").substr(0, 4) == "-ERR");
    CHECK(client.say("NOOP\r\n") == "+OK\r\n");
    CHECK(client.say("DELE 2\r\nQUIT\r\n").substr(0, 3) == "+OK");
}
