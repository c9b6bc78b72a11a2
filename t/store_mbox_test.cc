/// lib/store over mbox files: parsing, state fields, and rewriting that survives a crash.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "lib/store/location.h"
#include "lib/store/mbox_file.h"
#include "lib/store/mbox_lock.h"
#include "lib/store/mbox_rewrite.h"
#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

namespace {

const char* const kTwo =
    "From a@example.org Thu Nov 22 11:11:11 2026\nSubject: one\nStatus: RO\nX-Status: F\n\nHello\n>From here\nFrom nowhere\n\n"
    "From b@example.org Thu Nov 22 11:12:11 2026\nSubject: two\n\n\nFrom the middle 12:30\nlast\n\n";

std::string location(const Scratch& scratch) {
    return "mbox:" + scratch.path() + "/mail:INBOX=" + scratch.path() + "/spool";
}

}  // namespace

TEST_CASE("messages of an mbox begin at From lines after an empty line", "[store][mbox]") {
    const std::string text = kTwo;
    const MboxFile file = parse_mbox(text);
    REQUIRE(file.messages.size() == 3);   // an unquoted From line with a time after an empty line begins a message
    CHECK(file.messages[0].flags == (kSeen | kFlagged));
    CHECK(file.messages[0].date == 1795345871);
    CHECK(visible_text(text, file.messages[0]) == "Subject: one\n\nHello\nFrom here\nFrom nowhere\n");
    CHECK(visible_text(text, file.messages[1]) == "Subject: two\n\n");
    CHECK(parse_mbox("").messages.empty());
    CHECK(parse_mbox("no mbox at all\n").messages.empty());
    CHECK(parse_mbox("From x 12:30").messages.size() == 1);
}

TEST_CASE("Content-Length is believed when it fits", "[store][mbox]") {
    const std::string body = "x\n\nFrom inside 10:10\n";
    const std::string good = "From a Thu Nov 22 11:11:11 2026\nContent-Length: " + std::to_string(body.size()) + "\n\n" + body +
                             "\nFrom b Thu Nov 22 11:11:11 2026\n\ny\n";
    CHECK(parse_mbox(good).messages.size() == 2);
    const std::string bad = "From a Thu Nov 22 11:11:11 2026\nContent-Length: 5\n\n" + body + "\nFrom b Thu Nov 22 11:11:11 2026\n\ny\n";
    CHECK(parse_mbox(bad).messages.size() == 3);
    CHECK(parse_mbox("From a 11:11\nContent-Length: 18446744073709551615\n\nx\n").messages.size() == 1);
}

