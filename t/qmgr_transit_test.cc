/// qmgr/manager and messages in transit: what is delivered at once never reaches the disk, everything else does, and nothing is
/// delivered twice or left behind, whoever is killed.
#include <atomic>
#include <thread>

#include "lib/queue/commit_log.h"
#include "lib/queue/log_recovery.h"
#include "lib/queue/transit.h"
#include "t/qmgr_queue.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

struct TransitQueue : Queue {
    std::optional<queue::Transit> transit;
    explicit TransitQueue(std::string_view settings = "") : Queue(settings) {
        REQUIRE((::mkdir("memory", 0700) == 0 && ::mkdir("commit", 0700) == 0));
        REQUIRE(::symlink((root + "/memory").c_str(), "transit") == 0);
        transit = queue::Transit::open(".", ".");
        REQUIRE(transit);
        manager->set_transit(*transit);
    }
    void kill_and_start() {
        restart();
        manager->set_transit(*transit);
        start();
    }
    /// As cleanup does it; qmgr is not told.
    std::string put(const std::vector<queue::Recipient>& recipients) {
        auto writer = queue::QueueFileWriter::create({.time_usec = test_now, .in_memory = true});
        REQUIRE((writer && (*writer)->header("Subject: test\n") && (*writer)->body("\nHello\n")));
        queue::Envelope envelope;
        envelope.sender = "from@there.example";
        envelope.recipients = recipients;
        envelope.arrival_usec = test_now;
        REQUIRE((*writer)->envelope(envelope));
        REQUIRE(transit->put((*writer)->queue_id(), (*writer)->image()));
        return (*writer)->queue_id();
    }
    std::string submit(const std::vector<queue::Recipient>& recipients) {
        const std::string id = put(recipients);
        manager->new_message(id, UniqueFd());
        return id;
    }
    void pass(std::int64_t usec) {
        test_now += usec;
        manager->tick();
    }
    static bool queue_is_empty() {
        return files_in("incoming").empty() && files_in("active").empty() && files_in("deferred").empty() && files_in("memory").empty();
    }
    using Names = std::vector<std::string>;
};

}  // namespace

TEST_CASE("what is delivered at once was in transit only", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@here.example")});
    CHECK(files_in("memory") == TransitQueue::Names{id});
    REQUIRE(queue.agents.calls.size() == 1);
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
    CHECK(queue.log.last() == id + ": removed");
}

