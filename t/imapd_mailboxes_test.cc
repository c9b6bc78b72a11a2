/// Commands on mailboxes: LIST, CREATE, RENAME and their like.
#include <catch2/catch.hpp>

#include "t/imapd_dialogue.h"

using namespace postern;
using namespace postern::imapd;

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