TEST_CASE("an mbox account: read, store, append, copy, expunge", "[store][mbox]") {
    Scratch scratch;
    write_file(scratch.path() + "/spool", "From a@example.org Thu Nov 22 11:11:11 2026\nSubject: one\n\nHello\n\n"
                                          "From b@example.org Thu Nov 22 11:12:11 2026\nSubject: two\n\nWorld\n");
    const auto account = scratch.open(location(scratch));
    CHECK(account->separator() == '/');
    auto inbox = select(*account);
    REQUIRE(inbox->exists() == 2);
    CHECK(*inbox->reader()->text(1, 1000) == "Subject: one\r\n\r\nHello\r\n");
    CHECK(inbox->reader()->summary(1, Need::size_and_date)->size == 23);
    CHECK(inbox->reader()->summary(2, Need::all)->internal_date == 1795345931);
    store_flags(*inbox, 1, FlagChange::How::add, kSeen | kAnswered, {"Work"});
    const std::string stored = read_file(scratch.path() + "/spool");
    CHECK(stored.find("Status: RO\nX-Status: A\nX-UID: 1\nX-Keywords: Work ") != std::string::npos);
    CHECK(stored.find("X-IMAPbase: ") != std::string::npos);
    CHECK(*inbox->reader()->text(1, 1000) == "Subject: one\r\n\r\nHello\r\n");
    store_flags(*inbox, 1, FlagChange::How::remove, kSeen);
    CHECK(read_file(scratch.path() + "/spool").size() == stored.size());   // fits where it was
    const Assigned added = append(*account, "INBOX", "Subject: three\r\nContent-Length: 99\r\n\r\nFrom x\r\n>From y\r\n", kFlagged, {"Work"});
    CHECK(added.uids == std::vector<Uid>{3});
    CHECK(sync(*inbox).exists == 3u);
    CHECK(*inbox->reader()->text(3, 1000) == "Subject: three\r\n\r\nFrom x\r\n>From y\r\n");
    CHECK(row(*inbox, 3).keywords == 1);
    REQUIRE(account->create("Work/Old"));
    const Result<Assigned> copied = inbox->copy_to(UidSet({1, 3}), "Work/Old");
    if (!copied) {
        FAIL(copied.error().what);
    }
    CHECK(copied->uids == std::vector<Uid>{1, 2, 3});
    CHECK(inbox->move_to(UidSet({2, 2}), "Work/Old")->uids == std::vector<Uid>{4});
    CHECK(sync(*inbox).expunged == std::vector<std::uint32_t>{2});
    REQUIRE(inbox->expunge(UidSet({1, 1})));
    CHECK(sync(*inbox).expunged == std::vector<std::uint32_t>{1});
    CHECK(inbox->exists() == 1);
    CHECK(parse_mbox(read_file(scratch.path() + "/spool")).messages.size() == 1);
    CHECK(parse_mbox(read_file(scratch.path() + "/mail/Work/Old")).messages.size() == 4);
    const auto old = select(*account, "Work/Old");
    CHECK(row(*old, 1).flags == (kAnswered | kRecent));
    CHECK(*old->reader()->text(4, 1000) == "Subject: two\r\n\r\nWorld\r\n");
}

TEST_CASE("other programs' deliveries and changes to an mbox are seen", "[store][mbox]") {
    Scratch scratch;
    const auto account = scratch.open(location(scratch));
    const auto inbox = select(*account);
    CHECK(inbox->exists() == 0);
    write_file(scratch.path() + "/spool", kTwo);
    CHECK(sync(*inbox).exists == 3u);
    std::string text = kTwo;
    text.replace(text.find("Status: RO"), 10, "Status: O ");
    text.replace(text.find("last"), 4, "4242");
    usleep(30000);
    write_file(scratch.path() + "/spool", text + "From c Thu Nov 22 11:12:11 2026\n\nx\n");
    const Changes changes = sync(*inbox);
    CHECK(changes.exists == 4u);
    REQUIRE(changes.flags.size() == 1);
    CHECK((changes.flags[0].row.flags & kSeen) == 0);
}

TEST_CASE("UIDs in X-IMAPbase and X-UID are adopted; c-client's own message is hidden", "[store][mbox]") {
    Scratch scratch;
    write_file(scratch.path() + "/spool",
               "From MAILER-DAEMON Thu Nov 22 11:11:11 2026\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
               "X-IMAP: 1234567890 0000000042 Work\nStatus: RO\n\nThis text is part of the internal format.\n\n"
               "From b Thu Nov 22 11:12:11 2026\nSubject: two\nX-UID: 17\nX-Keywords: Work\n\nx\n\n"
               "From b Thu Nov 22 11:12:11 2026\nSubject: three\n\nx\n");
    const auto account = scratch.open(location(scratch));
    const auto inbox = select(*account);
    CHECK(inbox->uidvalidity() == 1234567890);
    CHECK(inbox->exists() == 2);
    CHECK(inbox->uid_of(1) == 17);
    CHECK(row(*inbox, 17).keywords == 1);
    CHECK(inbox->uid_of(2) == 18);
    CHECK(inbox->uidnext() == 43);
}