TEST_CASE("what takes longer is kept, and its agents' lock with it", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@here.example")});
    queue.pass(kSecond / 2 - 1);
    CHECK(files_in("active").empty());
    queue.pass(1);
    CHECK(files_in("active") == TransitQueue::Names{id});
    CHECK(files_in("memory") == TransitQueue::Names{"lock." + id});
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("what is put off is kept, with what has happened", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@here.example"), to("b@far.example")});
    queue.deliver_first();
    CHECK(files_in("memory") == TransitQueue::Names{id});
    queue.answer(1, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    CHECK(files_in("deferred") == TransitQueue::Names{id});
    CHECK(files_in("memory").empty());
    queue.kill_and_start();
    REQUIRE(queue.manager->flush_one(id));
    REQUIRE(queue.agents.calls.size() == 1);   // who has it does not get it again
    CHECK(queue.agents.calls.front().request.recipients.front().recipient.address == "b@far.example");
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("after qmgr was killed its successor takes up what is in transit, told or not", "[qmgr]") {
    TransitQueue queue;
    const std::string known = queue.submit({to("a@here.example"), to("b@far.example")}), untold = queue.put({to("c@here.example")});
    queue.deliver_first();   // the journal is in memory too
    queue.kill_and_start();
    REQUIRE(queue.agents.calls.size() == 2);
    for (const Call& call : queue.agents.calls) {
        CHECK(call.request.recipients.front().recipient.address == (call.request.queue_id == known ? "b@far.example" : "c@here.example"));
    }
    queue.deliver_first();
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("a message that a scan has found waits a moment for the notice, which says where its copy is", "[qmgr]") {
    TransitQueue queue;
    queue::LogOptions options;
    options.ring_size = queue::kMinLogRing;
    options.life = "this";
    options.transit = &*queue.transit;
    const Result<std::unique_ptr<queue::CommitLog>> log = queue::CommitLog::claim(options);
    REQUIRE(log);
    queue.manager->set_logs(options);
    const std::string id = queue.put({to("a@here.example")}), untold = queue.put({to("b@here.example")});
    const std::optional<std::uint64_t> number = (*log)->add(id, {"copy"});
    REQUIRE((number && (*log)->flush()));
    Loop::current().run_until(queue.manager->rescan(true, false));
    CHECK(queue.agents.calls.empty());
    queue.manager->new_message(id, UniqueFd(), {(*log)->name(), *number});
    REQUIRE(queue.agents.calls.size() == 1);
    queue.deliver_first();
    CHECK((*log)->collect().live == 0);
    queue.pass(kSecond);
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.queue_id == untold);
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("what an agent of a killed qmgr still has is left to it", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@here.example")});
    const bool kept = GENERATE(false, true);
    if (kept) {
        queue.pass(kSecond);
    }
    CHECK(files_in(kept ? "active" : "memory").size() == 1);
    UniqueFd in_agent = std::move(queue.agents.calls.front().request.message);
    queue.kill_and_start();
    queue.pass(2 * kSecond);
    CHECK(queue.agents.calls.empty());
    in_agent.reset();
    queue.wait_for([&] {
        queue.pass(kSecond);
        return !queue.agents.calls.empty();
    });
    CHECK(queue.agents.calls.front().request.queue_id == id);
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("a move that was cut short is finished, or taken back", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.put({to("a@here.example")});
    REQUIRE(::rename(("memory/" + id).c_str(), ("memory/move." + id).c_str()) == 0);
    if (GENERATE(false, true)) {
        REQUIRE(std::system(("cp memory/move." + id + " active/" + id).c_str()) == 0);
    }
    queue.kill_and_start();
    queue.pass(kSecond);
    REQUIRE(queue.agents.calls.size() == 1);
    queue.deliver_first();
    queue.pass(kSecond);
    CHECK(queue.agents.calls.empty());
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("what there is no room for does not stay in transit", "[qmgr]") {
    TransitQueue queue("qmgr_message_active_limit = 1\n");   // ten at least
    for (int i = 0; i < 10; ++i) {
        queue.submit({to("a@here.example")});
    }
    CHECK(files_in("incoming").empty());
    const std::string waits = queue.submit({to("b@here.example")});
    CHECK(files_in("incoming") == TransitQueue::Names{waits});
    queue.deliver_first();
    queue.pass(kSecond);
    while (!queue.agents.calls.empty()) {
        queue.deliver_first();
    }
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("what cannot be kept stays in transit, and is delivered from there or kept later", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@here.example")});
    REQUIRE(::rmdir("active") == 0);
    queue.pass(kSecond);
    CHECK(files_in("memory") == TransitQueue::Names{id});
    REQUIRE(::mkdir("active", 0700) == 0);
    if (GENERATE(false, true)) {
        queue.pass(10 * kSecond);
        CHECK(files_in("active") == TransitQueue::Names{id});
    }
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("with dont_remove what was delivered is saved, or removed when it cannot be, and not delivered again", "[qmgr]") {
    TransitQueue queue("dont_remove = 1\n");
    REQUIRE(::mkdir("saved", 0700) == 0);
    const bool disk_is_full = GENERATE(false, true);
    if (disk_is_full) {
        REQUIRE(::rmdir("active") == 0);
    }
    REQUIRE((::unlink("transit") == 0));   // as in a chroot, where the link leads nowhere
    const std::string id = queue.submit({to("a@here.example")});
    queue.deliver_first();
    CHECK(files_in("saved") == (disk_is_full ? TransitQueue::Names() : TransitQueue::Names{id}));
    CHECK(files_in("memory").empty());
    CHECK(files_in("incoming").empty());
}

TEST_CASE("what cannot be written down in memory is to be on the disk", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@here.example"), to("b@far.example")});
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    struct stat info {};
    REQUIRE(::stat(("memory/" + id).c_str(), &info) == 0);
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit full{static_cast<rlim_t>(info.st_size), before.rlim_max};   // no file may grow, but be copied
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &full) == 0);
    queue.answer(0, queue::kDelivered, "2.0.0", "delivered");
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(files_in("active") == TransitQueue::Names{id});
    queue.finish();
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("a message that cannot be kept does not keep others in transit", "[qmgr]") {
    TransitQueue queue;
    const std::string stuck = queue.submit({to("a@here.example")}), other = queue.submit({to("b@here.example")});
    std::ofstream("active/" + stuck) << "somebody else's";
    queue.pass(kSecond);
    CHECK(files_in("memory").size() == 2);
    queue.pass(10 * kSecond);
    CHECK(::access(("active/" + other).c_str(), F_OK) == 0);
    REQUIRE(::unlink(("active/" + stuck).c_str()) == 0);
    queue.pass(10 * kSecond);
    CHECK(::access(("active/" + stuck).c_str(), F_OK) == 0);
    queue.deliver_first();
    queue.deliver_first();
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("at an orderly end nothing stays in transit but the locks of agents", "[qmgr]") {
    TransitQueue queue;
    const std::string busy = queue.submit({to("a@here.example"), to("c@far.example")}), idle = queue.put({to("b@here.example")});
    queue.deliver_first();
    const UniqueFd in_agent = std::move(queue.agents.calls.front().request.message);
    queue.manager->end();
    CHECK(files_in("incoming") == TransitQueue::Names{idle});
    CHECK(files_in("active") == TransitQueue::Names{busy});
    CHECK(files_in("memory") == TransitQueue::Names{"lock." + busy});
    REQUIRE(std::system("rm memory/*") == 0);   // the machine is started again
    queue.kill_and_start();
    while (!queue.agents.calls.empty()) {
        CHECK(queue.agents.calls.front().request.recipients.front().recipient.address != "a@here.example");   // who has it already
        queue.deliver_first();
    }
    CHECK(TransitQueue::queue_is_empty());
}

TEST_CASE("postsuper deletes a message in transit", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.submit({to("a@far.example")});
    REQUIRE(queue.transit->remove(id));
    const bool told = GENERATE(true, false);
    if (told) {
        queue.manager->altered(queue::kAlteredDeleted, {id});
    }
    queue.answer(0, queue::kDeferred, "4.4.1", "no");
    queue.finish();
    queue.drain();
    CHECK(TransitQueue::queue_is_empty());
    CHECK(queue.manager->waiting() == 0);
}

TEST_CASE("a damaged file in transit is saved in corrupt/", "[qmgr]") {
    TransitQueue queue;
    const std::string id = queue.put({to("a@here.example")});
    REQUIRE(::truncate(("memory/" + id).c_str(), 50) == 0);
    queue.manager->new_message(id, UniqueFd());
    CHECK(files_in("corrupt") == TransitQueue::Names{id});
    CHECK(files_in("memory").empty());
}

TEST_CASE("whoever moves messages to the queue meanwhile, each is delivered once and none is forgotten", "[qmgr]") {
    TransitQueue queue;
    std::atomic<bool> over = false;
    std::thread postsuper([&] {
        while (!over) {
            for (const std::string& id : queue.transit->ids()) {
                (void)queue.transit->keep_idle(id, "incoming");
            }
        }
    });
    constexpr int kMessages = 5000;
    int delivered = 0;
    const auto deliver_all = [&] {
        for (; !queue.agents.calls.empty(); ++delivered) {
            queue.deliver_first();
        }
    };
    for (int i = 0; i < kMessages; ++i) {
        queue.submit({to("a@here.example")});
        deliver_all();
    }
    over = true;
    postsuper.join();
    for (int i = 0; i < 3; ++i) {
        queue.pass(kSecond);
        deliver_all();
    }
    CHECK(delivered == kMessages);
    CHECK(TransitQueue::queue_is_empty());
}
