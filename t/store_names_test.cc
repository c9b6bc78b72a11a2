/// Mailbox names, layouts, subscriptions, mail_location, and the small formats beside messages.
#include <fstream>

#include "lib/store/location.h"
#include "lib/store/maildir_name.h"
#include "lib/store/open_account.h"
#include "lib/store/uidlist.h"
#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

namespace {

std::string names(Account& account) {
    std::string out;
    const Result<std::vector<MailboxInfo>> list = account.list();
    for (const MailboxInfo& info : *list) {
        out += info.name + (info.exists ? "" : "?") + (info.has_children ? "+" : "") + (info.subscribed ? "*" : "") +
               info.special_use + " ";
    }
    return out;
}

}  // namespace

TEST_CASE("mailboxes are made, listed with parents and special use, and removed", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    CHECK(account->separator() == '.');
    REQUIRE(account->create("Sent"));
    REQUIRE(account->create("A.B.C"));
    REQUIRE(account->create("Entw\xc3\xbcrfe"));
    CHECK(account->create("sent").ok());
    CHECK(account->create("Sent").error().code == Errc::exists);
    CHECK(account->create("inbox").error().code == Errc::exists);
    CHECK(names(*account) == "INBOX A?+ A.B?+ A.B.C Entw\xc3\xbcrfe Sent\\Sent sent ");
    CHECK(files_in(scratch.maildir()).size() > 3);
    CHECK(access((scratch.maildir() + "/.Entw&APw-rfe/cur").c_str(), F_OK) == 0);
    CHECK(access((scratch.maildir() + "/.A.B.C/maildirfolder").c_str(), F_OK) == 0);
    REQUIRE(account->remove("A.B.C"));
    CHECK(account->remove("A.B.C").error().code == Errc::not_found);
    CHECK(account->remove("INBOX").error().code == Errc::denied);
    CHECK(names(*account) == "INBOX Entw\xc3\xbcrfe Sent\\Sent sent ");
    for (const std::string& file : files_in(scratch.maildir())) {
        CHECK(file.find("deleted") == std::string::npos);
    }
}

TEST_CASE("a special use that was given is kept, follows its mailbox, and goes with it", "[store]") {
    for (const char* const layout : {"", ":LAYOUT=fs"}) {
        CAPTURE(layout);
        Scratch scratch;
        const std::string location = "maildir:" + scratch.path() + "/m" + layout;
        const std::string control = scratch.path() + "/m/postern-special-use";
        {
            const auto account = scratch.open(location);
            REQUIRE(account->create("plain"));
            CHECK(access(control.c_str(), F_OK) != 0);
            REQUIRE(account->create("Gesendet", "\\Sent"));
            REQUIRE(account->create("Sent", "\\Archive \\Junk"));
            REQUIRE(account->create("Post"));
            CHECK(account->create("plain", "\\Trash").error().code == Errc::exists);
        }
        const auto account = scratch.open(location);
        const char sep = account->separator();
        const auto below = [sep](const std::string& parent, const std::string& child) { return parent + sep + child; };
        REQUIRE(account->create(below("Post", "Entw\xc3\xbcrfe"), "\\Drafts"));
        CHECK(names(*account) == "INBOX Gesendet\\Sent Post+ " + below("Post", "Entw\xc3\xbcrfe") +
                                     "\\Drafts Sent\\Archive \\Junk plain ");
        REQUIRE(account->rename("Post", "Mail"));
        REQUIRE(account->rename("Gesendet", "Raus"));
        CHECK(names(*account) == "INBOX Mail+ " + below("Mail", "Entw\xc3\xbcrfe") +
                                     "\\Drafts Raus\\Sent Sent\\Archive \\Junk plain ");
        REQUIRE(account->remove("Raus"));
        REQUIRE(account->create("Raus"));
        CHECK(names(*account).find(" Raus ") != std::string::npos);
        REQUIRE(account->remove("Sent"));
        REQUIRE(account->create("Sent"));
        CHECK(names(*account).find(" Sent\\Sent ") != std::string::npos);
    }
}

TEST_CASE("an account whose files were replaced is opened anew, another one is kept", "[store]") {
    Scratch scratch;
    AccountOptions options;
    options.location = "maildir:" + scratch.maildir();
    options.home = scratch.path();
    OpenAccount open;
    const Result<std::shared_ptr<Account>> first = open.get(options);
    REQUIRE(first.ok());
    REQUIRE((*first)->create("a"));
    CHECK(*open.get(options) == *first);
    for (const char* const gone : {"/postern.index", ""}) {
        CAPTURE(gone);
        const std::shared_ptr<Account> before = *open.get(options);
        remove_tree(scratch.maildir() + gone);
        CHECK_FALSE(before->is_current());
        const Result<std::shared_ptr<Account>> after = open.get(options);
        REQUIRE(after.ok());
        CHECK(*after != before);
        CHECK((*after)->is_current());
        CHECK((*after)->create("b").ok());
        CHECK_FALSE(before->create("c"));
        REQUIRE((*after)->remove("b"));
    }
}

