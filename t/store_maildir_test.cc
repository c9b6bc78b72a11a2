/// lib/store over Maildir: what IMAP and POP3 rely on.
#include <sys/time.h>

#include "lib/log/capture.h"
#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

TEST_CASE("an appended message has a UID, its size with CRLF, its flags and its text", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    const Assigned assigned = append(*account, "INBOX", "Subject: x\r\n\r\none\r\ntwo\n", kSeen, {"$Work"});
    REQUIRE(assigned.uids == std::vector<Uid>{1});
    const auto inbox = select(*account);
    CHECK(inbox->uidvalidity() == assigned.uidvalidity);
    CHECK(inbox->exists() == 1);
    CHECK(inbox->recent() == 1);
    CHECK(inbox->uidnext() == 2);
    const Row found = row(*inbox, 1);
    CHECK(found.flags == (kSeen | kRecent));
    REQUIRE(inbox->keywords() == std::vector<std::string>{"$Work"});
    CHECK(found.keywords == 1);
    const auto reader = inbox->reader();
    const Result<Summary> summary = reader->summary(1, Need::all);
    REQUIRE(summary);
    CHECK(summary->size == 24);
    CHECK(summary->header_size == 14);
    CHECK(summary->envelope == "(NIL \"x\" NIL NIL NIL NIL NIL NIL NIL NIL)");
    const Result<std::string> text = reader->text(1, 1000);
    REQUIRE(text);
    CHECK(*text == "Subject: x\r\n\r\none\r\ntwo\r\n");
    CHECK_FALSE(reader->text(1, 10));
    const std::vector<std::string> files = files_in(scratch.maildir() + "/cur");
    REQUIRE(files.size() == 1);
    CHECK(files[0].find(",S=20,W=24,V=" + std::to_string(assigned.uidvalidity) + ".1:2,Sa") != std::string::npos);
    CHECK(read_file(scratch.maildir() + "/dovecot-keywords") == "0 $Work\n");
    CHECK(read_file(scratch.maildir() + "/cur/" + files[0]) == "Subject: x\n\none\ntwo\n");
}

TEST_CASE("line ends come out as they went in, however they are cut", "[store]") {
    const std::string text = "A: b\r\n\r\nx\ry\r\r\nz\r";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        CAPTURE(cut);
        Scratch scratch;
        const auto account = scratch.open();
        Result<std::unique_ptr<Appender>> appender = account->append("INBOX");
        REQUIRE(appender);
        REQUIRE((*appender)->write(text.substr(0, cut)));
        REQUIRE((*appender)->write(text.substr(cut)));
        REQUIRE((*appender)->finish());
        std::vector<std::unique_ptr<Appender>> all;
        all.push_back(std::move(*appender));
        REQUIRE(account->commit_appends("INBOX", all));
        const auto inbox = select(*account);
        CHECK(*inbox->reader()->text(1, 1000) == text);
        CHECK(inbox->reader()->summary(1, Need::size_and_date)->size == text.size());
    }
}

TEST_CASE("an appender that is not committed leaves nothing behind", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    {
        Result<std::unique_ptr<Appender>> appender = account->append("INBOX");
        REQUIRE(appender);
        REQUIRE((*appender)->write("A: b\n\n"));
        CHECK(files_in(scratch.maildir() + "/tmp").size() == 1);
    }
    CHECK(files_in(scratch.maildir() + "/tmp").empty());
    CHECK(account->append("Nowhere").error().code == Errc::not_found);
}

TEST_CASE("delivered files appear, move to cur and are recent to the first who looks", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    const auto first = select(*account);
    write_file(scratch.maildir() + "/new/1000000001.M2.h", sample(2));
    write_file(scratch.maildir() + "/new/1000000001.M1.h", sample(1));
    const Changes changes = sync(*first);
    CHECK(changes.exists == 2u);
    CHECK(changes.recent == 2u);
    CHECK(files_in(scratch.maildir() + "/new").empty());
    CHECK(files_in(scratch.maildir() + "/cur") == std::vector<std::string>{"1000000001.M1.h:2,", "1000000001.M2.h:2,"});
    CHECK(*first->reader()->guid(1) == "1000000001.M1.h");
    const auto second = select(*account);
    CHECK(second->exists() == 2);
    CHECK(second->recent() == 0);
}