TEST_CASE("when the index of an mbox is lost, no UID is given again", "[store][mbox]") {
    Scratch scratch;
    const std::string spool = scratch.path() + "/spool";
    const std::string two = "From b Thu Nov 22 11:12:11 2026\nSubject: two\nX-IMAPbase: 1234567890 0000000017\nX-UID: 17\n\nx\n\n";
    write_file(spool, two + "From b Thu Nov 22 11:12:11 2026\nSubject: three\n\nx\n\n");
    std::set<std::uint32_t> given;
    {
        const auto account = scratch.open(location(scratch));
        const auto inbox = select(*account);
        CHECK(inbox->uidvalidity() == 1234567890);
        CHECK(inbox->uid_of(2) == 18);
        given.insert(inbox->uidvalidity());
    }
    write_file(spool, two + "From b Thu Nov 22 11:13:11 2026\nSubject: four\n\nx\n\n");   // another program: 18 is gone
    for (int i = 0; i < 3; ++i) {
        remove_tree(scratch.path() + "/mail/.postern.index");
        const auto account = scratch.open(location(scratch));
        const auto inbox = select(*account);
        CHECK(inbox->exists() == 2);
        CHECK(given.insert(inbox->uidvalidity()).second);      // 18 means another message now
        CHECK(inbox->uidvalidity() > 1234567890);
        CHECK(inbox->uid_of(1) < inbox->uid_of(2));
        store_flags(*inbox, inbox->uid_of(1), FlagChange::How::add, i == 0 ? kSeen : i == 1 ? kAnswered : kFlagged);   // writes X-IMAPbase
        CHECK(read_file(spool).find("X-IMAPbase: " + std::to_string(inbox->uidvalidity()) + " ") != std::string::npos);
        CHECK(select(*scratch.open(location(scratch)))->uidvalidity() == inbox->uidvalidity());
    }
}

TEST_CASE("identical messages in an mbox stay apart", "[store][mbox]") {
    Scratch scratch;
    std::string text;
    for (int i = 0; i < 3; ++i) {
        text += "From b Thu Nov 22 11:12:11 2026\nSubject: same\n\nx\n\n";
    }
    write_file(scratch.path() + "/spool", text);
    const auto account = scratch.open(location(scratch));
    const auto inbox = select(*account);
    REQUIRE(inbox->exists() == 3);
    REQUIRE(inbox->expunge(UidSet({2, 2})));
    CHECK(sync(*inbox).expunged == std::vector<std::uint32_t>{2});
    CHECK(inbox->uids().text() == "1,3");
    CHECK(sync(*inbox).expunged.empty());
    CHECK(inbox->reader()->text(3, 1000).ok());
    CHECK(parse_mbox(read_file(scratch.path() + "/spool")).messages.size() == 2);
}

TEST_CASE("an interrupted rewriting is finished, and mail appended since is kept", "[store][mbox]") {
    // Every prefix of the work that the journal's application consists of, with and without a later delivery.
    const std::string old_text = "From a 10:10\nS: 1\n\naaaaaaaa\n\nFrom b 10:10\n\nbbbb\n\n";
    for (const std::string& tail : {std::string("From b 10:10\n\nbbbb\n\n"), std::string("From B 10:10\nX: longer than before\n\nbbbb\n\nFrom c 10:10\n\ncc\n\n")}) {
        for (const std::string& delivered : {std::string(), std::string("From z 10:10\n\nzz\n\n")}) {
            Scratch scratch;
            const std::string path = scratch.path() + "/box";
            const std::string journal = scratch.path() + "/journal";
            write_file(path, old_text);
            const std::uint64_t from = 0;
            {
                Result<MboxLock> lock = MboxLock::take(path, MboxLock::Mode::write);
                REQUIRE(lock);
                CHECK(access((path + ".lock").c_str(), F_OK) == 0);
                // The journal is opened, not replaced: another link to it shows what was in it.
                write_file(journal, "");
                REQUIRE(link(journal.c_str(), (journal + ".kept").c_str()) == 0);
                REQUIRE(rewrite_tail(lock->fd(), journal, from, {MboxPiece{0, 0, tail}}));
            }
            CHECK(access((path + ".lock").c_str(), F_OK) != 0);
            CHECK(read_file(path) == tail);
            const std::string whole = read_file(journal + ".kept");
            REQUIRE(whole.size() > tail.size());
            for (int crashed_after = 0; crashed_after < 2; ++crashed_after) {
                CAPTURE(tail, delivered, crashed_after);
                // 0: before anything was copied.  1: after everything, the file already shortened or longer.
                std::string now = crashed_after == 0 ? old_text : tail;
                const int fd = open(path.c_str(), O_RDWR | O_TRUNC);
                REQUIRE(::write(fd, (now + delivered).data(), now.size() + delivered.size()) > 0);
                write_file(journal, whole);
                REQUIRE(finish_rewrite(fd, journal));
                close(fd);
                const std::string result = read_file(path);
                CHECK((result == tail + delivered || (!delivered.empty() && result == now + delivered)));
                CHECK(access(journal.c_str(), F_OK) != 0);
                // A journal that is cut or damaged is dropped.
                write_file(path, old_text);
                write_file(journal, whole.substr(0, whole.size() - 1));
                const int again = open(path.c_str(), O_RDWR);
                REQUIRE(finish_rewrite(again, journal));
                close(again);
                CHECK(read_file(path) == old_text);
            }
        }
    }
}

