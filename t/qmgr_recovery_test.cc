/// qmgr/manager: what is in the queue when it starts, after a crash or beside another queue manager.
#include <sys/syscall.h>

#include <atomic>

#include "t/qmgr_queue.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

std::atomic<bool> g_slow_disk = false;
std::atomic<int> g_at_once = 0, g_most_at_once = 0;

}  // namespace

/// In place of the C library's: the disk may be slow, and it is known how many wait for it.
extern "C" int fsync(int fd) {
    const int now = ++g_at_once;
    for (int most = g_most_at_once; now > most && !g_most_at_once.compare_exchange_weak(most, now);) {
    }
    if (g_slow_disk) {
        ::usleep(2000);
    }
    const long status = ::syscall(SYS_fsync, fd);
    --g_at_once;
    return static_cast<int>(status);
}

TEST_CASE("a message moves to active/ when its delivery takes longer", "[qmgr]") {
    Queue queue;
    const std::string quick = queue.submit({to("a@here.example")});
    queue.deliver_first();
    const std::string slow = queue.submit({to("b@here.example")});
    test_now += kSecond / 2 - 1;
    queue.manager->tick();
    CHECK(files_in("incoming") == std::vector<std::string>{slow});
    test_now += 1;
    queue.manager->tick();
    CHECK(files_in("incoming").empty());
    CHECK(files_in("active") == std::vector<std::string>{slow});
    queue.deliver_first();
    CHECK(files_in("active").empty());
    CHECK(queue.log.last() == slow + ": removed");
}

TEST_CASE("what an earlier queue manager still moves about is not overlooked", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    Call in_agent = std::move(queue.agents.calls.front());
    std::unique_ptr<Manager> earlier = std::move(queue.manager);
    earlier->drain();
    queue.restart();
    queue.start();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count(id + ": skipped, still being delivered") == 1);
    queue::RecipientDone done;
    done.outcome = queue::kDeferred;
    done.dsn = "4.0.0";
    earlier->answered(in_agent.batch, {done});
    earlier->ended(in_agent.batch, {});
    in_agent.request.message.reset();
    queue.drain();
    CHECK(files_in("deferred") == std::vector<std::string>{id});
    test_now += 6 * kSecond;
    queue.manager->tick();   // incoming/ has it no more
    test_now += 300 * kSecond;
    queue.manager->tick();
    REQUIRE(queue.agents.calls.size() == 1);
    queue.deliver_first();
    CHECK(files_in("deferred").empty());
    CHECK(files_in("active").empty());
}

TEST_CASE("the time of the next attempt survives a restart", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@far.example")});
    queue.answer(0, queue::kDeferred, "4.4.1", "no");
    queue.finish();
    queue.drain();
    queue.restart();
    queue.start();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.manager->waiting() == 1);
    test_now += 300 * kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("after a crash nobody who has the message gets it again", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@far.example"), to("b@far.example"), to("c@here.example")});
    REQUIRE(queue.agents.calls.size() == 2);
    while (queue.agents.calls.front().request.transport != "smtp") {
        queue.agents.calls.push_back(std::move(queue.agents.calls.front()));
        queue.agents.calls.pop_front();
    }
    queue.answer(1, queue::kDelivered, "2.0.0", "ok");
    queue.restart();
    queue.start();
    std::set<std::uint32_t> tried;
    for (const Call& call : queue.agents.calls) {
        for (const queue::DeliverTo& recipient : call.request.recipients) {
            tried.insert(recipient.index);
        }
    }
    CHECK(tried == std::set<std::uint32_t>{0, 2});
    CHECK(queue.log.count("nrcpt=2 (queue active)") == 1);
    queue.deliver_first();
    queue.deliver_first();
    CHECK(files_in("active").empty());
    CHECK(queue.log.last() == id + ": removed");
}