TEST_CASE("a delivery is found without a look at cur, and stays what it is afterwards", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    write_file(scratch.maildir() + "/cur/1.h:2,S", sample(1));
    usleep(50 * 1000);
    const auto inbox = select(*account);
    CHECK(inbox->exists() == 1);
    for (int n = 2; n < 6; ++n) {
        write_file(scratch.maildir() + "/new/" + std::to_string(n) + ".h", sample(n));
        CHECK(sync(*inbox).exists == static_cast<std::uint32_t>(n));
        CHECK_FALSE(sync(*inbox).exists);
    }
    const auto examined = select(*account, "INBOX", Access::read_only);
    write_file(scratch.maildir() + "/new/6.h", sample(6));
    CHECK(sync(*examined).exists == 6u);
    write_file(scratch.maildir() + "/new/7.h", sample(7));
    CHECK(sync(*examined).exists == 7u);
    CHECK(sync(*inbox).exists == 7u);
    usleep(1100 * 1000);   // now also cur is listed again, because our own renames changed it
    const Changes changes = sync(*inbox);
    CHECK_FALSE(changes.exists);
    CHECK(changes.expunged.empty());
    CHECK(changes.flags.empty());
    CHECK(inbox->uids().text() == "1:7");
    for (Uid uid = 1; uid <= 7; ++uid) {
        CHECK(inbox->reader()->text(uid, 10000).ok());
    }
}

TEST_CASE("read-only looks do not move files nor take recent away", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    write_file(scratch.maildir() + "/new/1.h", sample(1));
    const auto examined = select(*account, "INBOX", Access::read_only);
    CHECK(examined->recent() == 1);
    CHECK(files_in(scratch.maildir() + "/new").size() == 1);
    CHECK(examined->reader()->text(1, 10000)->substr(0, 7) == "From: a");
    const Result<Status> status = account->status("INBOX");
    REQUIRE(status);
    CHECK(status->recent == 1);
    CHECK(status->unseen == 1);
    CHECK(examined->store(UidSet({1, 1}), FlagChange{}).error().code == Errc::denied);
    const auto selected = select(*account);
    CHECK(selected->recent() == 1);
    CHECK(files_in(scratch.maildir() + "/new").empty());
    CHECK(files_in(scratch.maildir() + "/cur").size() == 1);
    CHECK(examined->reader()->text(1, 10000).ok());
}

TEST_CASE("flags are file names, and other programs' renames are flag changes", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    write_file(scratch.maildir() + "/cur/1.h:2,PX", sample(1));
    const auto inbox = select(*account);
    store_flags(*inbox, 1, FlagChange::How::add, kSeen | kFlagged, {"Blue"});
    CHECK(files_in(scratch.maildir() + "/cur") == std::vector<std::string>{"1.h:2,FPSaX"});
    Changes changes = sync(*inbox);
    REQUIRE(changes.flags.size() == 1);
    CHECK(changes.flags[0].row.flags == (kSeen | kFlagged | kRecent));
    CHECK_FALSE(changes.flags[0].silent);
    CHECK(changes.keywords_changed);
    const Modseq before = inbox->highest_modseq();
    CHECK(changes.flags[0].row.modseq == before);
    usleep(1100 * 1000);   // our own rename hides another one for a second (see DirState::own_change)
    REQUIRE(std::rename((scratch.maildir() + "/cur/1.h:2,FPSaX").c_str(), (scratch.maildir() + "/cur/1.h:2,R").c_str()) == 0);
    changes = sync(*inbox);
    REQUIRE(changes.flags.size() == 1);
    CHECK(changes.flags[0].row.flags == (kAnswered | kRecent));
    CHECK(changes.flags[0].row.keywords == 0);
    CHECK(inbox->highest_modseq() > before);
    CHECK(sync(*inbox).flags.empty());
}