TEST_CASE("a damaged file of special uses harms nothing else", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    REQUIRE(account->create("a"));
    for (const std::string& text : {std::string("\\Sent"), std::string("\tx\n\\Sent\t\n\n"), std::string(100'000, '\t'),
                                    std::string("nothing\ta\n\xff\xfe\0\ta\n", 16), std::string("\\Sent\t../a\n\\Sent\tnone\n")}) {
        std::ofstream(scratch.maildir() + "/postern-special-use") << text;
        CHECK(names(*account) == "INBOX a ");
    }
    std::ofstream(scratch.maildir() + "/postern-special-use") << "rubbish\n\\Sent\ta";
    CHECK(names(*account) == "INBOX a\\Sent ");
}

TEST_CASE("names that could lead astray are refused", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    const std::string long_name(300, 'x');
    for (const std::string& name : {std::string(), std::string("."), std::string("a."), std::string(".a"), std::string("a..b"),
                                    std::string("../x"), std::string("a/b"), std::string("a\nb"), std::string("a\0b", 3),
                                    std::string("\xff\xfe"), long_name}) {
        CAPTURE(name);
        CHECK(account->create(name).error().code == Errc::syntax);
        CHECK_FALSE(account->exists(name));
        CHECK_FALSE(account->select(name, Access::read_only));
    }
    const auto fs = scratch.open("maildir:" + scratch.path() + "/fs:LAYOUT=fs");
    for (const char* const name : {"..", "a/../b", "cur", "a/new", "dovecot-x", ".postern.index", "/a", "a//b"}) {
        CAPTURE(name);
        CHECK(fs->create(name).error().code == Errc::syntax);
    }
}

TEST_CASE("LAYOUT=fs keeps folders as directories", "[store]") {
    Scratch scratch;
    const auto account = scratch.open("maildir:" + scratch.path() + "/fs:LAYOUT=fs");
    CHECK(account->separator() == '/');
    REQUIRE(account->create("a/b.c"));
    append(*account, "a/b.c", sample(1));
    CHECK(names(*account) == "INBOX a?+ a/b.c ");
    REQUIRE(account->create("a"));
    REQUIRE(account->remove("a"));
    CHECK(names(*account) == "INBOX a?+ a/b.c ");
    REQUIRE(account->rename("a", "z"));
    CHECK(names(*account) == "INBOX z?+ z/b.c ");
    CHECK(select(*account, "z/b.c")->exists() == 1);
    CHECK(account->rename("z", "z/y").error().code == Errc::syntax);
}

TEST_CASE("a separator of one's own keeps the layout on disk", "[store]") {
    Scratch scratch;
    AccountOptions options;
    options.location = "maildir:" + scratch.maildir();
    options.separator = '/';
    const auto account = std::move(*Account::open(options));
    REQUIRE(account->create("a/b"));
    CHECK(access((scratch.maildir() + "/.a.b").c_str(), F_OK) == 0);
    CHECK(account->create("a.b").error().code == Errc::syntax);
    CHECK(names(*account) == "INBOX a?+ a/b ");
}

TEST_CASE("renaming takes children, UIDs, cache and UIDVALIDITY along", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    REQUIRE(account->create("A"));
    REQUIRE(account->create("A.B"));
    REQUIRE(account->create("AB"));
    append(*account, "A.B", sample(1));
    append(*account, "A.B", sample(2));
    const std::uint32_t uidvalidity = account->status("A.B")->uidvalidity;
    const std::string id = select(*account, "A.B")->mailbox_id();
    CHECK(account->rename("A", "AB").error().code == Errc::exists);
    CHECK(account->rename("X", "Y").error().code == Errc::not_found);
    REQUIRE(account->rename("A", "X.Y"));
    CHECK(names(*account) == "INBOX AB X?+ X.Y+ X.Y.B ");
    const Result<Status> status = account->status("X.Y.B");
    REQUIRE(status);
    CHECK(status->uidvalidity == uidvalidity);
    CHECK(status->uidnext == 3);
    CHECK(select(*account, "X.Y.B")->mailbox_id() == id);
}

TEST_CASE("renaming INBOX moves its messages and leaves it empty", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1), kSeen);
    REQUIRE(account->create("INBOX.child"));
    REQUIRE(account->rename("inbox", "Old"));
    CHECK(account->status("INBOX")->messages == 0);
    CHECK(account->status("Old")->messages == 1);
    CHECK(account->status("Old")->unseen == 0);
    CHECK(names(*account) == "INBOX+ INBOX.child Old ");
}