TEST_CASE("a crash at any point of many messages loses none and repeats no finished delivery", "[qmgr]") {
    for (unsigned crash = 0; crash < 60; ++crash) {
        CAPTURE(crash);
        Queue queue;
        std::map<std::string, std::map<std::uint32_t, int>> finished;
        std::srand(crash);
        for (int i = 0; i < 8; ++i) {
            const std::string id = queue.submit({to("a@far.example"), to("b@here.example"), to("c@other.example")});
            finished[id] = {};
        }
        unsigned step = 0;
        bool restarted = false;
        for (int rounds = 0; rounds < 2000 && !(queue.manager->active() == 0 && queue.manager->waiting() == 0); ++rounds) {
            if (queue.agents.calls.empty()) {
                test_now += 400 * kSecond;
                queue.manager->tick();
                queue.drain();
                continue;
            }
            if (step++ == crash && !restarted) {
                restarted = true;
                queue.restart();
                queue.start();
                continue;
            }
            const queue::Deliver& request = queue.agents.calls.front().request;
            const std::string id = request.queue_id;
            const std::uint32_t index = request.recipients.at(0).index;
            const bool later = std::rand() % 3 == 0;
            REQUIRE(finished.count(id) == 1);
            CHECK(finished[id][index] == 0);
            queue.answer(index, later ? queue::kDeferred : queue::kDelivered, later ? "4.0.0" : "2.0.0", "x");
            finished[id][index] += later ? 0 : 1;
            queue.finish();
        }
        for (const auto& [id, recipients] : finished) {
            CHECK(recipients.size() == 3);
            for (const auto& [index, count] : recipients) {
                CHECK(count == 1);
            }
        }
        CHECK(files_in("active").empty());
        CHECK(files_in("deferred").empty());
    }
}

TEST_CASE("mail that an agent still works on is not taken up twice", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    Call in_agent = std::move(queue.agents.calls.front());
    queue.restart();
    queue.start();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count(id + ": skipped, still being delivered") == 1);
    in_agent.request.message.reset();   // the agent is done
    test_now += kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("a queue manager that is to end lets go what no agent has", "[qmgr]") {
    Queue queue("default_destination_concurrency_limit = 1\ninitial_destination_concurrency = 1\n");
    queue.start();
    const std::string slow = queue.submit({to("a@far.example")});
    const std::string waits = queue.submit({to("b@far.example")});
    const std::string begun = queue.submit({to("d@here.example"), to("e@far.example")});
    REQUIRE(queue.agents.calls.size() == 2);
    queue.manager->drain();
    FakeAgents new_agents;
    Manager successor(queue.config, queue.router, new_agents, queue.bounce, &test_clock);
    Loop::current().run_until(successor.start());
    const auto has = [&successor, &new_agents](const std::string& id) {
        while (!new_agents.calls.empty()) {
            const Call call = std::move(new_agents.calls.front());
            new_agents.calls.pop_front();
            queue::RecipientDone done;
            done.index = call.request.recipients[0].index;
            done.outcome = queue::kDelivered;
            successor.answered(call.batch, {done});
            successor.ended(call.batch, {});
            if (call.request.queue_id == id) {
                return call.request.recipients[0].recipient.address != "d@here.example";
            }
        }
        return false;
    };
    SECTION("what waits for its destination") { CHECK(has(waits)); }
    SECTION("what is left of a message when the last agent that had it is done") {
        queue.agents.calls.pop_front();
        queue.answer(queue.agents.calls.front().request.recipients[0].index, queue::kDelivered, "2.0.0", "ok");
        queue.finish();
        test_now += kSecond;
        successor.tick();
        CHECK(has(begun));
    }
    SECTION("but nothing else") {
        CHECK_FALSE(has(slow));
        CHECK_FALSE(queue.manager->quiet());
    }
    queue.manager.reset();
}