TEST_CASE("a file renamed behind our back is found again by every operation", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    for (const char* const name : {"1.h:2,", "2.h:2,", "3.h:2,", "4.h:2,", "5.h:2,"}) {
        write_file(scratch.maildir() + "/cur/" + name, sample(1));
    }
    const auto inbox = select(*account);
    auto touch = [&](const std::string& base) {
        for (const std::string& file : files_in(scratch.maildir() + "/cur")) {
            if (file.substr(0, base.size()) == base) {
                std::rename((scratch.maildir() + "/cur/" + file).c_str(), (scratch.maildir() + "/cur/" + base + ":2,F").c_str());
            }
        }
    };
    touch("1.h");
    CHECK(inbox->reader()->text(1, 10000).ok());
    touch("2.h");
    store_flags(*inbox, 2, FlagChange::How::add, kSeen);
    CHECK(files_in(scratch.maildir() + "/cur")[1] == "2.h:2,FS");
    touch("3.h");
    REQUIRE(account->create("Copy"));
    CHECK(inbox->copy_to(UidSet({3, 3}), "Copy")->uids == std::vector<Uid>{1});
    touch("4.h");
    REQUIRE(inbox->expunge(UidSet({4, 4})));
    touch("5.h");
    CHECK(inbox->move_to(UidSet({5, 5}), "Copy")->uids == std::vector<Uid>{2});
    CHECK(files_in(scratch.maildir() + "/cur").size() == 3);
    const Changes changes = sync(*inbox);
    CHECK(changes.expunged == std::vector<std::uint32_t>{5, 4});
    CHECK(row(*select(*account, "Copy"), 2).flags == (kFlagged | kRecent));
}

TEST_CASE("views are independent and hold expunges back as long as they are told", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    for (int i = 1; i <= 5; ++i) {
        append(*account, "INBOX", sample(i));
    }
    const auto a = select(*account);
    const auto b = select(*account);
    store_flags(*a, 2, FlagChange::How::add, kDeleted);
    store_flags(*a, 4, FlagChange::How::add, kDeleted);
    CHECK(*a->deleted() == *b->deleted());
    CHECK(a->deleted()->text() == "2,4");
    REQUIRE(a->expunge(*a->deleted()));
    CHECK(a->exists() == 5);
    CHECK(sync(*a).expunged == std::vector<std::uint32_t>{4, 2});
    CHECK(a->exists() == 3);
    CHECK(a->seq_of(5) == 3);
    CHECK(a->uid_of(2) == 3);
    CHECK(a->seq_of(4) == 0);
    CHECK(a->lower_seq(4) == 3);
    CHECK(a->lower_seq(6) == 4);

    append(*account, "INBOX", sample(6));
    Changes held = sync(*b, Expunges::hold);
    CHECK(held.expunged.empty());
    CHECK(held.expunges_pending);
    CHECK(held.exists == 6u);
    CHECK(b->seq_of(4) == 4);
    CHECK(b->reader()->row(4).error().code == Errc::not_found);
    CHECK(b->reader()->text(4, 1000).error().code == Errc::not_found);
    held = sync(*b, Expunges::hold);
    CHECK(held.expunges_pending);
    CHECK_FALSE(held.exists);
    const Changes shown = sync(*b, Expunges::show);
    CHECK(shown.expunged == std::vector<std::uint32_t>{4, 2});
    CHECK(shown.vanished.text() == "2,4");
    CHECK(b->exists() == 4);
    CHECK_FALSE(sync(*b).expunges_pending);
}

TEST_CASE("messages that are held back stay outside the snapshot, and are recent when they are shown", "[store]") {
    Scratch scratch;
    auto account = scratch.open();
    append(*account, "INBOX", sample(1));
    auto box = select(*account, "INBOX");
    auto other = select(*account, "INBOX");
    REQUIRE(box->exists() == 1);
    const auto hold = [&] {
        Result<Changes> changes = box->sync(Expunges::show, Arrivals::hold);
        REQUIRE(changes);
        return std::move(*changes);
    };
    append(*account, "INBOX", sample(2));
    append(*account, "INBOX", sample(3));
    Changes changes = hold();
    CHECK_FALSE(changes.exists);
    CHECK_FALSE(changes.recent);
    CHECK(box->exists() == 1);
    CHECK(box->uidnext() == 2);
    CHECK(box->seq_of(2) == 0);
    sync(*other);
    FlagChange seen;
    seen.flags = kSeen;
    REQUIRE(other->store(UidSet(UidRange{1, 2}), seen));
    changes = hold();                                 // of the first only
    REQUIRE(changes.flags.size() == 1);
    CHECK(changes.flags[0].row.uid == 1);
    REQUIRE(other->expunge(UidSet(UidRange{2, 2})));
    CHECK(hold().expunged.empty());
    REQUIRE(other->expunge(UidSet(UidRange{1, 1})));
    CHECK(hold().expunged == std::vector<std::uint32_t>{1});
    CHECK(box->exists() == 0);
    append(*account, "INBOX", sample(4));
    CHECK_FALSE(hold().exists);
    changes = sync(*box);
    CHECK(changes.exists == 2u);
    CHECK(changes.flags.empty());
    CHECK(box->uids().text() == "3:4");
    CHECK(box->uidnext() == 5);
    CHECK_FALSE(sync(*box).exists);
    append(*account, "INBOX", sample(5));
    CHECK(sync(*box).exists == 3u);
}

