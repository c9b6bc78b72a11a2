/// lib/store when the process dies, or the disk is full, at every single step.
///
/// The system calls that change files are replaced by ones that count; at the chosen one the process ends
/// (the kernel keeps what was done before, as after SIGKILL) or the call fails with ENOSPC.
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdarg>
#include <map>
#include <mutex>

#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

namespace {

enum class Trouble { none, die, full_once, full_from_then_on };
Trouble trouble = Trouble::none;
int steps_left = 0;
int steps_done = 0;

std::mutex stepping;                              // a directory is synced in a thread of its own

/// True when this call must fail.
bool step() {
    const std::lock_guard<std::mutex> lock(stepping);
    if (trouble == Trouble::none) {
        return false;
    }
    ++steps_done;
    if (steps_left > 0 && --steps_left > 0) {
        return false;
    }
    if (trouble == Trouble::die) {
        _exit(77);
    }
    if (trouble == Trouble::full_once) {
        trouble = Trouble::none;
    }
    errno = ENOSPC;
    return true;
}

}  // namespace

extern "C" {
ssize_t write(int fd, const void* bytes, size_t size) { return fd > 2 && step() ? -1 : syscall(SYS_write, fd, bytes, size); }
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) { return step() ? -1 : syscall(SYS_pwrite64, fd, bytes, size, at); }
ssize_t pwrite64(int fd, const void* bytes, size_t size, off_t at) { return step() ? -1 : syscall(SYS_pwrite64, fd, bytes, size, at); }
ssize_t writev(int fd, const iovec* parts, int count) { return step() ? -1 : syscall(SYS_writev, fd, parts, count); }
ssize_t pwritev(int fd, const iovec* parts, int count, off_t at) { return step() ? -1 : syscall(SYS_pwritev, fd, parts, count, at, 0); }
int fsync(int fd) { return step() ? -1 : static_cast<int>(syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { return step() ? -1 : static_cast<int>(syscall(SYS_fdatasync, fd)); }
int rename(const char* from, const char* to) noexcept { return step() ? -1 : static_cast<int>(syscall(SYS_rename, from, to)); }
int renameat(int a, const char* from, int b, const char* to) noexcept {
    return step() ? -1 : static_cast<int>(syscall(SYS_renameat, a, from, b, to));
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) noexcept {
    return step() ? -1 : static_cast<int>(syscall(SYS_renameat2, a, from, b, to, flags));
}
int linkat(int a, const char* from, int b, const char* to, int flags) noexcept {
    return step() ? -1 : static_cast<int>(syscall(SYS_linkat, a, from, b, to, flags));
}
// These need no space; they count as steps at which the process may die.
int unlinkat(int at, const char* name, int flags) noexcept {
    if (trouble == Trouble::die) {
        step();
    }
    return static_cast<int>(syscall(SYS_unlinkat, at, name, flags));
}
int ftruncate(int fd, off_t size) noexcept {
    if (trouble == Trouble::die) {
        step();
    }
    return static_cast<int>(syscall(SYS_ftruncate, fd, size));
}
int mkdir(const char* name, mode_t mode) noexcept { return step() ? -1 : static_cast<int>(syscall(SYS_mkdir, name, mode)); }
}

namespace {

constexpr int kSettled = 3;

bool in_mbox = false;
std::string scratch_path;

std::unique_ptr<Account> open_account(const Scratch& scratch) {
    return scratch.open(in_mbox ? "mbox:" + scratch.path() + "/mail:INBOX=" + scratch.path() + "/spool" : "");
}

/// INBOX with three messages (one flagged), another mailbox with one.
void prepare(const Scratch& scratch) {
    scratch_path = scratch.path();
    const auto account = open_account(scratch);
    for (int i = 1; i <= kSettled; ++i) {
        append(*account, "INBOX", sample(i), i == 2 ? kFlagged : 0u);
    }
    REQUIRE(account->create("Other"));
    append(*account, "Other", sample(10));
}

struct Content {
    std::uint32_t uidvalidity = 0;
    std::map<Uid, std::string> subjects;
    std::map<Uid, std::uint32_t> flags;
    int count(const std::string& subject) const {
        int n = 0;
        for (const auto& [uid, text] : subjects) {
            n += text == subject ? 1 : 0;
        }
        return n;
    }
};

Content content(Account& account, const std::string& name) {
    Content out;
    const auto mailbox = select(account, name);
    out.uidvalidity = mailbox->uidvalidity();
    const auto reader = mailbox->reader();
    const std::vector<std::string> subject = {"subject"};
    for (std::uint32_t seq = 1; seq <= mailbox->exists(); ++seq) {
        const Uid uid = mailbox->uid_of(seq);
        out.subjects[uid] = std::string(*reader->header_fields(uid, subject));
        CHECK(reader->summary(uid, Need::all).ok());
        CHECK(reader->text(uid, 100000).ok());
        out.flags[uid] = reader->row(uid)->flags & kStorableFlags;
    }
    return out;
}

std::string subject(int n) { return "Subject: number " + std::to_string(n) + "\r\n"; }

/// What a client does; true when it was told OK.
using Work = std::function<bool(Account&)>;
using Check = std::function<void(const Content& inbox, const Content& other, bool told_ok)>;

void check_common(const Content& inbox, const Content& before) {
    CHECK(inbox.uidvalidity == before.uidvalidity);
    for (const auto& [uid, text] : inbox.subjects) {
        const auto old = before.subjects.find(uid);
        if (old != before.subjects.end()) {
            CHECK(old->second == text);           // a UID never names another message
        }
    }
}

/// Repeats the work with trouble at step 1, 2, 3, ... until it gets through untroubled.
void in_one_format(Trouble kind, const Work& work, const Check& check) {
    for (int n = 1; n < 400; ++n) {
        CAPTURE(n);
        Scratch scratch;
        prepare(scratch);
        Content before;
        {
            const auto account = open_account(scratch);
            before = content(*account, "INBOX");
        }
        const int status = in_child([&] {
            const auto account = open_account(scratch);
            trouble = kind;
            steps_left = n;
            const bool ok = work(*account);
            const bool untroubled = trouble != Trouble::none && steps_left > 0;
            trouble = Trouble::none;
            _exit(untroubled ? 2 : ok ? 0 : 1);
        });
        REQUIRE(WIFEXITED(status));
        const auto account = open_account(scratch);
        const Content inbox = content(*account, "INBOX");
        const Content other = content(*account, "Other");
        check_common(inbox, before);
        check(inbox, other, WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2);
        if (WEXITSTATUS(status) == 2) {
            CHECK(n > 2);                         // there were steps at all
            return;
        }
    }
    FAIL("never got through");
}

void at_every_step(Trouble kind, const Work& work, const Check& check) {
    for (const bool mbox : {false, true}) {
        CAPTURE(mbox);
        in_mbox = mbox;
        in_one_format(kind, work, check);
    }
    in_mbox = false;
}

void in_all_troubles(const Work& work, const Check& check) {
    SECTION("the process dies") { at_every_step(Trouble::die, work, check); }
    SECTION("the disk is full for a moment") { at_every_step(Trouble::full_once, work, check); }
    SECTION("the disk is full") { at_every_step(Trouble::full_from_then_on, work, check); }
}

}  // namespace

TEST_CASE("append: OK means there once, not OK after a full disk means not there", "[store]") {
    bool full = false;
    const Work work = [](Account& account) {
        Result<std::unique_ptr<Appender>> appender = account.append("INBOX");
        if (!appender || !(*appender)->write(sample(4)) || !(*appender)->finish()) {
            return false;
        }
        std::vector<std::unique_ptr<Appender>> all;
        all.push_back(std::move(*appender));
        return account.commit_appends("INBOX", all).ok();
    };
    const Check check = [&](const Content& inbox, const Content&, bool ok) {
        for (int i = 1; i <= kSettled; ++i) {
            CHECK(inbox.count(subject(i)) == 1);
        }
        CHECK(inbox.count(subject(4)) <= 1);
        if (ok) {
            CHECK(inbox.count(subject(4)) == 1);
            CHECK(inbox.subjects.count(4) == 1);
        } else if (full) {
            CHECK(inbox.count(subject(4)) == 0);
        }
    };
    SECTION("the process dies") { at_every_step(Trouble::die, work, check); }
    full = true;
    SECTION("the disk is full for a moment") { at_every_step(Trouble::full_once, work, check); }
    SECTION("the disk is full") { at_every_step(Trouble::full_from_then_on, work, check); }
}

TEST_CASE("store: flags are old or new, and OK means new", "[store]") {
    in_all_troubles(
        [](Account& account) {
            const auto inbox = account.select("INBOX", Access::read_write);
            FlagChange change;
            change.how = FlagChange::How::add;
            change.flags = kSeen;
            change.keywords = {"Later"};
            return inbox && (*inbox)->store(UidSet({1, 3}), change).ok();
        },
        [](const Content& inbox, const Content&, bool ok) {
            CHECK(inbox.subjects.size() == kSettled);
            for (const auto& [uid, flags] : inbox.flags) {
                const std::uint32_t old = uid == 2 ? kFlagged : 0u;
                CHECK((flags == old || flags == (old | kSeen)));
                if (ok) {
                    CHECK(flags == (old | kSeen));
                }
            }
        });
}

TEST_CASE("expunge: OK means gone, and nothing else goes", "[store]") {
    in_all_troubles(
        [](Account& account) {
            const auto inbox = account.select("INBOX", Access::read_write);
            return inbox && (*inbox)->expunge(UidSet({2, 3})).ok();
        },
        [](const Content& inbox, const Content&, bool ok) {
            CHECK(inbox.count(subject(1)) == 1);
            CHECK(inbox.count(subject(2)) <= 1);
            if (ok) {
                CHECK(inbox.subjects.size() == 1);
            }
        });
}

TEST_CASE("copy: OK means there, not OK after a full disk means nothing", "[store]") {
    bool full = false;
    const Work work = [](Account& account) {
        const auto inbox = account.select("INBOX", Access::read_write);
        return inbox && (*inbox)->copy_to(UidSet({1, 2}), "Other").ok();
    };
    const Check check = [&](const Content& inbox, const Content& other, bool ok) {
            if (full && !ok) {
                CHECK(other.subjects.size() == 1);
            }
            CHECK(inbox.subjects.size() == kSettled);
            CHECK(other.count(subject(10)) == 1);
            CHECK(other.count(subject(1)) <= 1);
            if (ok) {
                CHECK(other.count(subject(1)) == 1);
                CHECK(other.count(subject(2)) == 1);
            }
    };
    SECTION("the process dies") { at_every_step(Trouble::die, work, check); }
    full = true;
    SECTION("the disk is full for a moment") { at_every_step(Trouble::full_once, work, check); }
    SECTION("the disk is full") { at_every_step(Trouble::full_from_then_on, work, check); }
}

TEST_CASE("move: a message is always in one of the two places", "[store]") {
    in_all_troubles(
        [](Account& account) {
            const auto inbox = account.select("INBOX", Access::read_write);
            return inbox && (*inbox)->move_to(UidSet({1, 2}), "Other").ok();
        },
        [](const Content& inbox, const Content& other, bool ok) {
            for (int i = 1; i <= kSettled; ++i) {
                const int copies = inbox.count(subject(i)) + other.count(subject(i));
                CHECK(copies >= 1);
                CHECK((copies == 1 || (in_mbox && !ok && copies == 2)));   // two files do not change as one
            }
            if (ok) {
                CHECK(inbox.subjects.size() == 1);
                CHECK(other.subjects.size() == 3);
            }
        });
}

TEST_CASE("the first look at deliveries can be cut anywhere", "[store]") {
    in_all_troubles(
        [](Account& account) {
            if (!in_mbox) {
                const Trouble later = std::exchange(trouble, Trouble::none);
                write_file(scratch_path + "/Maildir/new/1.h", sample(4));
                write_file(scratch_path + "/Maildir/new/2.h", sample(5));
                trouble = later;
            }
            const auto other = account.select("Other", Access::read_write);
            return other && account.select("INBOX", Access::read_write).ok();
        },
        [](const Content& inbox, const Content& other, bool) {
            CHECK(inbox.subjects.size() == kSettled + (in_mbox ? 0 : 2));
            CHECK(inbox.count(subject(4)) == (in_mbox ? 0 : 1));
            CHECK(other.subjects.size() == 1);
        });
}

TEST_CASE("a full disk is called that, and when there is room again all goes on", "[store]") {
    in_mbox = false;
    Scratch scratch;
    prepare(scratch);
    const auto account = open_account(scratch);
    const auto inbox = select(*account);
    FlagChange change;
    change.how = FlagChange::How::add;
    change.flags = kSeen;
    auto full = [](auto&& work) {
        trouble = Trouble::full_from_then_on;
        steps_left = 1;
        const auto result = work();
        trouble = Trouble::none;
        CHECK(result.error().code == Errc::no_space);
    };
    full([&] { return inbox->store(UidSet({1, 1}), change); });
    full([&] { return inbox->expunge(UidSet({1, 1})); });
    full([&] { return inbox->copy_to(UidSet({2, 2}), "Other"); });
    full([&] { return inbox->move_to(UidSet({2, 2}), "Other"); });
    full([&] { return account->create("New"); });
    full([&]() -> Result<void> {
        Result<std::unique_ptr<Appender>> appender = account->append("INBOX");
        REQUIRE(appender);
        REQUIRE((*appender)->write("A: b\n\n"));
        return (*appender)->finish();
    });
    sync(*inbox);
    CHECK(inbox->store(UidSet({2, 2}), change).ok());
    CHECK(account->create("New").ok());
    append(*account, "New", sample(7));
    CHECK(content(*account, "New").count(subject(7)) == 1);
}

TEST_CASE("renaming a mailbox can be cut anywhere", "[store]") {
    for (const Trouble kind : {Trouble::die, Trouble::full_once}) {
        for (int n = 1; n < 100; ++n) {
            CAPTURE(n);
            Scratch scratch;
            prepare(scratch);
            const int status = in_child([&] {
                const auto account = open_account(scratch);
                trouble = kind;
                steps_left = n;
                const Result<void> renamed = account->rename("Other", "New");
                static_cast<void>(renamed.ok());
                const bool untroubled = trouble != Trouble::none && steps_left > 0;
                trouble = Trouble::none;
                _exit(untroubled ? 2 : 0);
            });
            const auto account = open_account(scratch);
            const std::string name = account->exists("New") ? "New" : "Other";
            CHECK(account->exists("New") != account->exists("Other"));
            CHECK(content(*account, name).count(subject(10)) == 1);
            if (WEXITSTATUS(status) == 2) {
                CHECK(name == "New");
                break;
            }
        }
    }
}