TEST_CASE("a new queue manager leaves alone what the old one still delivers, and takes the rest", "[qmgr]") {
    Queue queue;
    queue.start();
    const std::string old_mail = queue.submit({to("a@here.example"), to("b@far.example")});
    FakeAgents new_agents;
    Manager successor(queue.config, queue.router, new_agents, queue.bounce, &test_clock);
    queue.manager->drain();
    Loop::current().run_until(successor.start());
    CHECK(queue.log.count(old_mail + ": skipped, still being delivered") == 1);
    CHECK(new_agents.calls.empty());
    const std::string new_mail = queue.write({to("c@here.example")});
    successor.new_message(new_mail, UniqueFd());
    REQUIRE(new_agents.calls.size() == 1);
    CHECK(new_agents.calls[0].request.queue_id == new_mail);
    queue.submit({to("d@here.example")});   // the old one takes nothing more
    CHECK(queue.agents.calls.size() == 2);
    CHECK_FALSE(queue.manager->quiet());
    queue.answer(queue.agents.calls.front().request.recipients[0].index, queue::kDelivered, "2.0.0", "ok");
    queue.finish();
    queue.answer(queue.agents.calls.front().request.recipients[0].index, queue::kDeferred, "4.0.0", "later");
    queue.finish();
    queue.drain();
    CHECK(queue.manager->quiet());
    CHECK(files_in("deferred") == std::vector<std::string>{old_mail});
    queue.manager.reset();
    Queue::wait_for([&successor] { return successor.waiting() >= 1; });
    test_now += 301 * kSecond;
    successor.tick();
    std::size_t taken_up = 0;
    for (const Call& call : new_agents.calls) {
        if (call.request.queue_id == old_mail) {
            ++taken_up;
            CHECK(call.request.recipients.size() == 1);   // the other one has it
        }
    }
    CHECK(taken_up == 1);
    new_agents.calls.clear();
}

TEST_CASE("a message that was held behind our back does not come back when it was delivered", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    ::rename(("active/" + id).c_str(), ("hold/" + id).c_str());
    queue.deliver_first();
    CHECK(files_in("hold").empty());
}

TEST_CASE("incoming mail that nobody announced is found, damaged files are set aside", "[qmgr]") {
    Queue queue;
    test_now = static_cast<std::int64_t>(::time(nullptr)) * kSecond - 100 * kSecond;
    const std::string good = queue.write({to("a@here.example")});
    const std::string bad = queue.write({to("b@here.example")});
    const int fd = ::open(("incoming/" + bad).c_str(), O_WRONLY | O_CLOEXEC);
    REQUIRE(::pwrite(fd, "X", 1, 130) == 1);
    ::close(fd);
    test_now += 200 * kSecond;
    queue.restart();
    queue.start();
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.queue_id == good);
    CHECK(files_in("corrupt") == std::vector<std::string>{bad});
    CHECK(queue.log.count(bad + ": saving corrupt file") == 1);
}

TEST_CASE("a young message whose notice was lost is taken up at once, and once", "[qmgr]") {
    Queue queue;
    test_now = static_cast<std::int64_t>(::time(nullptr)) * kSecond;   // files get the system's time: this one is young
    const std::string id = queue.write({to("a@here.example")});
    SECTION("it went to a queue manager that was killed") {
        queue.restart();
        queue.start();
    }
    SECTION("its cleanup was killed before it could tell") {
        queue.start();
        REQUIRE(queue.agents.calls.size() == 1);
        queue.deliver_first();
        const std::string later = queue.write({to("a@here.example")});
        queue.manager->want_rescan();
        queue.manager->tick();
        for (int i = 0; i < 500 && queue.agents.calls.empty(); ++i) {
            queue.drain();
        }
        REQUIRE(queue.agents.calls.size() == 1);
        CHECK(queue.agents.calls.front().request.queue_id == later);
    }
    REQUIRE(queue.agents.calls.size() == 1);
    queue.manager->new_message(queue.agents.calls.front().request.queue_id, UniqueFd());   // its cleanup was only slow
    CHECK(queue.agents.calls.size() == 1);
    queue.deliver_first();
    queue.manager->new_message(id, UniqueFd());
    CHECK(queue.agents.calls.empty());
    CHECK(queue.manager->waiting() == 0);
    CHECK(files_in("incoming").empty());
}

TEST_CASE("many young messages are synced a few at a time, so that threads are left for other work", "[qmgr]") {
    Queue queue;
    test_now = static_cast<std::int64_t>(::time(nullptr)) * kSecond;
    constexpr std::size_t kFiles = 200;
    for (std::size_t i = 0; i < kFiles; ++i) {
        queue.write({to("a@here.example")});
    }
    queue.restart();
    g_at_once = g_most_at_once = 0;
    g_slow_disk = true;
    queue.start();
    g_slow_disk = false;
    CHECK(queue.manager->active() == kFiles);
    CHECK(g_most_at_once > 0);
    CHECK(g_most_at_once <= 8);
}

