/// qmgr/scheduler and its parts, with made-up agents and a made-up clock.
#include "qmgr/scheduler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>

#include "lib/log/capture.h"
#include "qmgr/waiting.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

constexpr Usec kSecond = 1'000'000;

struct Bench {
    Bench() : scheduler(&Bench::limits_of, this) {}
    static TransportLimits limits_of(const void* context, std::string_view transport) {
        const auto* self = static_cast<const Bench*>(context);
        const auto found = self->limits.find(transport);
        return found == self->limits.end() ? TransportLimits() : found->second;
    }
    void add(MessageKey message, std::string_view nexthop, std::vector<std::uint32_t> recipients) {
        scheduler.add(message, "smtp", nexthop, "", std::move(recipients), now);
    }
    std::vector<Batch> all() {
        std::vector<Batch> batches;
        while (auto batch = scheduler.next(now)) {
            batches.push_back(std::move(*batch));
        }
        return batches;
    }
    std::map<std::string, TransportLimits, std::less<>> limits;
    Scheduler scheduler;
    Usec now = 1000 * kSecond;
};

std::vector<std::uint32_t> numbers(std::uint32_t count) {
    std::vector<std::uint32_t> all(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        all[i] = i;
    }
    return all;
}

}  // namespace

TEST_CASE("recipients come in batches of the recipient limit", "[qmgr]") {
    Bench bench;
    bench.add(1, "a.example", numbers(120));
    std::vector<std::size_t> sizes;
    std::set<std::uint32_t> seen;
    for (const Batch& batch : bench.all()) {
        sizes.push_back(batch.recipients.size());
        seen.insert(batch.recipients.begin(), batch.recipients.end());
    }
    CHECK(sizes == std::vector<std::size_t>{50, 50, 20});
    CHECK(seen.size() == 120);
}

TEST_CASE("a destination starts with the initial concurrency and grows with success up to its limit", "[qmgr]") {
    Bench bench;
    for (MessageKey message = 1; message <= 200; ++message) {
        bench.add(message, "a.example", {0});
    }
    std::vector<Batch> running = bench.all();
    CHECK(running.size() == 5);
    std::size_t most = 0;
    while (!running.empty()) {
        bench.scheduler.succeeded(running.back().id, bench.now);
        running.pop_back();
        for (Batch& batch : bench.all()) {
            running.push_back(std::move(batch));
        }
        most = std::max(most, running.size());
    }
    CHECK(most == 20);
    CHECK(bench.scheduler.destinations() == 0);
}

TEST_CASE("a cohort of failures kills a destination, time revives it", "[qmgr]") {
    Bench bench;
    for (MessageKey message = 1; message <= 8; ++message) {
        bench.add(message, "dead.example", {0});
    }
    bench.add(9, "good.example", {0});
    std::size_t good = 0, tried = 0;
    for (std::vector<Batch> batches = bench.all(); !batches.empty(); batches = bench.all()) {
        for (const Batch& batch : batches) {
            if (batch.nexthop == "good.example") {
                ++good;
                bench.scheduler.succeeded(batch.id, bench.now);
            } else {
                ++tried;
                bench.scheduler.failed(batch.id, "4.4.1", "connect to dead.example: Connection refused", bench.now);
            }
        }
    }
    CHECK(good == 1);
    CHECK(tried < 8);
    const std::vector<Suspended> suspended = bench.scheduler.take_suspended(1000);
    CHECK(suspended.size() == 8 - tried);
    CHECK(suspended.front().dsn == "4.4.1");
    CHECK(suspended.front().reason == "connect to dead.example: Connection refused");
    CHECK_FALSE(suspended.front().transport_dead);

    bench.add(10, "dead.example", {7});
    CHECK(bench.all().empty());
    REQUIRE(bench.scheduler.take_suspended(1000).size() == 1);

    bench.now += 299 * kSecond;
    bench.add(11, "dead.example", {7});
    CHECK(bench.scheduler.take_suspended(1000).size() == 1);
    bench.now += 2 * kSecond;
    bench.add(12, "dead.example", {7});
    CHECK(bench.all().size() == 1);
}

