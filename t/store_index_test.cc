/// The index of lib/store: adopting uidlists, losing the index, damage at every byte.
#include <algorithm>
#include <chrono>

#include "lib/store/cache.h"
#include "lib/store/index.h"
#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

namespace {

std::string state_of(Account& account, const std::string& name = "INBOX") {
    const auto mailbox = select(account, name, Access::read_only);
    const auto reader = mailbox->reader();
    std::string out = std::to_string(mailbox->uidvalidity()) + ":";
    for (std::uint32_t seq = 1; seq <= mailbox->exists(); ++seq) {
        const Uid uid = mailbox->uid_of(seq);
        const Result<Row> found = reader->row(uid);
        const Result<Summary> summary = reader->summary(uid, Need::all);
        REQUIRE(found);
        REQUIRE(summary);
        const std::size_t at = summary->envelope.find("number ");
        out += " " + std::to_string(uid) + "/" + std::to_string(found->flags & kStorableFlags) + "/" +
               std::to_string(found->keywords) + "/" + std::string(summary->envelope.substr(at + 7, 1));
    }
    return out;
}

void fill(const Scratch& scratch) {
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1), kSeen, {"Red"});
    append(*account, "INBOX", sample(2));
    append(*account, "INBOX", sample(3), kFlagged);
    append(*account, "INBOX", sample(4));
    const auto inbox = select(*account);
    REQUIRE(inbox->expunge(UidSet({2, 2})));
}

std::string index_directory(const Scratch& scratch) { return scratch.maildir() + "/postern.index"; }

}  // namespace

TEST_CASE("dovecot-uidlist, dovecot-keywords and the mailbox's id are adopted", "[store]") {
    Scratch scratch;
    { const auto account = scratch.open(); }
    remove_tree(index_directory(scratch));
    unlink((scratch.maildir() + "/dovecot-uidlist").c_str());
    write_file(scratch.maildir() + "/cur/1700000002.b,S=1:2,Sb", sample(2));
    write_file(scratch.maildir() + "/cur/1700000001.a:2,", sample(1));
    write_file(scratch.maildir() + "/cur/1600000000.unlisted:2,d", sample(3));
    write_file(scratch.maildir() + "/new/1800000000.new", sample(4));
    write_file(scratch.maildir() + "/dovecot-uidlist", "3 V1234567 N100 G00112233445566778899aabbccddeeff\n"
                                                       "17 :1700000002.b,S=1\n18 :1500000000.gone\n40 :1700000001.a\n");
    write_file(scratch.maildir() + "/dovecot-keywords", "0 $Forwarded\n1 Work\n");
    const auto account = scratch.open();
    CHECK(state_of(*account) == "1234567: 17/1/2/2 40/0/0/1 100/0/8/3 101/0/0/4");
    const auto inbox = select(*account);
    CHECK(inbox->mailbox_id() == "00112233445566778899aabbccddeeff");
    CHECK(inbox->keywords() == std::vector<std::string>{"$Forwarded", "Work", "unknown-2", "unknown-3"});
    CHECK(inbox->uidnext() == 102);
    CHECK(inbox->highest_modseq() > (Modseq{1600000000} << 16));   // above all that Dovecot can have given
}

TEST_CASE("courierimapuiddb is adopted", "[store]") {
    Scratch scratch;
    { const auto account = scratch.open(); }
    remove_tree(index_directory(scratch));
    write_file(scratch.maildir() + "/cur/2.b:2,", sample(2));
    write_file(scratch.maildir() + "/cur/1.a:2,", sample(1));
    write_file(scratch.maildir() + "/courierimapuiddb", "1 777 9\n4 2.b\n6 1.a\n");
    const auto account = scratch.open();
    CHECK(state_of(*account) == "777: 4/0/0/2 6/0/0/1");
    CHECK(account->status("INBOX")->uidnext == 9);
}

TEST_CASE("a lost index comes back with the same UIDs and higher mod-sequences", "[store]") {
    Scratch scratch;
    fill(scratch);
    std::string before;
    Modseq modseq = 0;
    {
        const auto account = scratch.open();
        before = state_of(*account);
        modseq = account->status("INBOX")->highest_modseq;
    }
    remove_tree(index_directory(scratch));
    const auto account = scratch.open();
    CHECK(state_of(*account) == before);
    CHECK(account->status("INBOX")->highest_modseq > modseq);
    CHECK(account->status("INBOX")->uidnext == 5);
    const auto inbox = select(*account);
    CHECK(inbox->vanished_since(modseq)->text() == "2");   // older than the log: all that is not there
}

