/// qmgr/manager and commit logs: which copies are done with, and what comes back at start.
#include "lib/queue/commit_log.h"
#include "t/qmgr_queue.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

queue::LogOptions options(const std::string& life) {
    queue::LogOptions options;
    options.ring_size = queue::kMinLogRing;
    options.life = life;
    return options;
}

struct LoggedQueue : Queue {
    std::unique_ptr<queue::CommitLog> log;
    LoggedQueue() {
        REQUIRE(::mkdir("commit", 0700) == 0);
        Result<std::unique_ptr<queue::CommitLog>> claimed = queue::CommitLog::claim(options("this"));
        REQUIRE(claimed);
        log = std::move(*claimed);
    }
    /// As cleanup does it.
    std::string accept(const std::vector<queue::Recipient>& recipients) {
        const std::string id = write(recipients);
        const UniqueFd file(::open(("incoming/" + id).c_str(), O_RDONLY | O_CLOEXEC));
        struct stat info {};
        REQUIRE(::fstat(file.get(), &info) == 0);
        const Result<std::string> bytes = queue::read_extent(file.get(), {0, static_cast<std::uint64_t>(info.st_size)}, 10000);
        REQUIRE(bytes);
        const std::optional<std::uint64_t> number = log->add(id, {*bytes});
        REQUIRE(number);
        REQUIRE(log->flush());
        manager->new_message(id, UniqueFd(), {log->name(), *number});
        return id;
    }
};

}  // namespace

TEST_CASE("the copy of a message is done with when everybody has it, not before", "[qmgr]") {
    LoggedQueue queue;
    queue.accept({to("a@here.example"), to("b@far.example")});
    CHECK(queue.log->collect().live == 1);
    queue.deliver_first();
    CHECK(queue.log->collect().live == 1);
    queue.deliver_first();
    CHECK(queue.log->collect().live == 0);
}

TEST_CASE("the copy of a message that failed is done with when the sender was told", "[qmgr]") {
    LoggedQueue queue;
    queue.bounce.broken = true;
    const std::string id = queue.accept({to("a@far.example")});
    queue.answer(0, queue::kBounced, "5.1.1", "unknown");
    queue.finish();
    queue.drain();
    CHECK(queue.log->collect().live == 1);
    queue.bounce.broken = false;
    REQUIRE(queue.manager->flush_one(id));
    queue.drain();
    CHECK(files_in("deferred").empty());
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.log->collect().live == 0);
}

TEST_CASE("the copy of a message that is deferred is done with when the next attempt delivers it", "[qmgr]") {
    LoggedQueue queue;
    const std::string id = queue.accept({to("a@far.example")});
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    CHECK(queue.log->collect().live == 1);
    REQUIRE(queue.manager->flush_one(id));
    queue.deliver_first();
    CHECK(queue.log->collect().live == 0);
}

TEST_CASE("a queue manager that was not told marks all the same", "[qmgr]") {
    LoggedQueue queue;
    queue.accept({to("a@here.example")});
    queue.accept({to("b@here.example")});
    queue.restart();   // killed: its successor finds both in incoming/
    queue.manager->set_logs(options("this"));
    queue.start();
    queue.wait_for([&] { return queue.agents.calls.size() == 2; });
    queue.deliver_first();
    queue.deliver_first();
    CHECK(files_in("incoming").empty());
    CHECK(queue.log->collect().live == 0);
}

TEST_CASE("a message that a scan found before its notice came is marked too", "[qmgr]") {
    LoggedQueue queue;
    const std::string id = queue.submit({to("a@here.example")});
    const std::optional<std::uint64_t> number = queue.log->add(id, {"copy"});
    REQUIRE(number);
    REQUIRE(queue.log->flush());
    queue.manager->new_message(id, UniqueFd(), {queue.log->name(), *number});
    REQUIRE(queue.agents.calls.size() == 1);
    queue.deliver_first();
    CHECK(queue.log->collect().live == 0);
}

TEST_CASE("what postsuper deletes does not come back after a power failure; what it moves is kept", "[qmgr]") {
    LoggedQueue queue;
    const std::string deleted = queue.accept({to("a@far.example")});
    ::unlink(("incoming/" + deleted).c_str());
    queue.manager->altered(queue::kAlteredDeleted, {deleted});
    CHECK(queue.log->collect().live == 0);
    while (!queue.agents.calls.empty()) {
        queue.finish();
    }
    const std::string waited = queue.accept({to("a@far.example")});
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    REQUIRE(::unlink(("deferred/" + waited).c_str()) == 0);
    queue.manager->altered(queue::kAlteredDeleted, {waited});
    CHECK(queue.log->collect().live == 0);
    const std::string requeued = queue.accept({to("a@far.example")});
    ::rename(("incoming/" + requeued).c_str(), ("maildrop/" + requeued).c_str());
    queue.manager->altered(queue::kAlteredRequeued, {requeued});
    CHECK(queue.log->collect().live == 1);
    while (!queue.agents.calls.empty()) {
        queue.finish();
    }
}

TEST_CASE("what the file system has lost is delivered after the start", "[qmgr]") {
    LoggedQueue queue;
    const std::string lost = queue.accept({to("a@here.example")});
    queue.log.reset();
    queue.restart();
    REQUIRE(::unlink(("incoming/" + lost).c_str()) == 0);
    queue.manager->set_logs(options("another"));
    queue.start();
    queue.wait_for([&] { return !queue.agents.calls.empty(); });
    CHECK(queue.agents.calls.front().request.queue_id == lost);
    CHECK(queue.Queue::log.count("messages put back into the queue from commit logs: 1") == 1);
    queue.deliver_first();
    CHECK(files_in("incoming").empty());
}
