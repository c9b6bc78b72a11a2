/// qmgr/manager: limits, and very much mail.
#include "t/qmgr_queue.h"

using namespace postern;
using namespace postern::qmgr;

TEST_CASE("the active queue has a limit, and new and old mail take turns", "[qmgr]") {
    Queue queue("qmgr_message_active_limit = 10\ndefault_destination_concurrency_limit = 100\ninitial_destination_concurrency = 100\n");
    for (int i = 0; i < 30; ++i) {
        queue.submit({to("u" + std::to_string(i) + "@far.example")});
    }
    CHECK(queue.manager->active() == 10);
    CHECK(queue.manager->waiting() == 20);
    int delivered = 0;
    while (!queue.agents.calls.empty()) {
        queue.deliver_first();
        queue.manager->tick();
        ++delivered;
    }
    CHECK(delivered == 30);
    CHECK(files_in("incoming").empty());
}

TEST_CASE("100,000 deferred messages in memory", "[qmgr]") {
    Queue queue;
    WaitingSet set;
    for (int i = 0; i < 100'000; ++i) {
        set.put("4FXq3s" + std::to_string(i) + "zWx", 1'700'000'000 + i % 4000);
    }
    WARN("100,000 waiting messages: " << static_cast<double>(set.memory_bytes()) / 1e6 << " MB");
    CHECK(set.memory_bytes() < 10'000'000);
}

namespace {

Task<> note_change(Manager& manager, bool& told) {
    const Wake wake = co_await manager.changed().wait(std::chrono::seconds(5));
    told = wake == Wake::ready;
}

}  // namespace

TEST_CASE("the end of a rate delay is not slept through", "[qmgr]") {
    const std::string_view settings = GENERATE("smtp_destination_rate_delay = 5s\n", "smtp_transport_rate_delay = 5s\n");
    Queue queue(settings);
    queue.submit({to("a@far.example")});
    queue.submit({to("b@far.example")});
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.manager->tick() <= test_now + kSecond);   // young messages move
    test_now += kSecond;
    CHECK(queue.manager->tick() == test_now + 60 * kSecond);
    bool told = false;
    spawn(note_change(*queue.manager, told));
    queue.deliver_first();
    queue.drain();
    CHECK(told);
    CHECK(queue.manager->tick() == test_now + 5 * kSecond);
    test_now += 5 * kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("a mailing of very many recipients is scheduled in pieces, and mail behind it does not wait", "[qmgr]") {
    Queue queue("qmgr_message_recipient_limit = 2000\nqmgr_message_recipient_minimum = 10\n");
    std::vector<queue::Recipient> many;
    for (int i = 0; i < 5000; ++i) {
        many.push_back(to("u" + std::to_string(i) + "@d" + std::to_string(i % 100) + ".example"));
    }
    queue.submit(many);
    const auto recipients_out = [&] {
        std::size_t count = 0;
        for (const Call& call : queue.agents.calls) {
            count += call.request.recipients.size();
        }
        return count;
    };
    CHECK(recipients_out() <= 1000);
    CHECK(recipients_out() > 0);
    queue.submit(many);   // a second one, and a third: the limit is reached
    queue.submit(many);
    const std::string probe = queue.submit({to("one@probe.example")});
    std::set<std::pair<std::string, std::uint32_t>> served;
    for (int ended = 0; ended < 4; ++ended) {   // all processes are taken: the probe's turn is the fourth at the latest
        for (const queue::DeliverTo& to : queue.agents.calls.front().request.recipients) {
            served.emplace(queue.agents.calls.front().request.queue_id, to.index);
        }
        queue.deliver_first();
    }
    const auto given = std::find_if(queue.agents.calls.begin(), queue.agents.calls.end(),
                                    [&](const Call& call) { return call.request.queue_id == probe; });
    CHECK(given != queue.agents.calls.end());

    std::size_t rounds = 0;
    while ((!queue.agents.calls.empty() || queue.manager->active() > 0) && ++rounds < 20000) {
        if (!queue.agents.calls.empty()) {
            const queue::Deliver& request = queue.agents.calls.front().request;
            for (const queue::DeliverTo& to : request.recipients) {
                CHECK(served.emplace(request.queue_id, to.index).second);   // nobody twice
            }
            queue.deliver_first();
        }
        queue.manager->tick();
    }
    CHECK(served.size() == 3 * 5000 + 1);
    CHECK(queue.manager->active() == 0);
    CHECK(files_in("incoming").empty());
    CHECK(files_in("active").empty());
    CHECK(files_in("deferred").empty());
}

TEST_CASE("a mailing to a dead destination ends without its recipients being tried one by one", "[qmgr]") {
    Queue queue;
    std::vector<queue::Recipient> many;
    for (int i = 0; i < 3000; ++i) {
        many.push_back(to("u" + std::to_string(i) + "@dead.example"));
    }
    queue.submit(many);
    std::size_t tried = 0;
    while (queue.manager->active() > 0 && tried < 100) {
        if (!queue.agents.calls.empty()) {
            ++tried;
            queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connection timed out"});
        }
        queue.manager->tick();
        Queue::drain();
    }
    CHECK(tried <= 5);
    CHECK(queue.manager->waiting() == 1);
    CHECK(files_in("deferred").size() == 1);
}

TEST_CASE("qmgr tells how its destinations stand, a page at a time", "[qmgr]") {
    Queue queue("initial_destination_concurrency = 2\ndefault_destination_concurrency_limit = 2\n");
    for (int i = 0; i < 5; ++i) {
        queue.submit({to("a@slow.example")});
    }
    queue.submit({to("a@dead.example")});
    queue.submit({to("b@third.example")});
    for (Call& call : queue.agents.calls) {
        if (call.request.nexthop == "dead.example") {
            std::swap(call, queue.agents.calls.front());
        }
    }
    // Half a cohort of failures closes a window of two only after the second.
    queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connection timed out"});
    const queue::QueueStatus first = queue.manager->status("", 2);
    REQUIRE(first.destinations.size() == 2);
    REQUIRE_FALSE(first.last.empty());
    const queue::QueueStatus second = queue.manager->status(first.last, 2);
    CHECK(second.last.empty());
    std::vector<queue::DestinationStatus> all = first.destinations;
    all.insert(all.end(), second.destinations.begin(), second.destinations.end());
    const auto slow = std::find_if(all.begin(), all.end(), [](const auto& to) { return to.nexthop == "slow.example"; });
    REQUIRE(slow != all.end());
    CHECK(slow->transport == "smtp");
    CHECK(slow->window == 2);
    CHECK(slow->running == 2);
    CHECK(slow->waiting == 3);
    CHECK(first.active == 6);
    CHECK(first.deferred == 1);
    CHECK(first.next_seconds > test_now / kSecond);
    CHECK(queue.manager->status("", 0).destinations.empty());
}

TEST_CASE("mail that was deferred leaves a fifth of the places to new mail, and a clog is told", "[qmgr]") {
    Queue queue("qmgr_message_active_limit = 10\ndefault_destination_concurrency_limit = 100\ninitial_destination_concurrency = 100\n");
    for (int i = 0; i < 30; ++i) {
        const std::string id = queue.write({to("u" + std::to_string(i) + "@slow.example")});
        REQUIRE(::rename(("incoming/" + id).c_str(), ("deferred/" + id).c_str()) == 0);
        const timespec due[2] = {{1, 0}, {1, 0}};
        REQUIRE(::utimensat(AT_FDCWD, ("deferred/" + id).c_str(), due, 0) == 0);
    }
    queue.start();
    queue.manager->tick();
    CHECK(queue.manager->active() == 8);
    CHECK(queue.log.count("mail for slow.example is using up 8 of 8 active queue entries") == 1);
    const std::string fresh = queue.submit({to("new@far.example")});
    CHECK(queue.manager->active() == 9);
    CHECK(queue.agents.calls.back().request.queue_id == fresh);
    int delivered = 0;
    while (!queue.agents.calls.empty() && delivered < 100) {
        queue.deliver_first();
        queue.manager->tick();
        ++delivered;
    }
    CHECK(delivered == 31);
    CHECK(files_in("deferred").empty());
    CHECK(files_in("active").empty());
}

TEST_CASE("a clog is not told without helpful_warnings, nor with qmgr_clog_warn_time = 0", "[qmgr]") {
    const auto told = [](const std::string& setting) {
        Queue queue("qmgr_message_active_limit = 10\n" + setting);
        for (int i = 0; i < 10; ++i) {
            queue.submit({to("u" + std::to_string(i) + "@slow.example")});
        }
        queue.manager->tick();
        const auto count = queue.log.count("is using up");
        queue.drain();
        return count;
    };
    CHECK(told("") == 1);
    CHECK(told("helpful_warnings = no\n") == 0);
    CHECK(told("qmgr_clog_warn_time = 0\n") == 0);
}

TEST_CASE("what a dead destination hands back is deferred in portions", "[qmgr]") {
    Queue queue("initial_destination_concurrency = 1\n");
    for (int i = 0; i < 500; ++i) {
        queue.submit({to("u@dead.example")});
    }
    REQUIRE(queue.agents.calls.size() == 1);
    queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connection timed out"});
    CHECK(queue.manager->active() > 300);   // new mail has its turn now
    const std::string fresh = queue.submit({to("new@far.example")});
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.queue_id == fresh);
    for (int i = 0; i < 10; ++i) {
        CHECK(queue.manager->tick() >= test_now);
    }
    CHECK(queue.manager->active() == 1);
    CHECK(queue.manager->waiting() == 500);
    queue.deliver_first();
}