TEST_CASE("destination_concurrency_feedback_debug logs each change of the window", "[qmgr]") {
    LogCapture log;
    Bench bench;
    TransportLimits limits;
    limits.window.negative = *Feedback::parse("1/5");
    limits.window.debug = true;
    bench.limits["smtp"] = limits;
    for (MessageKey message = 1; message <= 3; ++message) {
        bench.add(message, "a.example", {0});
    }
    const std::vector<Batch> batches = bench.all();
    REQUIRE(batches.size() == 3);
    bench.scheduler.succeeded(batches[0].id, bench.now);
    bench.scheduler.failed(batches[1].id, "4.4.1", "no", bench.now);
    CHECK(log.count("qmgr_queue_unthrottle: queue a.example: limit 20 window 6 success 0 failure 0 fail_cohorts 0") == 1);
    CHECK(log.last() == "qmgr_queue_throttle: queue a.example: limit 20 window 5 success 0 failure 0.8 fail_cohorts 0.166667");
    bench.limits.clear();
}

TEST_CASE("a flush gives the dead another chance at once", "[qmgr]") {
    Bench bench;
    bench.limits["smtp"].window.initial = 1;
    bench.add(1, "dead.example", {0});
    bench.scheduler.failed(bench.all().at(0).id, "4.4.1", "no", bench.now);
    bench.add(2, "dead.example", {0});
    CHECK(bench.all().empty());
    bench.scheduler.forgive_all();
    bench.add(3, "dead.example", {0});
    CHECK(bench.all().size() == 1);
}

TEST_CASE("a huge mailing and a single message take turns at one destination", "[qmgr]") {
    Bench bench;
    bench.limits["smtp"].window.initial = 1;
    bench.limits["smtp"].window.maximum = 1;
    bench.add(1, "a.example", numbers(5000));
    bench.add(2, "a.example", {0});
    std::vector<MessageKey> order;
    for (int i = 0; i < 4; ++i) {
        const std::vector<Batch> batches = bench.all();
        REQUIRE(batches.size() == 1);
        order.push_back(batches[0].message);
        bench.scheduler.succeeded(batches[0].id, bench.now);
    }
    CHECK(order == std::vector<MessageKey>{1, 2, 1, 1});
}

TEST_CASE("a mailing to very many destinations does not hold up a message to one", "[qmgr]") {
    Bench bench;
    bench.limits["smtp"].processes = 10;
    for (std::uint32_t i = 0; i < 10000; ++i) {
        bench.add(1, "host" + std::to_string(i) + ".example", {i});
    }
    CHECK(bench.all().size() == 10);
    bench.add(2, "small.example", {0});
    CHECK(bench.all().empty());
    bench.scheduler.succeeded(1, bench.now);
    bench.scheduler.succeeded(2, bench.now);
    const std::vector<Batch> next = bench.all();
    REQUIRE(next.size() == 2);
    CHECK((next[0].message == 2 || next[1].message == 2));
}

TEST_CASE("a slow destination does not hold up others", "[qmgr]") {
    Bench bench;
    for (MessageKey message = 1; message <= 1000; ++message) {
        bench.add(message, "slow.example", {0});
    }
    CHECK(bench.all().size() == 5);   // these never end
    std::size_t delivered = 0;
    for (MessageKey message = 2000; message < 2100; ++message) {
        bench.add(message, "fast.example", {0});
        for (const Batch& batch : bench.all()) {
            REQUIRE(batch.nexthop == "fast.example");
            bench.scheduler.succeeded(batch.id, bench.now);
            ++delivered;
        }
    }
    CHECK(delivered == 100);
}

TEST_CASE("a dead transport hands back everything and tries again later", "[qmgr]") {
    Bench bench;
    for (MessageKey message = 1; message <= 50; ++message) {
        bench.add(message, "a.example", {3});
    }
    const std::vector<Batch> batches = bench.all();
    bench.scheduler.transport_failed(batches[0].id, "4.3.0", "mail transport unavailable", bench.now);
    CHECK(bench.all().empty());
    std::size_t suspended = 0;
    for (const Suspended& entry : bench.scheduler.take_suspended(1000)) {
        suspended += entry.recipients.size();
        CHECK(entry.transport_dead);
    }
    CHECK(suspended == 45);
    bench.now += 61 * kSecond;
    bench.add(99, "b.example", {0});
    CHECK(bench.all().size() == 1);
}