TEST_CASE("a queue manager that is told to end while it finds young messages leaves them to its successor", "[qmgr]") {
    Queue queue;
    test_now = static_cast<std::int64_t>(::time(nullptr)) * kSecond;
    queue.write({to("a@here.example")});
    queue.restart();
    bool ended = false;
    const auto start = [](Manager& manager, bool& done) -> Task<> {
        co_await manager.start();
        done = true;
    };
    spawn(start(*queue.manager, ended));   // now a thread reads the directory
    queue.manager->drain();
    Queue::wait_for([&ended] { return ended; });
    CHECK(queue.agents.calls.empty());
    CHECK(files_in("incoming").size() == 1);
}

TEST_CASE("whoever wants a scan again and again gets one a second", "[qmgr]") {
    Queue queue;
    queue.start();
    const std::string first = queue.write({to("a@here.example")});
    queue.manager->want_rescan();
    queue.manager->tick();
    Queue::wait_for([&queue] { return queue.agents.calls.size() == 1; });
    queue.manager->want_rescan();
    const std::string second = queue.write({to("a@here.example")});
    CHECK(queue.manager->tick() <= test_now + kSecond);
    for (int i = 0; i < 20; ++i) {
        queue.drain();
    }
    CHECK(queue.agents.calls.size() == 1);
    test_now += kSecond;
    queue.manager->tick();
    Queue::wait_for([&queue] { return queue.agents.calls.size() == 2; });
    CHECK(queue.agents.calls.back().request.queue_id == second);
}

TEST_CASE("the source of a message in incoming/ is removed before the message goes on", "[qmgr]") {
    Queue queue;
    std::ofstream("maildrop/4jXTnl75Qgz1bsvX") << "left by a killed cleanup";
    const std::string id = queue.write({to("a@here.example")}, "s@x.example",
                                       [](queue::Envelope& envelope) { envelope.maildrop_file = "4jXTnl75Qgz1bsvX"; });
    queue.manager->new_message(id, UniqueFd());
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(files_in("maildrop").empty());
}

TEST_CASE("a scan in pieces finds every file once", "[qmgr]") {
    Queue queue;
    constexpr std::size_t kFiles = 10000;
    for (std::size_t i = 0; i < kFiles; ++i) {
        char name[32];
        std::snprintf(name, sizeof(name), "deferred/%05zX%zX", i % 1000, 0x10000 + i);
        const int file = ::open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
        const timespec due[2] = {{4'000'000'000, 0}, {4'000'000'000, 0}};
        CHECK(::futimens(file, due) == 0);
        ::close(file);
    }
    std::ofstream("deferred/not-an-id") << "x";
    queue.start();
    CHECK(queue.manager->waiting() == kFiles);
    CHECK(queue.log.count("10000 messages wait, 0 are active") == 1);
    Loop::current().run_until(queue.manager->rescan(true, true));
    CHECK(queue.manager->waiting() == kFiles);
}

TEST_CASE("an alias that was expanded is never routed, though the journal is lost", "[qmgr]") {
    Queue queue;
    queue::Recipient alias = to("team@here.example", queue::kNotifySuccess);
    alias.expanded = true;
    const std::string id = queue.submit({to("a@far.example"), alias});
    REQUIRE(queue.agents.calls.size() == 1);
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].recipients.at(0).action == "expanded");
    const std::string path = "deferred/" + id;
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    const auto content = queue::QueueFile::read(file.get());
    REQUIRE(content);
    REQUIRE(::ftruncate(file.get(), static_cast<off_t>(content->journal_offset())) == 0);
    const timespec due[2] = {{test_now / kSecond, 0}, {test_now / kSecond, 0}};
    REQUIRE(::futimens(file.get(), due) == 0);
    queue.restart();
    test_now += 3600 * kSecond;
    queue.start();
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls[0].request.recipients.size() == 1);
    CHECK(queue.agents.calls[0].request.recipients[0].index == 0);
    queue.deliver_first();
    queue.drain();
    CHECK(queue.agents.calls.empty());
    CHECK(files_in("deferred").empty());
    CHECK(queue.bounce.reports.size() == 2);   // told again: that it was told is lost too
}