TEST_CASE("the locks of an mbox keep others out", "[store][mbox]") {
    Scratch scratch;
    const std::string path = scratch.path() + "/box";
    write_file(path, "");
    CHECK(MboxLock::take(scratch.path() + "/none", MboxLock::Mode::read).error().code == Errc::not_found);
    Result<MboxLock> mine = MboxLock::take(path, MboxLock::Mode::write);
    REQUIRE(mine);
    CHECK(in_child([&] { _exit(MboxLock::take(path, MboxLock::Mode::write) ? 1 : 0); }) == 0);
}

TEST_CASE("an mbox is locked by the locks that are asked for, as long as is asked for", "[store][mbox]") {
    Scratch scratch;
    const std::string path = scratch.path() + "/box", dot = path + ".lock";
    write_file(path, "");
    const auto locking = [](std::string_view words) {
        MboxLocking out;
        out.read = out.write = parse_mbox_locks(words);
        out.timeout = std::chrono::seconds(1);
        return out;
    };
    // Whether a child, with the locks `theirs`, may write while we hold `ours`.
    const auto both = [&](std::string_view ours, std::string_view theirs) {
        const Result<MboxLock> held = MboxLock::take(path, MboxLock::Mode::write, locking(ours));
        REQUIRE(held);
        return in_child([&] {
                   const bool taken = MboxLock::take(path, MboxLock::Mode::write, locking(theirs)).ok();   // and given back
                   _exit(taken ? 0 : 1);
               }) == 0;
    };
    CHECK_FALSE(both("fcntl", "fcntl dotlock"));
    CHECK_FALSE(both("lockf", "fcntl"));
    CHECK_FALSE(both("flock", "flock"));
    CHECK_FALSE(both("dotlock", "dotlock_try"));
    CHECK_FALSE(both("fcntl, dotlock", "dotlock"));
    CHECK(both("fcntl", "flock"));
    CHECK(both("flock", "dotlock"));
    CHECK(both("", "fcntl dotlock"));
    CHECK(access(dot.c_str(), F_OK) != 0);
    // Somebody else's lock file: respected while it is young.
    write_file(dot, "somebody\n");
    MboxLocking patient = locking("dotlock");
    const auto before = std::chrono::steady_clock::now();
    CHECK_FALSE(MboxLock::take(path, MboxLock::Mode::write, patient));
    CHECK(std::chrono::steady_clock::now() - before >= std::chrono::milliseconds(900));
    struct timespec old[2] = {{time(nullptr) - 30, 0}, {time(nullptr) - 30, 0}};
    REQUIRE(utimensat(AT_FDCWD, dot.c_str(), old, 0) == 0);
    CHECK_FALSE(MboxLock::take(path, MboxLock::Mode::write, patient));
    patient.stale = std::chrono::seconds(20);
    CHECK(MboxLock::take(path, MboxLock::Mode::write, patient));
}