TEST_CASE("without a uidlist a lost index means a new UIDVALIDITY", "[store]") {
    Scratch scratch;
    fill(scratch);
    std::uint32_t before = 0;
    {
        const auto account = scratch.open();
        before = account->status("INBOX")->uidvalidity;
    }
    remove_tree(index_directory(scratch));
    unlink((scratch.maildir() + "/dovecot-uidlist").c_str());
    usleep(1100 * 1000);   // UIDVALIDITY is the time in seconds
    const auto account = scratch.open();
    CHECK(account->status("INBOX")->uidvalidity > before);
    CHECK(account->status("INBOX")->messages == 3);
}

TEST_CASE("what was kept of messages is not shown for others when the index alone is lost", "[store]") {
    Scratch scratch;
    const auto envelope_of = [](Account& account, const std::string& name) {
        const auto mailbox = select(account, name);
        return std::string(mailbox->reader()->summary(1, Need::all)->envelope);
    };
    {
        const auto account = scratch.open();
        REQUIRE(account->create("Sent"));
        append(*account, "INBOX", sample(1));
        append(*account, "Sent", sample(2));
        CHECK(envelope_of(*account, "INBOX").find("number 1") != std::string::npos);
        CHECK(envelope_of(*account, "Sent").find("number 2") != std::string::npos);
    }
    const std::string file = index_directory(scratch) + "/index.mdb";
    SECTION("removed") {
        unlink(file.c_str());
        unlink((file + "-lock").c_str());
    }
    SECTION("damaged") { write_file(file, std::string(20000, 'x')); }
    SECTION("marked as damaged") { mark_index_damaged(index_directory(scratch)); }
    const auto account = scratch.open();
    CHECK(envelope_of(*account, "Sent").find("number 2") != std::string::npos);   // in another order than before
    CHECK(envelope_of(*account, "INBOX").find("number 1") != std::string::npos);
}

TEST_CASE("a session whose index was replaced does not call the new one damaged", "[store]") {
    Scratch scratch;
    fill(scratch);
    const auto old = scratch.open();
    const auto inbox = select(*old);
    const std::string file = index_directory(scratch) + "/index.mdb";
    unlink(file.c_str());
    unlink((file + "-lock").c_str());
    const auto fresh = scratch.open();
    const std::uint32_t messages = fresh->status("INBOX")->messages;
    write_file(scratch.maildir() + "/new/1700000000.M1P1.host", sample(9));
    CHECK_FALSE(inbox->sync(Expunges::show));
    CHECK(access((index_directory(scratch) + "/index.damaged").c_str(), F_OK) != 0);
    CHECK(fresh->status("INBOX")->messages == messages + 1);
}

TEST_CASE("index files that are no LMDB files are set aside", "[store]") {
    Scratch scratch;
    fill(scratch);
    std::string before;
    {
        const auto account = scratch.open();
        before = state_of(*account);
    }
    const std::string file = index_directory(scratch) + "/index.mdb";
    const std::string good = read_file(file);
    SECTION("garbage") { write_file(file, std::string(20000, 'x')); }
    SECTION("empty") { write_file(file, ""); }
    SECTION("cut") { write_file(file, good.substr(0, good.size() / 2)); }
    SECTION("marked as damaged") { mark_index_damaged(index_directory(scratch)); }
    SECTION("cache garbage") { write_file(index_directory(scratch) + "/cache.mdb", std::string(9000, 'y')); }
    SECTION("cache written before a crash of the machine") {
        write_file(index_directory(scratch) + "/cache.state", "dirty 00000000-0000-0000-0000-000000000000");
        write_file(index_directory(scratch) + "/cache.mdb", std::string(50000, '\xff'));
    }
    const auto account = scratch.open();
    CHECK(state_of(*account) == before);
}

TEST_CASE("an index of a newer format is left alone", "[store]") {
    Scratch scratch;
    fill(scratch);
    {
        Result<std::shared_ptr<Env>> env = open_index(index_directory(scratch));
        REQUIRE(env);
        Result<Txn> txn = Txn::begin(**env, true);
        REQUIRE(txn);
        const std::uint32_t newer[4] = {kIndexFormat + 1, 0x01020304, 0, 0};
        REQUIRE(txn->put(kMetaDb, "account",
                         seal(Kind::meta, "account", std::string_view(reinterpret_cast<const char*>(newer), sizeof newer))));
        REQUIRE(txn->commit());
    }
    AccountOptions options;
    options.location = "maildir:" + scratch.maildir();
    CHECK(Account::open(options).error().code == Errc::unsupported);
}