TEST_CASE("a cancelled message is given out no more", "[qmgr]") {
    Bench bench;
    bench.add(1, "a.example", numbers(1000));
    bench.add(2, "a.example", {0});
    CHECK(bench.scheduler.next(bench.now)->message == 1);
    bench.scheduler.cancel(1);
    const std::vector<Batch> rest = bench.all();
    REQUIRE(rest.size() == 1);
    CHECK(rest[0].message == 2);
    bench.scheduler.succeeded(1, bench.now);
    bench.scheduler.succeeded(rest[0].id, bench.now);
    CHECK(bench.scheduler.destinations() == 0);
}

TEST_CASE("an agent that died says nothing about the destination", "[qmgr]") {
    Bench bench;
    bench.limits["smtp"].window.initial = 1;
    bench.add(1, "a.example", {0});
    bench.scheduler.abandoned(bench.all().at(0).id, bench.now);
    bench.add(1, "a.example", {0});
    CHECK(bench.all().size() == 1);
}

TEST_CASE("rate delay keeps a distance between deliveries", "[qmgr]") {
    Bench bench;
    bench.limits["smtp"].rate_delay = 10 * kSecond;
    bench.add(1, "a.example", {0});
    bench.add(2, "a.example", {0});
    std::vector<Batch> batches = bench.all();
    REQUIRE(batches.size() == 1);
    bench.scheduler.succeeded(batches[0].id, bench.now);
    CHECK(bench.all().empty());
    REQUIRE(bench.scheduler.next_event());
    CHECK(*bench.scheduler.next_event() == bench.now + 10 * kSecond);
    bench.now += 10 * kSecond;
    CHECK(bench.all().size() == 1);
}

TEST_CASE("transport rate delay keeps a distance between all deliveries of a transport", "[qmgr]") {
    Bench bench;
    bench.limits["smtp"].transport_rate_delay = 10 * kSecond;
    bench.add(1, "a.example", {0});
    bench.add(2, "b.example", {0});
    bench.add(3, "c.example", {0});
    bench.scheduler.add(4, "local", "here.example", "", {0}, bench.now);
    std::vector<Batch> batches = bench.all();
    REQUIRE(batches.size() == 2);   // one of each transport
    const Batch& first = batches[0].transport == "smtp" ? batches[0] : batches[1];
    CHECK_FALSE(bench.scheduler.next_event());
    bench.now += 60 * kSecond;
    CHECK(bench.all().empty());     // one at a time
    bench.scheduler.succeeded(first.id, bench.now);
    CHECK(bench.all().empty());
    REQUIRE(bench.scheduler.next_event());
    CHECK(*bench.scheduler.next_event() == bench.now + 10 * kSecond);
    bench.now += 10 * kSecond;
    batches = bench.all();
    REQUIRE(batches.size() == 1);
    bench.scheduler.succeeded(batches[0].id, bench.now);
    CHECK(bench.all().empty());
    bench.now += 10 * kSecond;
    CHECK(bench.all().size() == 1);
}

TEST_CASE("where an agent takes one recipient, recipients are destinations", "[qmgr]") {
    Bench bench;
    bench.limits["local"].recipients = 1;
    bench.limits["local"].window.maximum = 2;
    CHECK(bench.scheduler.one_recipient_each("local"));
    CHECK_FALSE(bench.scheduler.one_recipient_each("smtp"));
    for (std::uint32_t i = 0; i < 10; ++i) {
        bench.scheduler.add(i, "local", "here.example", "user", {0}, bench.now);
        bench.scheduler.add(100 + i, "local", "here.example", "user" + std::to_string(i), {0}, bench.now);
    }
    CHECK(bench.all().size() == 12);
}