TEST_CASE("a lock file is made with the saved group where the user may not", "[store][mbox]") {
    if (geteuid() != 0) {
        WARN("only root can have a process with a saved group: not tested");
        return;
    }
    constexpr uid_t kUser = 65534;
    constexpr gid_t kGroup = 65533, kSpool = 65532;
    Scratch scratch;
    const std::string spool = scratch.path() + "/spool", path = spool + "/box", dot = path + ".lock";
    REQUIRE(chmod(scratch.path().c_str(), 0755) == 0);
    REQUIRE(mkdir(spool.c_str(), 0700) == 0);
    REQUIRE(chown(spool.c_str(), 0, kSpool) == 0);
    REQUIRE(chmod(spool.c_str(), 0770) == 0);
    write_file(path, "");
    REQUIRE(chown(path.c_str(), kUser, kGroup) == 0);
    REQUIRE(chmod(spool.c_str(), 0775) == 0);
    const auto as_user = [&](gid_t saved, bool privileged, const std::function<int(bool)>& look) {
        const int ended = in_child([&] {
            if (setgroups(0, nullptr) != 0 || setresgid(kGroup, kGroup, saved) != 0 || setresuid(kUser, kUser, kUser) != 0) {
                _exit(99);
            }
            MboxLocking locking;
            locking.privileged = privileged;
            int status = 0;
            {
                const Result<MboxLock> held = MboxLock::take(path, MboxLock::Mode::write, locking);
                status = look(held.ok());
            }
            const bool left = access(dot.c_str(), F_OK) == 0;
            const bool still_in_group = open((spool + "/other").c_str(), O_CREAT | O_WRONLY, 0600) >= 0;
            _exit(left ? 90 : still_in_group ? 91 : status);
        });
        return WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
    };
    const auto locked_with = [&](bool held) {
        struct stat status {};
        const bool there = stat(dot.c_str(), &status) == 0;
        return !held ? 1 : !there ? 2 : status.st_gid == kSpool && status.st_uid == kUser ? 0 : 3;
    };
    CHECK(as_user(kSpool, true, locked_with) == 0);
    CHECK(as_user(kSpool, false, locked_with) == 2);    // as without a saved group: it is left out
    CHECK(as_user(kGroup, true, locked_with) == 2);
    CHECK(as_user(kGroup - 5, true, locked_with) == 1);   // a group that does not help: no lock, no work
    // Somebody else's, too old to be alive, is removed with the group's right too.
    write_file(dot, "somebody\n");
    struct timespec old[2] = {{time(nullptr) - 300, 0}, {time(nullptr) - 300, 0}};
    REQUIRE(utimensat(AT_FDCWD, dot.c_str(), old, 0) == 0);
    CHECK(as_user(kSpool, true, locked_with) == 0);
}

TEST_CASE("the saved group makes nothing where the user's own directories lead", "[store][mbox]") {
    if (geteuid() != 0) {
        WARN("only root can have a process with a saved group: not tested");
        return;
    }
    constexpr uid_t kUser = 65534;
    constexpr gid_t kGroup = 65533, kSpool = 65532;
    Scratch scratch;
    const std::string top = scratch.path(), spool = top + "/spool", home = top + "/home";
    REQUIRE(chmod(top.c_str(), 0755) == 0);
    REQUIRE(mkdir(spool.c_str(), 0755) == 0);
    REQUIRE(chown(spool.c_str(), 0, kSpool) == 0);
    REQUIRE(chmod(spool.c_str(), 0775) == 0);
    REQUIRE(mkdir(home.c_str(), 0755) == 0);
    REQUIRE(chown(home.c_str(), kUser, kGroup) == 0);
    // Opens the INBOX with the user's rights and the saved group; false: could not be tried.
    const auto opened = [&](const std::string& location) {
        return in_child([&] {
                   if (setgroups(0, nullptr) != 0 || setresgid(kGroup, kGroup, kSpool) != 0 || setresuid(kUser, kUser, kUser) != 0) {
                       _exit(99);
                   }
                   AccountOptions options;
                   options.location = location;
                   options.user = "fred";
                   options.home = home;
                   options.mbox_locking.privileged = true;
                   options.mbox_locking.timeout = std::chrono::seconds(1);
                   if (const auto account = Account::open(options)) {
                       const auto looked = (*account)->select("INBOX", Access::read_write);
                       static_cast<void>(looked);
                   }
               }) == 0;
    };
    const std::string index = ":INDEX=" + home + "/index";
    const auto in_spool = [&](const char* name) { return access((spool + "/" + name).c_str(), F_OK) == 0; };
    CHECK(opened("mbox:" + home + "/mail:INBOX=" + spool + "/fred" + index));
    CHECK(in_spool("fred"));                                            // what the group is for
    REQUIRE(symlink((spool + "/victim").c_str(), (home + "/box").c_str()) == 0);
    CHECK(opened("mbox:" + home + "/mail:INBOX=" + home + "/box" + index));
    CHECK_FALSE(in_spool("victim"));
    REQUIRE(symlink(spool.c_str(), (home + "/linked").c_str()) == 0);
    CHECK(opened("mbox:" + home + "/linked" + index + "2"));
    CHECK_FALSE(in_spool("inbox"));
}