TEST_CASE("what is done to mailboxes is logged when that is asked for", "[store]") {
    const auto work = [](const std::string& debug_as) {
        Scratch scratch;
        LogCapture log;
        AccountOptions options;
        options.location = "maildir:" + scratch.maildir();
        options.user = "fred";
        options.home = scratch.path();
        options.debug_as = debug_as;
        Result<std::unique_ptr<Account>> account = Account::open(std::move(options));
        REQUIRE(account);
        REQUIRE((*account)->create("Work"));
        append(**account, "INBOX", sample(1));
        append(**account, "INBOX", sample(2));
        const auto box = select(**account, "INBOX");
        FlagChange seen;
        seen.flags = kSeen;
        REQUIRE(box->store(box->uids(), seen));
        REQUIRE(box->copy_to(box->uids(), "Work"));
        REQUIRE(box->expunge(UidSet(UidRange{1, 1})));
        REQUIRE((*account)->rename("Work", "Play"));
        REQUIRE((*account)->remove("Play"));
        std::vector<std::string> lines = log.lines();
        if (!lines.empty()) {
            const std::string root = "x: maildir: root=" + scratch.maildir() + ", index=";
            CHECK(lines.front().find(root) == 0);
            lines.erase(lines.begin());
        }
        return lines;
    };
    CHECK(work("").empty());
    const std::vector<std::string> lines = work("x");
    REQUIRE(lines.size() == 9);
    CHECK(lines[0] == "x: Mailbox Work: Mailbox is created");
    CHECK(lines[2] == "x: Mailbox INBOX: 1 messages saved, the last with UID 2");
    CHECK(lines[3].find("x: Mailbox INBOX: Mailbox opened: 2 messages, UIDVALIDITY ") == 0);
    CHECK(lines[4] == "x: Mailbox INBOX: UIDs 1:2: Flags changed");
    CHECK(lines[5] == "x: Mailbox INBOX: UIDs 1:2: Copied to Work");
    CHECK(lines[6] == "x: Mailbox INBOX: UIDs 1: Expunged");
    CHECK(lines[7] == "x: Mailbox Work: Mailbox is renamed to Play");
    CHECK(lines[8] == "x: Mailbox Play: Mailbox is deleted");
}

TEST_CASE("mod-sequences: unchanged_since, silent stores, changed and vanished since", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    for (int i = 1; i <= 3; ++i) {
        append(*account, "INBOX", sample(i));
    }
    const auto a = select(*account);
    const auto b = select(*account);
    const Modseq start = a->highest_modseq();
    CHECK(start >= 3);
    store_flags(*b, 2, FlagChange::How::add, kFlagged);
    FlagChange change;
    change.how = FlagChange::How::add;
    change.flags = kSeen;
    change.unchanged_since = start;
    change.silent = true;
    const Result<StoreResult> stored = a->store(UidSet({1, 3}), change);
    REQUIRE(stored);
    CHECK(stored->modified.text() == "2");
    CHECK(stored->modseq == start + 2);
    const Changes changes = sync(*a);
    REQUIRE(changes.flags.size() == 3);
    CHECK(changes.flags[0].silent);
    CHECK_FALSE(changes.flags[1].silent);
    CHECK(changes.flags[2].silent);
    CHECK(a->changed_since(start)->text() == "1:3");
    CHECK(a->changed_since(start + 1)->text() == "1,3");
    CHECK(a->vanished_since(start)->empty());
    REQUIRE(a->expunge(UidSet({1, 2})));
    sync(*a);
    CHECK(a->vanished_since(start)->text() == "1:2");
    CHECK(a->vanished_since(a->highest_modseq())->empty());
    CHECK(a->first_unseen().ok());
    const Result<StoreResult> gone = b->store(UidSet({1, 3}), FlagChange{});
    REQUIRE(gone);
    CHECK(gone->gone.text() == "1:2");
    const Modseq now = b->highest_modseq();
    CHECK(b->store(UidSet({3, 3}), FlagChange{})->modseq == 0);   // nothing to change
    CHECK(b->highest_modseq() == now);
}