TEST_CASE("a flipped byte anywhere in a record is noticed and repaired", "[store]") {
    Scratch scratch;
    fill(scratch);
    const auto account = scratch.open();
    const std::string good = state_of(*account);
    struct Value {
        bool cache;
        std::size_t db;
        std::string key, value;
    };
    Result<std::shared_ptr<Env>> index = open_index(index_directory(scratch));
    Result<std::unique_ptr<Cache>> cache = Cache::open(index_directory(scratch));
    REQUIRE(index);
    REQUIRE(cache);
    // Returns the values as they are now; a rebuilt mailbox has others than before.
    auto all_values = [&] {
        std::vector<Value> values;
        for (const bool in_cache : {false, true}) {
            Result<Txn> txn = Txn::begin(in_cache ? (*cache)->env() : **index, false);
            for (std::size_t db = in_cache ? 0 : 1; db < (in_cache ? 3u : 5u); ++db) {
                Cursor cursor(*txn, db);
                for (Result<bool> more = cursor.seek(std::string_view("\0", 1)); more && *more; more = cursor.next()) {
                    values.push_back(Value{in_cache, db, std::string(cursor.key()), std::string(cursor.value())});
                }
            }
        }
        return values;
    };
    std::size_t flips = 0;
    const std::size_t count = all_values().size();
    CHECK(count >= 10);
    for (std::size_t n = 0; n < count; ++n) {
        for (std::size_t offset = 0;; ++offset) {
            std::vector<Value> values = all_values();
            if (n >= values.size() || offset >= values[n].value.size()) {
                break;
            }
            Value& victim = values[n];
            victim.value[offset] = static_cast<char>(victim.value[offset] ^ 0x10);
            Result<Txn> txn = Txn::begin(victim.cache ? (*cache)->env() : **index, true);
            REQUIRE(txn);
            REQUIRE(txn->put(victim.db, victim.key, victim.value));
            REQUIRE(txn->commit());
            ++flips;
            CAPTURE(n, offset, victim.cache, victim.db);
            // Damage found in the middle of a command fails that command; the next selection is whole again.
            if (Result<std::unique_ptr<Mailbox>> mailbox = account->select("INBOX", Access::read_write)) {
                const auto reader = (*mailbox)->reader();
                for (const Uid uid : {1u, 3u, 4u}) {
                    const Result<std::string> text = reader->text(uid, 10000);
                    const Result<UidSet> vanished = (*mailbox)->vanished_since(1);
                    static_cast<void>(text.ok() && vanished.ok());
                }
            }
            REQUIRE(state_of(*account) == good);
            REQUIRE(select(*account)->reader()->text(3, 10000).ok());
        }
    }
    CHECK(flips > 1000);
}

TEST_CASE("missing rights are reported as such", "[store]") {
    if (geteuid() == 0) {
        WARN("skipped: root may read everything");
        return;
    }
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1));
    REQUIRE(account->create("Locked"));
    REQUIRE(chmod((scratch.maildir() + "/cur").c_str(), 0500) == 0);
    const auto inbox = select(*account);
    CHECK(inbox->expunge(UidSet({1, 1})).error().code == Errc::denied);
    FlagChange change;
    change.flags = kSeen;
    CHECK(inbox->store(UidSet({1, 1}), change).error().code == Errc::denied);
    REQUIRE(chmod((scratch.maildir() + "/.Locked/cur").c_str(), 0) == 0);
    CHECK(account->select("Locked", Access::read_write).error().code == Errc::denied);
    REQUIRE(chmod((scratch.maildir() + "/.Locked/cur").c_str(), 0700) == 0);
    REQUIRE(chmod((scratch.maildir() + "/cur").c_str(), 0700) == 0);
    CHECK(inbox->expunge(UidSet({1, 1})).ok());
}

TEST_CASE("many mailboxes and keywords stay within their limits", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    append(*account, "INBOX", sample(1));
    const auto inbox = select(*account);
    FlagChange change;
    change.how = FlagChange::How::add;
    for (std::size_t i = 0; i < kMaxKeywords; ++i) {
        change.keywords = {"k" + std::to_string(i)};
        REQUIRE(inbox->store(UidSet({1, 1}), change));
    }
    sync(*inbox);
    CHECK_FALSE(inbox->can_add_keywords());
    CHECK(row(*inbox, 1).keywords == ~std::uint64_t{0});
    change.keywords = {"K1"};
    CHECK(inbox->store(UidSet({1, 1}), change).ok());
    change.keywords = {"one-too-many"};
    CHECK(inbox->store(UidSet({1, 1}), change).error().code == Errc::too_big);
    change.keywords = {std::string(300, 'x')};
    CHECK_FALSE(inbox->store(UidSet({1, 1}), change));
    const auto cur = files_in(scratch.maildir() + "/cur");
    CHECK(cur[0].substr(cur[0].find(":2,")) == ":2,abcdefghijklmnopqrstuvwxyz");
}