TEST_CASE("the mbox files of the corpus are split as their makers meant", "[store][mbox]") {
    const char* const chosen = std::getenv("POSTERN_CORPUS");
    const std::string corpus = (chosen != nullptr ? chosen : "../shared/corpus") + std::string("/mbox");
    std::size_t files = 0;
    for (const char* const folder : {"/mime4j", "/james-utils"}) {
        for (const std::string& name : files_in(corpus + folder)) {
            const std::string text = read_file(corpus + folder + "/" + name);
            if (text.substr(0, 5) != "From ") {
                continue;
            }
            ++files;
            const MboxFile file = parse_mbox(text);
            CAPTURE(name);
            CHECK(file.messages.size() > 1);
            std::uint64_t end = 0;
            for (const MboxMessage& message : file.messages) {
                CHECK(message.start == end);
                end = message.end;
            }
            CHECK(end == text.size());
        }
    }
    if (files == 0) {
        WARN("skipped: no mbox files at " << corpus);
    }
}

TEST_CASE("keywords of an mbox that IMAP could not say are left out", "[store][mbox]") {
    Scratch scratch;
    write_file(scratch.path() + "/spool", "From a@example.org Thu Nov 22 11:11:11 2026\nSubject: one\n"
                                          "X-Keywords: good a)b {3} \"q \\Seen caf\xc3\xa9 also\n\nHello\n");
    const auto account = scratch.open(location(scratch));
    const auto inbox = select(*account);
    CHECK(inbox->keywords() == std::vector<std::string>{"good", "also"});
}

TEST_CASE("a Content-Length that covers what is added takes nothing from the new message", "[store][mbox]") {
    Scratch scratch;
    const std::string spool = scratch.path() + "/spool";
    const auto mbox = [](std::size_t length) {
        return "From a@example.org Thu Nov 22 11:11:11 2026\nContent-Length: " + std::to_string(length) + "\n\nHello\n\n";
    };
    std::size_t added = 0;
    write_file(spool, mbox(100));
    {
        const auto account = scratch.open(location(scratch));
        append(*account, "INBOX", sample(7));
        added = read_file(spool).size() - mbox(100).size();
    }
    remove_tree(scratch.path() + "/mail");
    write_file(spool, mbox(std::string("Hello\n\n").size() + added));
    REQUIRE(mbox(100 + added).size() == mbox(100).size());
    const auto account = scratch.open(location(scratch));
    Result<std::unique_ptr<Appender>> appender = account->append("INBOX");
    REQUIRE(appender);
    REQUIRE((*appender)->write(sample(7)));
    REQUIRE((*appender)->finish());
    std::vector<std::unique_ptr<Appender>> all;
    all.push_back(std::move(*appender));
    const Result<Assigned> assigned = account->commit_appends("INBOX", all);
    REQUIRE(assigned);
    const auto inbox = select(*account);
    CHECK(inbox->exists() == 2);
    CHECK(inbox->reader()->text(assigned->uids.at(0), 10000)->find("body of 7") != std::string::npos);
}
