/// How long lib/store takes over a mailbox of many messages.  Prints; asserts only that the work was done.
/// POSTERN_STORE_MESSAGES sets the number (1,000 when not set), TMPDIR the disk.
#include <chrono>

#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

namespace {

std::string corpus_directory() {
    const char* const chosen = std::getenv("POSTERN_CORPUS");
    return chosen != nullptr ? chosen : "../shared/corpus";
}

std::vector<std::string> corpus_messages() {
    std::vector<std::string> out;
    for (const char* const folder : {"/messages/notmuch/lkml", "/messages/ruby-mail", "/messages/mail-parser", "/messages/mime4j",
                                     "/messages/mimetools", "/messages/rspamd", "/bounces/sisimai/maildir/bsd"}) {
        const std::string directory = corpus_directory() + folder;
        std::vector<std::string> pending = {directory};
        while (!pending.empty()) {
            const std::string path = pending.back();
            pending.pop_back();
            for (const std::string& name : files_in(path)) {
                struct stat status {};
                const std::string file = path + "/" + name;
                if (stat(file.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
                    pending.push_back(file);
                } else if (name.find(".xml") == std::string::npos && name.find(".json") == std::string::npos) {
                    out.push_back(read_file(file));
                }
            }
        }
    }
    if (out.empty()) {
        WARN("no corpus at " << corpus_directory() << ": made-up messages instead");
        for (int i = 0; i < 10; ++i) {
            out.push_back(sample(i));
        }
    }
    return out;
}

class Stopwatch {
public:
    explicit Stopwatch(const char* what) : what_(what), start_(std::chrono::steady_clock::now()), cpu_(std::clock()) {}
    ~Stopwatch() {
        const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start_;
        std::printf("%-44s %9.2f ms wall %9.2f ms CPU\n", what_, wall.count(), 1e3 * static_cast<double>(std::clock() - cpu_) / CLOCKS_PER_SEC);
    }

private:
    const char* what_;
    std::chrono::steady_clock::time_point start_;
    std::clock_t cpu_;
};

std::size_t fetch_all(Mailbox& mailbox) {
    std::size_t bytes = 0;
    const auto reader = mailbox.reader();
    for (std::uint32_t seq = 1; seq <= mailbox.exists(); ++seq) {
        const Uid uid = mailbox.uid_of(seq);
        const Result<Row> found = reader->row(uid);
        const Result<Summary> summary = reader->summary(uid, Need::all);
        REQUIRE(found);
        REQUIRE(summary);
        bytes += summary->envelope.size() + summary->bodystructure.size();
    }
    return bytes;
}

}  // namespace

TEST_CASE("a big mailbox", "[store][speed]") {
    const char* const asked = std::getenv("POSTERN_STORE_MESSAGES");
    const int count = asked != nullptr ? std::atoi(asked) : 1000;
    Scratch scratch;
    const std::vector<std::string> corpus = corpus_messages();
    auto account = scratch.open();
    for (int i = 0; i < count; ++i) {
        write_file(scratch.maildir() + "/cur/" + std::to_string(1700000000 + i / 10) + ".M" + std::to_string(i) + "P1.host:2,",
                   corpus[static_cast<std::size_t>(i) % corpus.size()]);
    }
    std::printf("%d messages\n", count);
    usleep(50 * 1000);   // past the grain of directory times, as in life
    const UidSet all(UidRange{1, static_cast<Uid>(count)});
    std::unique_ptr<Mailbox> inbox;
    {
        const Stopwatch watch("SELECT, first ever");
        inbox = select(*account);
    }
    REQUIRE(inbox->exists() == static_cast<std::uint32_t>(count));
    inbox.reset();
    account.reset();
    {
        const Stopwatch watch("open account, SELECT again");
        account = scratch.open();
        inbox = select(*account);
    }
    {
        const Stopwatch watch("sync, nothing new");
        sync(*inbox);
    }
    {
        const Stopwatch watch("STATUS");
        CHECK(account->status("INBOX"));
    }
    {
        const Stopwatch watch("FETCH flags");
        const auto reader = inbox->reader();
        for (std::uint32_t seq = 1; seq <= inbox->exists(); ++seq) {
            REQUIRE(reader->row(inbox->uid_of(seq)));
        }
    }
    std::size_t bytes = 0;
    {
        const Stopwatch watch("FETCH envelopes and structures, first ever");
        bytes = fetch_all(*inbox);
    }
    {
        const Stopwatch watch("FETCH envelopes and structures, again");
        CHECK(fetch_all(*inbox) == bytes);
    }
    {
        const Stopwatch watch("FETCH HEADER.FIELDS (subject from)");
        const auto reader = inbox->reader();
        const std::vector<std::string> names = {"subject", "from"};
        for (std::uint32_t seq = 1; seq <= inbox->exists(); ++seq) {
            REQUIRE(reader->header_fields(inbox->uid_of(seq), names));
        }
    }
    {
        const Stopwatch watch("read all texts");
        const auto reader = inbox->reader();
        for (std::uint32_t seq = 1; seq <= inbox->exists(); ++seq) {
            REQUIRE(reader->message(inbox->uid_of(seq)));
        }
    }
    FlagChange change;
    change.how = FlagChange::How::add;
    change.flags = kFlagged;
    {
        const Stopwatch watch("STORE 1:* +FLAGS \\Flagged");
        REQUIRE(inbox->store(all, change));
    }
    {
        const Stopwatch watch("sync after it");
        CHECK(sync(*inbox).flags.size() == static_cast<std::size_t>(count));
    }
    {
        const Stopwatch watch("100 x STORE one message, sync");
        change.flags = kSeen;
        for (Uid uid = 1; uid <= 100; ++uid) {
            REQUIRE(inbox->store(UidSet({uid, uid}), change));
            sync(*inbox);
        }
    }
    REQUIRE(account->create("Copy"));
    {
        const Stopwatch watch("COPY 1:*");
        REQUIRE(inbox->copy_to(all, "Copy"));
    }
    {
        const Stopwatch watch("MOVE 1:*");
        REQUIRE(inbox->move_to(all, "Copy"));
    }
    const auto copy = select(*account, "Copy");
    {
        const Stopwatch watch("FETCH of the copies (twice as many)");
        CHECK(fetch_all(*copy) == 2 * bytes);
    }
    {
        const Stopwatch watch("EXPUNGE half of them");
        REQUIRE(copy->expunge(all));
    }
    {
        const Stopwatch watch("sync after it");
        CHECK(sync(*copy).expunged.size() == static_cast<std::size_t>(count));
    }
    {
        const Stopwatch watch("100 x APPEND");
        for (int i = 0; i < 100; ++i) {
            append(*account, "INBOX", corpus[static_cast<std::size_t>(i) % corpus.size()]);
        }
    }
}