TEST_CASE("a mailbox made again under an old name has a new UIDVALIDITY", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    REQUIRE(account->create("A"));
    append(*account, "A", sample(1));
    const std::uint32_t first = account->status("A")->uidvalidity;
    const auto view = select(*account, "A");
    REQUIRE(account->remove("A"));
    REQUIRE(account->create("A"));
    CHECK(account->status("A")->uidvalidity > first);
    CHECK(view->sync(Expunges::show).error().code == Errc::corrupt);
    CHECK(view->store(UidSet({1, 1}), FlagChange{}).error().code == Errc::corrupt);
}

TEST_CASE("subscriptions: Dovecot's two formats and Courier's", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    REQUIRE(account->create("A.B"));
    write_file(scratch.maildir() + "/courierimapsubscribed", "INBOX\nINBOX.A.B\nINBOX.Gone\n");
    CHECK(names(*account) == "INBOX* A?+ A.B* Gone?* ");
    REQUIRE(account->subscribe("Gone", false));
    REQUIRE(account->subscribe("\xc3\xbc", true));
    CHECK(read_file(scratch.maildir() + "/subscriptions") == "A.B\nINBOX\n&APw-\n");
    write_file(scratch.maildir() + "/subscriptions", "V\t2\n\nINBOX\nA\tB\n");
    CHECK(names(*account) == "INBOX* A?+ A.B* ");
    REQUIRE(account->subscribe("C.D", true));
    CHECK(read_file(scratch.maildir() + "/subscriptions") == "V\t2\n\nA\tB\nC\tD\nINBOX\n");
    CHECK((*account->list())[1].subscribed_descendant);
}

TEST_CASE("mail_location is understood as Dovecot writes it", "[store]") {
    const Result<Location> plain = parse_location("maildir:~/Maildir", "u@d.example", "/home/u");
    REQUIRE(plain);
    CHECK(plain->root == "/home/u/Maildir");
    CHECK(plain->index == plain->root);
    const Result<Location> full = parse_location("maildir:/x/%d/%n/%1n/%2.3Ln%%:LAYOUT=fs:INDEX=/i/%u:CONTROL=~/c/", "ABCDEFG@d.e", "/h");
    REQUIRE(full);
    CHECK(full->root == "/x/d.e/ABCDEFG/A/cde%");
    CHECK(full->fs_layout);
    CHECK(full->index == "/i/ABCDEFG@d.e");
    CHECK(full->control == "/h/c");
    const Result<Location> mbox = parse_location("mbox:~/mail:INBOX=/var/mail/%{user}", "u", "/h");
    REQUIRE(mbox);
    CHECK(mbox->driver == Driver::mbox);
    CHECK(mbox->inbox == "/var/mail/u");
    for (const char* const bad : {"", "Maildir", "sdbox:~/x", "maildir:relative", "maildir:/x:NO=1", "maildir:/x:LAYOUT=imapdir",
                                  "maildir:/x/%q", "maildir:/x:INDEX=MEMORY", "maildir:/x/%{nothing}", "maildir:"}) {
        CAPTURE(bad);
        CHECK(parse_location(bad, "u", "/h").error().code == Errc::config);
    }
    CHECK_FALSE(parse_location("maildir:/x/%u", "../../etc", "/h"));
    CHECK_FALSE(parse_location("maildir:/x/%u", "..", "/h"));
}

TEST_CASE("Maildir names are split, read and written", "[store]") {
    CHECK(split_name("1.h,S=5:2,FS").base == "1.h,S=5");
    CHECK(split_name("1.h").suffix.empty());
    CHECK(parse_suffix(":2,FS").flags == (kFlagged | kSeen));
    CHECK(parse_suffix(":2,FS").usual);
    CHECK_FALSE(parse_suffix(":2,SF").usual);
    CHECK_FALSE(parse_suffix(":2,SX").usual);
    CHECK_FALSE(parse_suffix("").usual);
    CHECK(parse_suffix(":2,az").keywords == ((1u << 25) | 1u));
    CHECK(suffix_for(kDraft | kFlagged | kPassed | kAnswered | kSeen | kDeleted, 3) == ":2,DFPRSTab");
    CHECK(changed_suffix(":2,XF", kSeen, 0) == ":2,SX");
    CHECK(size_in_name("1.h,S=12,W=34", 'W') == 34u);
    CHECK(size_in_name("1.h,S=12,W=34", 'S') == 12u);
    CHECK_FALSE(size_in_name("1.h,W=", 'W'));
    CHECK_FALSE(size_in_name("1.h,W=1x", 'W'));
    CHECK_FALSE(size_in_name("1.h,W=99999999999999999999", 'W'));
    CHECK(with_uid("1.h,S=5", {7, 12}) == "1.h,S=5,V=7.12");
    const std::optional<NamedUid> named = uid_in_name("1.h,S=5,V=4294967295.4294967294,W=6");
    REQUIRE(named);
    CHECK(named->uidvalidity == 4294967295u);
    CHECK(named->uid == 4294967294u);
    for (const char* const wrong : {"1.h", "1.h,V=", "1.h,V=7", "1.h,V=7.", "1.h,V=.7", "1.h,V=7.x", "1.h,V=0.7", "1.h,V=7.0",
                                    "1.h,V=7.4294967295", "1.h,V=4294967296.1", "1.h,V=7.1.2", "1.h,S=V=7.1"}) {
        CAPTURE(wrong);
        CHECK_FALSE(uid_in_name(wrong));
    }
    CHECK(delivery_time("9.x") < delivery_time("10.x"));
    CHECK(delivery_time("10.M2P1.x") < delivery_time("10.M10P1.x"));
    CHECK(delivery_time("x").seconds == 0);
    CHECK(unique_base() != unique_base());
}