TEST_CASE("a silent store does not hide what another session changed in the same message", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1));
    append(*account, "INBOX", sample(2));
    const auto a = select(*account);
    const auto b = select(*account);
    FlagChange change;
    change.how = FlagChange::How::add;
    change.flags = kSeen;
    change.silent = true;
    SECTION("by the index") { store_flags(*b, 1, FlagChange::How::add, kFlagged); }
    SECTION("by the file's name") {
        const std::string cur = scratch.maildir() + "/cur/";
        const std::string name = files_in(cur)[0];
        REQUIRE(rename((cur + name).c_str(), (cur + name + "F").c_str()) == 0);
    }
    REQUIRE(a->store(UidSet({1, 2}), change));
    const Changes changes = sync(*a);
    REQUIRE(changes.flags.size() == 2);
    CHECK(changes.flags[0].row.flags == (kSeen | kFlagged | kRecent));
    CHECK_FALSE(changes.flags[0].silent);
    CHECK(changes.flags[1].silent);
}

TEST_CASE("copies are hard links with flags, keywords and date; COPYUID pairs fit", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    REQUIRE(account->create("Work"));
    append(*account, "Work", sample(9), 0, {"other"});
    append(*account, "INBOX", sample(1), kSeen, {"Red", "Blue"});
    append(*account, "INBOX", sample(2));
    const auto inbox = select(*account);
    const Result<Assigned> copied = inbox->copy_to(UidSet({1, 2}), "Work");
    REQUIRE(copied);
    CHECK(copied->source == std::vector<Uid>{1, 2});
    CHECK(copied->uids == std::vector<Uid>{2, 3});
    const auto work = select(*account, "Work");
    CHECK(work->keywords() == std::vector<std::string>{"other", "Red", "Blue"});
    CHECK(row(*work, 2).keywords == 6);
    CHECK((row(*work, 2).flags & kSeen) != 0);
    CHECK(work->recent() == 3);
    struct stat status {};
    REQUIRE(stat((scratch.maildir() + "/cur/" + files_in(scratch.maildir() + "/cur")[0]).c_str(), &status) == 0);
    CHECK(status.st_nlink == 2);
    const Result<Assigned> self = inbox->copy_to(UidSet({1, 1}), "INBOX");
    REQUIRE(self);
    CHECK(self->uids == std::vector<Uid>{3});
    CHECK(sync(*inbox).exists == 3u);
    const Result<Assigned> moved = inbox->move_to(UidSet({1, 2}), "Work");
    REQUIRE(moved);
    CHECK(moved->uids == std::vector<Uid>{4, 5});
    CHECK(sync(*inbox).expunged == std::vector<std::uint32_t>{2, 1});
    CHECK(sync(*work).exists == 5u);
    CHECK(work->reader()->summary(5, Need::all)->envelope.find("number 2") != std::string::npos);
    CHECK(inbox->copy_to(UidSet({3, 3}), "Nowhere").error().code == Errc::not_found);
}

TEST_CASE("changes by another process are seen", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1));
    const auto inbox = select(*account);
    CHECK(in_child([&] {
        const auto other = scratch.open();
        append(*other, "INBOX", sample(2), kAnswered);
        const auto view = select(*other);
        store_flags(*view, 1, FlagChange::How::add, kFlagged);
    }) == 0);
    const Changes changes = sync(*inbox);
    CHECK(changes.exists == 2u);
    REQUIRE(changes.flags.size() == 1);
    CHECK(changes.flags[0].row.uid == 1);
    CHECK((changes.flags[0].row.flags & kFlagged) != 0);
    CHECK((row(*inbox, 2).flags & kAnswered) != 0);
}

