/// tools/queue_shape and queue_report: the counts are those of qshape(1) of Postfix 3.7 for the same messages.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tools/queue_report.h"

using namespace postern;
using namespace postern::tools;

namespace {

constexpr std::int64_t kNow = 1'700'000'000;

ListedMessage message(std::int64_t minutes_old, std::vector<std::string> recipients, std::string sender = "me@from.example") {
    ListedMessage listed;
    listed.queue_name = "deferred";
    listed.queue_id = "654B6A78704";
    listed.arrival_seconds = kNow - 60 * minutes_old;
    listed.sender = std::move(sender);
    listed.next_try_seconds = kNow + 600 + minutes_old;
    for (std::string& recipient : recipients) {
        listed.recipients.push_back({std::move(recipient), "connection refused"});
    }
    return listed;
}

const ShapeRow* find(const std::vector<const ShapeRow*>& rows, const std::string& domain) {
    for (const ShapeRow* row : rows) {
        if (row->domain == domain) {
            return row;
        }
    }
    return nullptr;
}

std::vector<std::uint64_t> ages_of(std::int64_t minutes_old, const ShapeOptions& options) {
    QueueShape shape(options, kNow);
    shape.add(message(minutes_old, {"a@one.example"}));
    return shape.total().ages;
}

std::size_t bucket(std::int64_t minutes_old, const ShapeOptions& options = {}) {
    const std::vector<std::uint64_t> ages = ages_of(minutes_old, options);
    return static_cast<std::size_t>(std::find(ages.begin(), ages.end(), 1) - ages.begin());
}

}  // namespace

TEST_CASE("ages fall into qshape's buckets", "[queue_shape]") {
    CHECK(QueueShape({}, kNow).heads() == std::vector<std::string>{"5", "10", "20", "40", "80", "160", "320", "640", "1280", "1280+"});
    for (const auto& [minutes, expected] : {std::pair{-3, 0}, {0, 0}, {4, 0}, {5, 1}, {9, 1}, {10, 2}, {19, 2}, {20, 3}, {1279, 8},
                                            {1280, 9}, {1000000, 9}}) {
        CAPTURE(minutes);
        CHECK(bucket(minutes) == static_cast<std::size_t>(expected));
    }
    ShapeOptions linear;
    linear.linear = true;
    linear.buckets = 3;
    CHECK(QueueShape(linear, kNow).heads() == std::vector<std::string>{"5", "10", "10+"});
    CHECK(bucket(4, linear) == 0);
    CHECK(bucket(9, linear) == 1);
    CHECK(bucket(10, linear) == 2);
    ShapeOptions one;
    one.buckets = 1;
    CHECK(bucket(100, one) == 0);
}

TEST_CASE("recipients are counted by domain, largest first", "[queue_shape]") {
    QueueShape shape({}, kNow);
    shape.add(message(1, {"a@Two.example", "b@two.EXAMPLE", "c@one.example"}));
    shape.add(message(30, {"d@two.example."}));
    const std::vector<const ShapeRow*> rows = shape.rows();
    REQUIRE(rows.size() == 2);
    CHECK(rows[0]->domain == "two.example");
    CHECK(rows[0]->total == 3);
    CHECK(rows[0]->ages[0] == 2);
    CHECK(rows[0]->ages[3] == 1);
    CHECK(rows[0]->next_try_seconds == kNow + 601);
    CHECK(rows[0]->reason == "connection refused");
    CHECK(shape.total().total == 4);
    CHECK(shape.messages() == 2);
}

TEST_CASE("senders are counted once for each message", "[queue_shape]") {
    ShapeOptions options;
    options.senders = true;
    QueueShape shape(options, kNow);
    shape.add(message(1, {"a@one.example", "b@one.example"}));
    shape.add(message(1, {"a@one.example"}, ""));
    CHECK(find(shape.rows(), "from.example")->total == 1);
    CHECK(find(shape.rows(), "MAILER-DAEMON")->total == 1);
}

TEST_CASE("parents with enough subdomains are shown, top level domains never", "[queue_shape]") {
    CHECK(shape_parent("a.b.example.com") == ".b.example.com");
    CHECK(shape_parent(".b.example.com") == ".example.com");
    CHECK(shape_parent(".example.com").empty());
    CHECK(shape_parent("com").empty());
    CHECK(shape_parent("").empty());
    ShapeOptions options;
    options.parents = true;
    options.minimum_subdomains = 3;
    QueueShape shape(options, kNow);
    shape.add(message(1, {"x@a.big.example", "x@b.big.example", "x@c.big.example", "y@c.big.example", "x@a.few.example"}));
    CHECK(find(shape.rows(), ".big.example")->total == 4);
    CHECK(find(shape.rows(), ".few.example") == nullptr);
    CHECK(find(shape.rows(), ".example") == nullptr);
    CHECK(shape.total().total == 5);
}

TEST_CASE("the report is aligned, bounded and safe for a terminal", "[queue_shape]") {
    QueueShape shape({}, kNow);
    shape.add(message(1, {"a@one.example", "b@\x1b[2Jtwo.example"}));
    ManagerReport manager;
    queue::DestinationStatus dead;
    dead.transport = "smtp";
    dead.nexthop = "one.example";
    dead.dead_until_usec = (kNow + 100) * 1'000'000;
    dead.reason = "connect: \x1b[31mrefused";
    manager.status.destinations.push_back(dead);
    ReportOptions options;
    options.queues = {"deferred"};
    options.now_seconds = kNow;
    options.reasons = true;
    const std::string text = text_report(shape, manager, options);
    CAPTURE(text);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find("                  T  5 10 20 40 80 160 320 640 1280 1280+ next\n") != std::string::npos);
    CHECK(text.find("one.example       1  1  0  0  0  0   0   0   0    0     0  10m\n") != std::string::npos);
    CHECK(text.find("    (connection refused)\n") != std::string::npos);
    CHECK(text.find("smtp:one.example      0       0       0  not tried until ") != std::string::npos);
    options.colour = true;
    CHECK(text_report(shape, manager, options).find("\x1b[31mnot tried") != std::string::npos);
    options.rows = 1;
    CHECK(text_report(shape, manager, options).find("... and 1 more (-n 0 shows all)\n") != std::string::npos);
    manager.error = "Connection refused";
    CHECK(text_report(shape, manager, options).find("qmgr cannot be asked: Connection refused\n") != std::string::npos);
}

TEST_CASE("the JSON report is one object", "[queue_shape]") {
    QueueShape shape({}, kNow);
    shape.add(message(1, {"a@one\"\n.example"}));
    ManagerReport manager;
    manager.status.active = 7;
    ReportOptions options;
    options.queues = {"deferred"};
    options.now_seconds = kNow;
    const std::string text = json_report(shape, manager, options);
    CHECK(text.find(R"("domain": "one\"\u000a.example", "total": 1, "ages": [1, 0)") != std::string::npos);
    CHECK(text.find(R"("manager": {"active": 7,)") != std::string::npos);
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
}
