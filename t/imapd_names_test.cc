/// namespace_prefix and imap_client_workarounds: what clients call mailboxes, and when they hear of new mail.
#include <catch2/catch.hpp>

#include "t/imapd_dialogue.h"

using namespace postern;
using namespace postern::imapd;

TEST_CASE("mailboxes have the prefix, and INBOX has not", "[imapd]") {
    ScratchAccount scratch;
    Dialogue client(scratch, "namespace_prefix = INBOX.\n");
    CHECK(has(client.command("NAMESPACE"), "* NAMESPACE ((\"INBOX.\" \".\")) NIL NIL\r\n"));
    CHECK(has(client.command("LIST \"\" *"), "* LIST (\\HasNoChildren) \".\" INBOX\r\n"));
    CHECK(has(client.command("LIST \"\" \"\""), "* LIST (\\Noselect) \".\" \"\"\r\n"));
    CHECK(has(client.command("LIST INBOX. \"\""), "* LIST (\\Noselect) \".\" INBOX.\r\n"));
    CHECK(has(client.command("CREATE foo"), "NO [CANNOT] Client tried to access nonexistent namespace. (Mailbox name should "
                                            "probably be prefixed with: INBOX.)"));
    CHECK(has(client.command("CREATE INBOX.foo"), "OK"));
    CHECK(has(client.command("CREATE inbox.foo.bar"), "OK"));
    CHECK(has(client.command("CREATE INBOX."), "NO [ALREADYEXISTS]"));
    CHECK(scratch.account().exists("foo"));
    CHECK(scratch.account().exists("foo.bar"));
    const std::string all = client.command("LIST \"\" *");
    CHECK(has(all, "* LIST (\\HasChildren) \".\" INBOX\r\n"));
    CHECK(has(all, "* LIST (\\HasChildren) \".\" INBOX.foo\r\n"));
    CHECK(has(all, "* LIST (\\HasNoChildren) \".\" INBOX.foo.bar\r\n"));
    CHECK(client.command("LIST \"\" %") == "* LIST (\\HasChildren) \".\" INBOX\r\nOK List completed.\r\n");
    CHECK(client.command("LIST INBOX. %") == "* LIST (\\HasChildren) \".\" INBOX.foo\r\nOK List completed.\r\n");
    CHECK(has(client.command("SUBSCRIBE INBOX.foo.bar"), "OK"));
    CHECK(has(client.command("SUBSCRIBE foo"), "NO [CANNOT]"));
    CHECK(has(client.command("LSUB \"\" *"), "* LSUB () \".\" INBOX.foo.bar\r\n"));
    CHECK(has(client.command("LSUB \"\" INBOX.%"), "* LSUB (\\Noselect) \".\" INBOX.foo\r\n"));
    CHECK(has(client.command("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %"), "INBOX (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"));
    CHECK(has(client.append("INBOX.foo", kMessage), "OK [APPENDUID"));
    CHECK(has(client.command("STATUS INBOX.foo (MESSAGES)"), "* STATUS INBOX.foo (MESSAGES 1)"));
    CHECK(has(client.command("LIST \"\" * RETURN (STATUS (MESSAGES))"), "* STATUS INBOX.foo (MESSAGES 1)"));
    CHECK(has(client.command("SELECT INBOX.foo"), "* 1 EXISTS"));
    CHECK(has(client.command("COPY 1 INBOX.foo.bar"), "OK [COPYUID"));
    CHECK(has(client.command("COPY 1 foo"), "NO [CANNOT]"));
    CHECK(has(client.command("RENAME INBOX.foo INBOX.baz"), "OK"));
    CHECK(has(client.command("RENAME INBOX.baz baz"), "NO [CANNOT]"));
    CHECK(has(client.command("STATUS INBOX.baz.bar (MESSAGES)"), "* STATUS INBOX.baz.bar (MESSAGES 1)"));
    CHECK(has(client.command("DELETE INBOX."), "NO [CANNOT]"));
    CHECK(has(client.command("DELETE INBOX"), "NO [CANNOT]"));
    CHECK(has(client.command("DELETE INBOX.baz.bar"), "OK"));
    CHECK(has(client.command("SELECT INBOX.INBOX"), "OK [READ-WRITE]"));
}

TEST_CASE("a prefix of another name is a level that holds no mail", "[imapd]") {
    ScratchAccount scratch('/');
    Dialogue client(scratch, "namespace_prefix = Mail/\n");
    CHECK(client.command("LIST \"\" *") == "* LIST (\\HasNoChildren) \"/\" INBOX\r\nOK List completed.\r\n");
    CHECK(has(client.command("CREATE Mail/a/b"), "OK"));
    CHECK(has(client.command("CREATE Mail/"), "NO [ALREADYEXISTS]"));
    CHECK(has(client.command("CREATE Mail"), "NO [ALREADYEXISTS]"));
    CHECK(has(client.command("CREATE INBOX/x"), "NO [CANNOT]"));
    const std::string top = client.command("LIST \"\" %");
    CHECK(has(top, "* LIST (\\HasNoChildren) \"/\" INBOX\r\n"));
    CHECK(has(top, "* LIST (\\Noselect \\HasChildren) \"/\" Mail\r\n"));
    CHECK(has(client.command("SELECT Mail"), "NO [NONEXISTENT]"));
    CHECK(has(client.command("DELETE Mail"), "NO [NONEXISTENT]"));
    CHECK(has(client.command("SUBSCRIBE Mail/a/b"), "OK"));
    CHECK(has(client.command("LSUB \"\" %"), "* LSUB (\\Noselect) \"/\" Mail\r\n"));
    CHECK(has(client.command("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %"), "Mail (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"));
}