TEST_CASE("the log of expunged UIDs is pruned, and older questions get a superset", "[store]") {
    Scratch scratch;
    const auto account = scratch.open();
    for (int i = 0; i < 60; ++i) {
        write_file(scratch.maildir() + "/cur/" + std::to_string(i) + ".h:2,", "A: b\n\n");
    }
    const auto inbox = select(*account);
    const Modseq start = inbox->highest_modseq();
    for (Uid uid = 1; uid <= 50; ++uid) {
        REQUIRE(inbox->expunge(UidSet({uid, uid})));
    }
    sync(*inbox);
    CHECK(inbox->vanished_since(start)->text() == "1:50");
    CHECK(inbox->vanished_since(start + 10)->text() == "11:50");
    CHECK(inbox->exists() == 10);
}

namespace {

/// The index as it was before the last transaction: what a crash of the machine may leave.
class IndexBefore {
public:
    explicit IndexBefore(const Scratch& scratch) : directory_(index_directory(scratch)) {
        index_ = read_file(directory_ + "/index.mdb");
    }
    void restore() const {
        write_file(directory_ + "/index.mdb", index_);
        unlink((directory_ + "/index.mdb-lock").c_str());
        unlink((directory_ + "/cache.mdb").c_str());
    }

private:
    std::string directory_, index_;
};

}  // namespace

TEST_CASE("an index that forgot the last append finds UIDs in the names", "[store]") {
    Scratch scratch;
    fill(scratch);
    std::optional<IndexBefore> earlier;
    std::string told;
    Uid last = 0;
    {
        const auto account = scratch.open();
        REQUIRE(account->create("Other"));
        append(*account, "Other", sample(6));
        append(*account, "INBOX", sample(7));
        earlier.emplace(scratch);
        last = append(*account, "INBOX", sample(8), kFlagged).uids.front();
        told = state_of(*account);
    }
    earlier->restore();
    // Older by its name than what was appended: recovered messages come first all the same.
    write_file(scratch.maildir() + "/new/1.M1P1.h", sample(9));
    const auto account = scratch.open();
    SECTION("when the mailbox is looked at") {
        CHECK(state_of(*account) == told + " " + std::to_string(last + 1) + "/0/0/9");
    }
    SECTION("before another message is appended") {
        CHECK(append(*account, "INBOX", sample(5)).uids.front() == last + 2);
        CHECK(state_of(*account).substr(0, told.size()) == told);
    }
    SECTION("before another message is copied there") {
        const auto other = select(*account, "Other");
        const Result<Assigned> copied = other->copy_to(UidSet({other->uid_of(1), other->uid_of(1)}), "INBOX");
        REQUIRE(copied);
        CHECK(copied->uids.front() == last + 2);
        CHECK(state_of(*account).substr(0, told.size()) == told);
    }
}

TEST_CASE("UIDs in names are believed only where they can be true", "[store]") {
    Scratch scratch;
    fill(scratch);
    const auto account = scratch.open();
    const Assigned one = append(*account, "INBOX", sample(4));
    const std::string validity = std::to_string(one.uidvalidity);
    const Uid next = one.uids.front() + 1;
    auto put = [&](const std::string& unique, const std::string& named) {
        write_file(scratch.maildir() + "/cur/" + unique + ".h,V=" + named + ":2,", sample(5));
    };
    SECTION("taken before") { put("9000000001", validity + "." + std::to_string(next - 1)); }
    SECTION("of another mailbox") { put("9000000001", std::to_string(one.uidvalidity + 1) + "." + std::to_string(next + 5)); }
    SECTION("far away") { put("9000000001", validity + ".4294967294"); }
    SECTION("twice") {
        put("9000000001", validity + "." + std::to_string(next));
        put("9000000002", validity + "." + std::to_string(next));
        CHECK(select(*account)->uid_of(5) == next);
        CHECK(select(*account)->uid_of(6) == next + 1);
        return;
    }
    const auto inbox = select(*account);
    REQUIRE(inbox->exists() == 5);
    CHECK(inbox->uid_of(5) == next);
}
