// verify: what it believes, for how long, when it probes, and what survives in its cache.
#include <catch2/catch.hpp>

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "lib/async/loop.h"
#include "lib/log/capture.h"
#include "lib/verify/client.h"
#include "verify/server.h"

using namespace postern;
using namespace postern::verify;

namespace {

struct Directory {
    Directory() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
    ~Directory() { std::filesystem::remove_all(path); }
    std::string path = "/tmp/postern-verify-XXXXXX";
};

struct World {
    explicit World(std::string_view settings = "", std::string map = "")
        : config(std::move(*Config::from_text(settings))), cache(std::move(*Cache::open(map))),
          server(config, *cache, [this](std::string address) { return probed(std::move(address)); }, [this] { return now; }) {}

    Task<Result<void>> probed(std::string address) {
        probes.push_back(std::move(address));
        if (no_queue) {
            co_return Error(Errc::closed, "cleanup is not there");
        }
        co_return Result<void>();
    }
    VerifyAnswer ask(const std::string& address, std::uint32_t wait = 0) {
        VerifyQuery question;
        question.address = address;
        question.wait_msec = wait;
        return Loop::current().run_until(server.query(std::move(question)));
    }
    bool tell(const std::string& address, std::uint8_t status, const std::string& text, bool trusted = true) {
        VerifyUpdate update;
        update.address = address;
        update.status = status;
        update.text = text;
        return server.update(update, trusted).ok;
    }
    void write() { Loop::current().run_until(cache->write()); }

    Config config;
    std::unique_ptr<Cache> cache;
    std::int64_t now = 1'800'000'000;
    std::vector<std::string> probes;
    bool no_queue = false;
    Server server;
};

constexpr std::int64_t kHour = 3600, kDay = 24 * kHour;

}  // namespace

TEST_CASE("an unknown address is probed once, and its result is believed", "[verify]") {
    World world;
    CHECK(world.ask("a@b.example").status == kUnknown);
    CHECK(world.ask("a@b.example").text == "Address verification in progress");
    CHECK(world.probes == std::vector<std::string>{"a@b.example"});
    CHECK(world.tell("a@b.example", kUndeliverable, "no\nsuch user"));
    const VerifyAnswer answer = world.ask("a@b.example");
    CHECK(answer.status == kUndeliverable);
    CHECK(answer.text == "no such user");
    CHECK(world.probes.size() == 1);
}

TEST_CASE("a question may wait for the probe", "[verify]") {
    World world;
    const auto later = [](World& w) -> Task<> {
        co_await sleep_for(Millis(20));
        w.tell("a@b.example", kDeliverable, "fine");
    };
    spawn(later(world));
    CHECK(world.ask("a@b.example", 5000).status == kDeliverable);
    CHECK(world.ask("other@b.example", 30).status == kUnknown);
}

TEST_CASE("a lost probe is sent again after its lifetime", "[verify]") {
    World world;
    world.ask("a@b.example");
    world.now += kProbeLifetime;
    world.ask("a@b.example");
    CHECK(world.probes.size() == 1);
    world.now += 1;
    world.ask("a@b.example");
    CHECK(world.probes.size() == 2);
}

TEST_CASE("a probe that could not be queued is tried again with the next question", "[verify]") {
    World world;
    world.no_queue = true;
    CHECK(world.ask("a@there.example").status == kUnknown);
    world.no_queue = false;
    CHECK(world.ask("a@there.example").status == kUnknown);
    CHECK(world.probes.size() == 2);
    world.ask("a@there.example");
    CHECK(world.probes.size() == 2);
}

TEST_CASE("a good address stays good while refreshing fails, until it expires", "[verify]") {
    World world;
    world.tell("a@b.example", kDeliverable, "fine");
    CHECK(world.ask("a@b.example").status == kDeliverable);
    CHECK(world.probes.empty());
    world.now += 7 * kDay + 1;
    CHECK(world.ask("a@b.example").status == kDeliverable);   // and is probed for the next who asks
    CHECK(world.probes.size() == 1);
    world.tell("a@b.example", kUndeliverable, "gone");
    CHECK(world.ask("a@b.example").status == kDeliverable);
    world.now += 24 * kDay + 1;
    CHECK(world.ask("a@b.example").status == kUnknown);
    world.tell("a@b.example", kUndeliverable, "gone");
    CHECK(world.ask("a@b.example").status == kUndeliverable);
}

TEST_CASE("failures are refreshed after three hours and forgotten after three days", "[verify]") {
    World world;
    world.tell("a@b.example", kDeferred, "try later");
    world.now += 3 * kHour;
    CHECK(world.ask("a@b.example").status == kDeferred);
    CHECK(world.probes.empty());
    world.now += 1;
    CHECK(world.ask("a@b.example").status == kDeferred);
    CHECK(world.probes.size() == 1);
    world.now += 3 * kDay;
    CHECK(world.ask("a@b.example").status == kUnknown);
}