TEST_CASE("a watch wakes for deliveries and for another process's index changes", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1));
    const auto inbox = select(*account);
    Result<std::unique_ptr<Watch>> watch = inbox->watch();
    REQUIRE(watch);
    auto readable = [&] {
        fd_set set;
        FD_ZERO(&set);
        FD_SET((*watch)->fd(), &set);
        timeval wait{1, 0};
        const bool yes = ::select((*watch)->fd() + 1, &set, nullptr, nullptr, &wait) == 1;
        (*watch)->drain();
        return yes;
    };
    write_file(scratch.maildir() + "/tmp/5.h", sample(5));
    REQUIRE(std::rename((scratch.maildir() + "/tmp/5.h").c_str(), (scratch.maildir() + "/new/5.h").c_str()) == 0);
    CHECK(readable());
    CHECK(sync(*inbox).exists == 2u);
    readable();
    sync(*inbox);
    readable();
    // Directly after our own renames another program's rename is seen, because the watch tells.
    REQUIRE(std::rename((scratch.maildir() + "/cur/5.h:2,").c_str(), (scratch.maildir() + "/cur/5.h:2,T").c_str()) == 0);
    CHECK(readable());
    CHECK(sync(*inbox).flags.size() == 1);
    in_child([&] {
        const auto other = scratch.open();
        store_flags(*select(*other), 1, FlagChange::How::add, kFlagged);
    });
    CHECK(readable());
    CHECK(sync(*inbox).flags.size() == 1);
}

TEST_CASE("POP3's lock is exclusive and goes with the mailbox", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    auto first = select(*account);
    auto second = select(*account);
    REQUIRE(first->lock_exclusively());
    CHECK(second->lock_exclusively().error().code == Errc::temporary);
    first.reset();
    CHECK(second->lock_exclusively().ok());
}

TEST_CASE("old files in tmp go, young ones stay", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    const std::string old_file = scratch.maildir() + "/tmp/old";
    write_file(old_file, "x");
    write_file(scratch.maildir() + "/tmp/young", "x");
    struct stat status {};
    stat(old_file.c_str(), &status);
    // ctime cannot be set back, so the rule shows only its other half here: a fresh ctime protects.
    const timeval times[2] = {{1000, 0}, {1000, 0}};
    REQUIRE(utimes(old_file.c_str(), times) == 0);
    select(*account);
    CHECK(files_in(scratch.maildir() + "/tmp") == std::vector<std::string>{"old", "young"});
}

TEST_CASE("header fields come from the cache or from the message, in order", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", "Received: x\nSubject: a\n b\nX-Odd: 1\nFROM: f@x\nsubject: c\n\nSubject: not me\n");
    const auto inbox = select(*account);
    const auto reader = inbox->reader();
    const std::vector<std::string> usual = {"from", "subject"};
    CHECK(*reader->header_fields(1, usual) == "Subject: a\r\n b\r\nFROM: f@x\r\nsubject: c\r\n");
    const std::vector<std::string> odd = {"x-odd", "subject"};
    CHECK(*reader->header_fields(1, odd) == "Subject: a\r\n b\r\nX-Odd: 1\r\nsubject: c\r\n");
    const std::vector<std::string> none = {"x-none"};
    CHECK(reader->header_fields(1, none)->empty());
}

TEST_CASE("total size counts CRLF and works with and without the cache", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", "A: b\n\nx\n");
    write_file(scratch.maildir() + "/cur/7.h:2,", "A: b\n\nxy\n");
    CHECK(*account->total_size("INBOX") == 11 + 12);
    CHECK(*account->total_size("INBOX") == 11 + 12);
}

TEST_CASE("maildir_copy_with_hardlinks decides whether copies share the file", "[store]") {
    for (const bool share : {true, false}) {
        CAPTURE(share);
        Scratch scratch;
        AccountOptions options;
        options.location = "maildir:" + scratch.maildir();
        options.home = scratch.path();
        options.copy_with_hardlinks = share;
        const Result<std::unique_ptr<Account>> account = Account::open(std::move(options));
        REQUIRE(account);
        REQUIRE((*account)->create("Work"));
        append(**account, "INBOX", sample(1), kSeen);
        REQUIRE(select(**account)->copy_to(UidSet({1, 1}), "Work"));
        const std::string from = scratch.maildir() + "/cur/", to = scratch.maildir() + "/.Work/cur/";
        const std::string first = from + files_in(from)[0], second = to + files_in(to)[0];
        struct stat one {}, two {};
        REQUIRE(stat(first.c_str(), &one) == 0);
        REQUIRE(stat(second.c_str(), &two) == 0);
        CHECK((one.st_ino == two.st_ino) == share);
        CHECK(one.st_nlink == (share ? 2 : 1));
        CHECK(read_file(first) == read_file(second));
        CHECK(one.st_mtim.tv_sec == two.st_mtim.tv_sec);
        CHECK(one.st_mode == two.st_mode);
    }
}