TEST_CASE("uidlists of both versions are read", "[store]") {
    const Result<UidList> three = parse_uidlist("3 V123 N50 G00112233445566778899aabbccddeeff\n"
                                                "1 :a.h\n5 W10 S9 :b.h,S=9:2,S\n60 :e f\n");
    REQUIRE(three);
    CHECK(three->uidvalidity == 123);
    CHECK(three->uidnext == 61);
    CHECK(three->guid.size() == 32);
    REQUIRE(three->entries.size() == 3);
    CHECK(three->entries[1].base == "b.h,S=9");
    CHECK(three->entries[2].base == "e f");
    CHECK(three->damage.empty());
    const Result<UidList> one = parse_uidlist("1 77 9\n3 a.h\n4 b.h\n");
    REQUIRE(one);
    CHECK(one->uidnext == 9);
    CHECK(one->entries.size() == 2);
    for (const char* const bad : {"", "\n", "2 1 1\n", "3 V1\n", "3 N1\n", "1 0 5\n", "3 V99999999999 N1\n", "x"}) {
        CAPTURE(bad);
        CHECK(parse_uidlist(bad).error().code == Errc::syntax);
    }
}

TEST_CASE("a uidlist is believed up to the first line that makes no sense, and no UID after it is given again", "[store]") {
    const auto shown = [](const std::string& lines) {
        const Result<UidList> list = parse_uidlist("3 V123 N100\n" + lines);
        REQUIRE(list);
        std::string text;
        for (const UidListEntry& entry : list->entries) {
            text += std::to_string(entry.uid) + ":" + entry.base + " ";
        }
        return text + "N" + std::to_string(list->uidnext) + (list->damage.empty() ? "" : " " + list->damage);
    };
    // What Dovecot 2.3 makes of these, but that it gives 110 to another message.
    CHECK(shown("10 :a\n12 :b\n11 :c\n") == "10:a 12:b N100 line 4: UIDs not ordered (11 >= 12)");
    CHECK(shown("10 :a\n10 :b\n11 :c\n") == "10:a N100 line 3: UIDs not ordered (10 >= 10)");
    CHECK(shown("10 :a\n11 :a\n12 :c\n") == "11:a 12:c N100");
    CHECK(shown("10 :a\nrubbish\n12 :c\n") == "10:a N100 line 3: Invalid data: rubbish");
    CHECK(shown("10 :a\n110 :b\n112 :c\n") == "10:a 110:b 112:c N113");
    CHECK(shown("10 :a\n9 :b\n110 :c\n") == "10:a N111 line 3: UIDs not ordered (9 >= 10)");
    CHECK(shown("10 :a\nx :d\n") == "10:a N100 line 3: Invalid data: x :d");
    for (const char* const bad : {"8\n", "9 :\n", "0 :a\n", "4294967295 :a\n", "7 :a/b\n", "\n"}) {
        CAPTURE(bad);
        CHECK(shown(bad).substr(0, 26) == "N100 line 2: Invalid data:");
    }
}

TEST_CASE("sets of UIDs", "[store]") {
    UidSet set;
    for (const Uid uid : {5u, 1u, 3u, 2u, 9u, 8u, 5u, 4u}) {
        set.add(uid);
    }
    CHECK(set.text() == "1:5,8:9");
    CHECK(set.size() == 7);
    set.add(UidRange{4, 8});
    CHECK(set.text() == "1:9");
    set.remove(5);
    set.remove(1);
    set.remove(9);
    set.remove(100);
    CHECK(set.text() == "2:4,6:8");
    CHECK(set.contains(6));
    CHECK_FALSE(set.contains(5));
    set.add(UidRange{0xfffffff0u, 0xffffffffu});
    CHECK(set.contains(0xffffffffu));
    set.add(UidRange{1, 0xffffffffu});
    CHECK(set.ranges().size() == 1);
}