TEST_CASE("without a negative cache only good addresses are remembered", "[verify]") {
    World world("address_verify_negative_cache = no\n");
    world.tell("bad@b.example", kUndeliverable, "no");
    CHECK(world.ask("bad@b.example").status == kUnknown);
    CHECK(world.ask("bad@b.example").status == kUnknown);
    CHECK(world.probes.size() == 2);
    world.tell("good@b.example", kDeliverable, "yes");
    CHECK(world.ask("good@b.example").status == kDeliverable);
}

TEST_CASE("a refresh that fails after the entry's time does not end it, while its probe counts as under way", "[verify]") {
    World world;
    world.tell("a@b.example", kDeliverable, "fine");
    world.now += 31 * kDay - 10;
    CHECK(world.ask("a@b.example").status == kDeliverable);
    world.now += 20;
    world.tell("a@b.example", kUndeliverable, "gone");
    CHECK(world.ask("a@b.example").status == kDeliverable);
    world.now += kProbeLifetime;
    CHECK(world.ask("a@b.example").status == kUnknown);
}

TEST_CASE("only the owner of the queue reports results, and only about addresses", "[verify]") {
    World world;
    LogCapture log;
    CHECK_FALSE(world.tell("a@b.example", kDeliverable, "fine", false));
    CHECK_FALSE(world.tell("a@b.example", 7, "fine"));
    CHECK_FALSE(world.tell("", kDeliverable, "fine"));
    CHECK_FALSE(world.tell(std::string(kMaxVerifyAddress + 1, 'a'), kDeliverable, "fine"));
    CHECK(world.ask("a@b.example").status == kUnknown);
    CHECK(world.ask(std::string(kMaxVerifyAddress + 1, 'a')).status == kUndeliverable);
    CHECK(world.ask("a\n@b.example").status == kUndeliverable);
    CHECK(world.probes.size() == 1);
}

TEST_CASE("the cache survives, and is cleaned", "[verify]") {
    const Directory directory;
    const std::string map = "lmdb:" + directory.path + "/cache";
    {
        World world("", map);
        world.tell("old@b.example", kUndeliverable, "no");
        world.now += 4 * kDay;
        world.tell("new@b.example", kUndeliverable, "no");
        world.write();
        world.tell("last@b.example", kDeliverable, "yes");
        world.cache->write_now();
    }
    World world("", map);
    world.now += 4 * kDay;
    CHECK(world.ask("new@b.example").status == kUndeliverable);
    CHECK(world.ask("last@b.example").status == kDeliverable);
    const Cleaned cleaned = Loop::current().run_until(world.cache->clean(Lifetimes(world.config), world.now));
    CHECK(cleaned.retained == 2);
    CHECK(cleaned.dropped == 1);
    CHECK(world.cache->last_cleaned() == world.now);
    CHECK_FALSE(world.cache->find("old@b.example"));
    CHECK(world.cache->find("new@b.example"));
}

TEST_CASE("a damaged cache is replaced by an empty one", "[verify]") {
    const Directory directory;
    {
        std::ofstream file(directory.path + "/cache.lmdb");
        file << std::string(20000, 'x');
    }
    LogCapture log;
    const auto cache = Cache::open("btree:" + directory.path + "/cache");
    REQUIRE(cache);
    CHECK_FALSE((*cache)->find("a@b.example"));
    CHECK_FALSE(Cache::open("pcre:/x"));
}

TEST_CASE("entries are Postfix's", "[verify]") {
    Entry entry;
    entry.status = kDeferred;
    entry.probed = 5;
    entry.updated = 1700000000;
    entry.text = "a:b";
    CHECK(format_entry(entry) == "1:5:1700000000:a:b");
    const auto again = parse_entry(std::string_view("1:5:1700000000:a:b\0", 19));
    REQUIRE(again);
    CHECK(again->text == "a:b");
    CHECK(again->updated == 1700000000);
    for (const char* bad : {"", "1", "1:2", "1:2:3", "4:1:1:x", "x:1:1:x", "-1:1:1:x", "1:99999999999999999999:1:x"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_entry(bad));
    }
}

TEST_CASE("the sender of probes changes with time, and is known for a while", "[verify]") {
    const Config fixed = std::move(*Config::from_text("myorigin = here.example\n"));
    CHECK(probe_sender(fixed, 1000) == "double-bounce@here.example");
    CHECK(is_probe_sender(fixed, "Double-Bounce@here.example", 1000));
    const Config changing = std::move(*Config::from_text("myorigin = here.example\naddress_verify_sender = probe@x.example\naddress_verify_sender_ttl = 100s\n"));
    CHECK(probe_sender(changing, 100 * 31 + 5) == "probe10@x.example");
    CHECK(is_probe_sender(changing, "probe10@x.example", 100 * 32));
    CHECK_FALSE(is_probe_sender(changing, "probe10@x.example", 100 * 34));
    const Config null = std::move(*Config::from_text("address_verify_sender = <>\n"));
    CHECK(probe_sender(null, 1000).empty());
    CHECK_FALSE(is_probe_sender(null, "", 1000));
}