TEST_CASE("a separator too many is an error, or with tb-extra-mailbox-sep not there", "[imapd]") {
    ScratchAccount scratch('/');
    Dialogue strict(scratch);
    Dialogue forgiving(scratch, "imap_client_workarounds = tb-extra-mailbox-sep\n");
    CHECK(has(strict.command("CREATE c"), "OK"));
    for (const char* const command : {"SELECT c/", "STATUS c/ (MESSAGES)", "SUBSCRIBE c/", "SELECT INBOX/"}) {
        CAPTURE(command);
        CHECK(has(strict.command(command), "NO "));
        CHECK(has(forgiving.command(command), "OK "));
    }
    CHECK(has(forgiving.command("SELECT c//"), "NO "));
    CHECK(has(forgiving.append("c/", kMessage), "OK [APPENDUID"));
    CHECK(has(forgiving.command("CREATE d/"), "OK"));        // says what it always says
    CHECK(has(forgiving.command("RENAME c/ e/"), "OK"));
    CHECK(scratch.account().exists("e"));
    CHECK(has(forgiving.command("DELETE e/"), "OK"));
    CHECK_FALSE(scratch.account().exists("e"));
}

TEST_CASE("tb-lsub-flags tells which subscribed names are no mailboxes", "[imapd]") {
    ScratchAccount scratch;
    Dialogue plain(scratch);
    Dialogue flags(scratch, "imap_client_workarounds = delay-newmail, tb-lsub-flags\n");
    CHECK(has(plain.command("CREATE gone"), "OK"));
    CHECK(has(plain.command("CREATE there"), "OK"));
    CHECK(has(plain.command("SUBSCRIBE gone"), "OK"));
    CHECK(has(plain.command("SUBSCRIBE there"), "OK"));
    CHECK(has(plain.command("DELETE gone"), "OK"));
    CHECK(plain.command("LSUB \"\" *") == "* LSUB () \".\" gone\r\n* LSUB () \".\" there\r\nOK Lsub completed.\r\n");
    CHECK(flags.command("LSUB \"\" *") == "* LSUB (\\Noselect) \".\" gone\r\n* LSUB () \".\" there\r\nOK Lsub completed.\r\n");
}

TEST_CASE("with delay-newmail a client hears of new messages from few commands", "[imapd]") {
    ScratchAccount scratch;
    Dialogue other(scratch);
    REQUIRE(has(other.append("INBOX", kMessage), "OK"));
    REQUIRE(has(other.command("CREATE c"), "OK"));
    Dialogue prompt(scratch);
    Dialogue late(scratch, "imap_client_workarounds = delay-newmail\n");
    REQUIRE(has(prompt.command("SELECT INBOX"), "* 1 EXISTS"));
    REQUIRE(has(late.command("SELECT INBOX"), "* 1 EXISTS"));
    const auto new_message = [&] { REQUIRE(has(other.append("INBOX", kMessage), "OK")); };
    for (const char* const command : {"FETCH 1 FLAGS", "UID FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "COPY 1 c",
                                      "STATUS c (MESSAGES)", "LIST \"\" x", "COPY 1 INBOX"}) {
        CAPTURE(command);
        new_message();
        CHECK(has(prompt.command(command), " EXISTS\r\n"));
        CHECK_FALSE(has(late.command(command), " EXISTS\r\n"));
    }
    // It cannot name what it has not heard of, and flags of that are not told.
    CHECK(has(late.command("FETCH 2 FLAGS"), "BAD"));
    CHECK(late.command("UID SEARCH ALL") == "* SEARCH 1\r\nOK Search completed.\r\n");
    CHECK(has(prompt.command("STORE 2:3 +FLAGS (\\Flagged)"), "OK"));
    CHECK_FALSE(has(late.command("FETCH 1 UID"), "\\Flagged"));
    for (const char* const command : {"NOOP", "CHECK", "EXPUNGE", "UID EXPUNGE 1"}) {
        CAPTURE(command);
        CHECK(has(late.command(command), " EXISTS\r\n"));
        CHECK_FALSE(has(late.command(command), " EXISTS\r\n"));
        new_message();
    }
    CHECK(has(late.append("INBOX", kMessage), " EXISTS\r\n"));
    new_message();
    late.forget();
    late.feed("i IDLE\r\n");
    CHECK(has(late.wait_for("EXISTS"), "+ idling"));
    CHECK(has(late.send("DONE\r\n", "i"), "OK"));
    CHECK(late.command("NOOP") == "OK NOOP completed.\r\n");
    CHECK(has(prompt.command("NOOP"), "* 17 EXISTS"));
    CHECK(has(prompt.command("FETCH * UID"), "* 17 FETCH"));
    CHECK(has(late.command("FETCH * UID"), "* 17 FETCH"));
}