TEST_CASE("fractional feedback adds up", "[qmgr]") {
    WindowLimits limits;
    limits.positive = *Feedback::parse("1/concurrency");
    limits.negative = *Feedback::parse("1/3");
    limits.failed_cohorts = 10;
    Window window(limits);
    for (int i = 0; i < 5; ++i) {
        window.succeeded(limits, 5);
    }
    CHECK(window.size() == 6);
    for (const int size : {5, 5, 4, 4, 4, 3}) {   // failure is heeded at once, and after each third one
        window.failed(limits);
        CHECK(window.size() == size);
    }
    limits.failed_cohorts = 0;
    for (int i = 0; i < 1000; ++i) {
        window.failed(limits);
    }
    CHECK(window.size() == 1);
    CHECK_FALSE(window.closed());
}

TEST_CASE("waiting messages come out in order of time", "[qmgr]") {
    WaitingSet set;
    std::mt19937 random(7);
    std::map<std::string, std::int64_t> model;
    for (int i = 0; i < 20000; ++i) {
        const std::string id = "Q" + std::to_string(random() % 3000);
        switch (random() % 4) {
        case 0:
            CHECK(set.remove(id) == (model.erase(id) == 1));
            break;
        case 1:
            if (!set.empty()) {
                const std::int64_t due = set.first_due();
                REQUIRE(std::all_of(model.begin(), model.end(), [due](const auto& entry) { return due <= entry.second; }));
                const std::string first = set.pop();
                REQUIRE(model.at(first) == due);
                model.erase(first);
            }
            break;
        default: {
            const std::int64_t due = 1'700'000'000 + static_cast<std::int64_t>(random() % 4000);
            REQUIRE(set.put(id, due));
            model[id] = due;
        }
        }
        REQUIRE(set.size() == model.size());
        REQUIRE(set.contains(id) == (model.count(id) == 1));
    }
}

TEST_CASE("a flush makes everything due and keeps the order", "[qmgr]") {
    WaitingSet set;
    for (int i = 0; i < 100; ++i) {
        set.put("A" + std::to_string(i), 1'800'000'000 + (i * 37) % 100);
    }
    set.make_all_due(1'700'000'000);
    std::vector<int> order;
    while (!set.empty()) {
        CHECK(set.first_due() < 1'700'000'000);
        order.push_back(std::stoi(set.pop().substr(1)) * 37 % 100);
    }
    CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("a time that cannot be meant does not disturb the order of a flush", "[qmgr]") {
    WaitingSet set;
    set.put("FAR", 0xffffffff);
    for (int i = 0; i < 100; ++i) {
        set.put("A" + std::to_string(i), 1'699'999'950 + (i * 37) % 100);   // some are due already
    }
    set.put("GONE", 1'800'000'000);
    REQUIRE(set.remove("GONE"));
    set.make_all_due(1'700'000'000);
    std::vector<int> order;
    while (set.size() > 1) {
        CHECK(set.first_due() < 1'700'000'000);
        order.push_back(std::stoi(set.pop().substr(1)) * 37 % 100);
    }
    CHECK(order.size() == 100);
    CHECK(std::is_sorted(order.begin(), order.end()));
    CHECK(set.first_due() < 1'700'000'000);
    CHECK(set.pop() == "FAR");
}

TEST_CASE("ids that no writer makes are refused", "[qmgr]") {
    WaitingSet set;
    CHECK(set.put(std::string(23, 'A'), 1));
    CHECK_FALSE(set.put(std::string(24, 'A'), 1));
    CHECK_FALSE(set.put("", 1));
    CHECK_FALSE(set.contains(std::string(24, 'A')));
}

TEST_CASE("a million waiting messages take tens of megabytes", "[qmgr]") {
    WaitingSet set;
    for (int i = 0; i < 1'000'000; ++i) {
        set.put("4FXq3s" + std::to_string(i) + "zWx", 1'700'000'000 + i % 4000);
    }
    const double megabytes = static_cast<double>(set.memory_bytes()) / 1e6;
    WARN("1,000,000 waiting messages: " << megabytes << " MB");
    CHECK(megabytes < 64);
}
