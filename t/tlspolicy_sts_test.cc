// mta-sts: the cache on disk, and the server with a name service and a web of the test's own.
#include <catch2/catch.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>

#include "store_helpers.h"
#include "tlspolicy/sts_server.h"

using namespace postern;
using namespace postern::tlspolicy;

namespace {

std::int64_t now_is = 0;
std::int64_t the_clock() { return now_is; }

StsPolicy policy(std::uint64_t max_age) {
    StsPolicy out;
    out.mode = StsMode::enforce;
    out.mx = {"mail.example.com", "*.example.net"};
    out.max_age = max_age;
    out.lines = {"version: STSv1"};
    return out;
}

class FakeDns final : public Dns {
public:
    std::map<std::string, std::vector<std::string>> texts;
    bool broken = false;
    int asked = 0;

    Task<Result<DnsAnswer>> query(std::string name, DnsType, Millis) override {
        ++asked;
        if (broken) {
            co_return Error(Errc::temporary, "SERVFAIL");
        }
        DnsAnswer answer;
        for (const std::string& text : texts[name]) {
            answer.records.push_back({text, 0});
        }
        co_return answer;
    }
};

class FakeWeb final : public Https {
public:
    HttpsAnswer answer{200, "text/plain; charset=utf-8", ""};
    std::optional<Error> error;
    Millis delay{0};
    std::vector<std::string> asked;

    Task<Result<HttpsAnswer>> perform(HttpsRequest request) override {
        asked.push_back(request.url);
        if (delay.count() > 0) {
            co_await sleep_for(delay);
        }
        if (error) {
            co_return *error;
        }
        co_return answer;
    }
};

struct World {
    store::Scratch scratch;
    FakeDns dns;
    FakeWeb web;
    std::unique_ptr<StsCache> cache;
    std::unique_ptr<StsServer> server;

    World() {
        now_is = 1'700'000'000;
        dns.texts["_mta-sts.example.com"] = {"v=STSv1; id=1"};
        publish("enforce", 86400 * 7);
        start();
    }
    void start() {
        server.reset();
        cache.reset();
        Result<std::unique_ptr<StsCache>> opened = StsCache::open(scratch.path() + "/sts.mdb");
        REQUIRE(opened);
        cache = std::move(*opened);
        server = std::make_unique<StsServer>(dns, web, *cache, &the_clock);
    }
    void publish(const std::string& mode, long max_age) {
        web.answer.body = "version: STSv1\nmode: " + mode + "\nmx: mx.example.com\nmax_age: " + std::to_string(max_age) + "\n";
    }
    StsAnswer find(const std::string& domain = "example.com") { return Loop::current().run_until(server->find(domain)); }
    void refresh() { Loop::current().run_until(server->refresh()); }
};

}  // namespace

TEST_CASE("a cache entry survives its encoding, and no damage passes for one", "[tlspolicy]") {
    const StoredPolicy entry{"abc", 5, 6, policy(7)};
    const std::string bytes = StsCache::encode(entry);
    const std::optional<StoredPolicy> again = StsCache::decode(bytes);
    REQUIRE(again);
    CHECK(again->id == "abc");
    CHECK(again->expires() == 12);
    CHECK(again->policy.mx == entry.policy.mx);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        CAPTURE(i);
        CHECK_FALSE(StsCache::decode(bytes.substr(0, i)));
        std::string flipped = bytes;
        flipped[i] = static_cast<char>(flipped[i] ^ 1);
        CHECK_FALSE(StsCache::decode(flipped));
    }
    CHECK_FALSE(StsCache::decode(bytes + "x"));
}

TEST_CASE("what was stored is there after the process was killed at any moment", "[tlspolicy]") {
    const store::Scratch scratch;
    const std::string path = scratch.path() + "/sts.mdb";
    int seen = 0;
    for (int round = 0; round < 15; ++round) {
        int told[2];
        REQUIRE(::pipe(told) == 0);
        const pid_t child = ::fork();
        if (child == 0) {
            Result<std::unique_ptr<StsCache>> cache = StsCache::open(path);
            for (std::int64_t i = seen + 1; cache; ++i) {
                const auto number = static_cast<int>(i);
                if (!(*cache)->store("example.com", {"id", i, 0, policy(1)}) || ::write(told[1], &number, sizeof number) < 0) {
                    break;
                }
            }
            ::_exit(1);
        }
        ::close(told[1]);
        int number = 0;
        for (int i = 0; i <= round && ::read(told[0], &number, sizeof number) == sizeof number; ++i) {
            seen = number;
        }
        ::usleep(static_cast<useconds_t>(round * 300));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        while (::read(told[0], &number, sizeof number) == sizeof number) {
            seen = number;
        }
        ::close(told[0]);
        const Result<std::unique_ptr<StsCache>> cache = StsCache::open(path);
        REQUIRE(cache);
        const std::optional<StoredPolicy> entry = (*cache)->find("example.com");
        REQUIRE(entry);
        CHECK(entry->fetched >= seen);       // all that was acknowledged,
        CHECK(entry->fetched <= seen + 1);   // and at most the one that was being written
        CHECK(entry->policy.mx == policy(1).mx);
        seen = static_cast<int>(entry->fetched);
    }
}

TEST_CASE("a data file that is none is set aside", "[tlspolicy]") {
    const store::Scratch scratch;
    const std::string path = scratch.path() + "/sts.mdb";
    std::ofstream(path) << std::string(100'000, 'x');
    const Result<std::unique_ptr<StsCache>> cache = StsCache::open(path);
    REQUIRE(cache);
    CHECK((*cache)->store("a.example", {"id", 1, 1, policy(1)}));
    CHECK((*cache)->all().size() == 1);
    CHECK(::access((path + ".corrupt").c_str(), F_OK) == 0);
    CHECK((*cache)->remove("a.example"));
    CHECK((*cache)->all().empty());
}

TEST_CASE("a policy is fetched once and then known, after a restart too", "[tlspolicy]") {
    World world;
    const StsAnswer first = world.find("Example.COM");
    CHECK_FALSE(first.kept);
    CHECK(first.fetched == now_is);
    CHECK(first.found);
    CHECK(first.mode == static_cast<std::uint8_t>(StsMode::enforce));
    CHECK(first.mx == std::vector<std::string>{"mx.example.com"});
    CHECK(first.policy_id == "1");
    CHECK(first.expires == now_is + 86400 * 7);
    CHECK(world.web.asked == std::vector<std::string>{"https://mta-sts.example.com/.well-known/mta-sts.txt"});
    world.start();
    CHECK(world.find().found);
    CHECK(world.web.asked.size() == 1);
}

TEST_CASE("a new id brings the new policy", "[tlspolicy]") {
    World world;
    CHECK(world.find().policy_id == "1");
    world.dns.texts["_mta-sts.example.com"] = {"v=STSv1; id=2"};
    world.publish("testing", 1000);
    const StsAnswer second = world.find();
    CHECK(second.policy_id == "2");
    CHECK(second.mode == static_cast<std::uint8_t>(StsMode::testing));
}

TEST_CASE("without a record no web server is asked, and the name server not again for a while", "[tlspolicy]") {
    World world;
    world.dns.texts.clear();
    CHECK_FALSE(world.find().found);
    CHECK(world.web.asked.empty());
    const int asked = world.dns.asked;
    CHECK_FALSE(world.find().found);
    CHECK(world.dns.asked == asked);
    now_is += StsServer::kRetry;
    CHECK_FALSE(world.find().found);
    CHECK(world.dns.asked == asked + 1);
}

TEST_CASE("names that are no domains are not asked about", "[tlspolicy]") {
    World world;
    for (const std::string name : {"", "192.0.2.1", "a b", "[192.0.2.1]", "x/../y"}) {
        CHECK_FALSE(world.find(name).found);
    }
    CHECK(world.dns.asked == 0);
}

TEST_CASE("what the web says instead of a policy is told by its kind, and not asked for again at once", "[tlspolicy]") {
    World world;
    StsProblem expected = StsProblem::fetch_error;
    SECTION("not found") { world.web.answer.status = 404; }
    SECTION("elsewhere") { world.web.answer.status = 301; }
    SECTION("another type") { world.web.answer.content_type = "text/html"; }
    SECTION("no type") { world.web.answer.content_type = ""; }
    SECTION("no connection") { world.web.error = Error(Errc::io, "refused"); }
    SECTION("a bad certificate") {
        world.web.error = Error(Errc::denied, "certificate");
        expected = StsProblem::webpki_invalid;
    }
    SECTION("nonsense") {
        world.web.answer.body = "hello";
        expected = StsProblem::invalid;
    }
    StsAnswer answer = world.find();
    CHECK_FALSE(answer.found);
    CHECK(answer.problem == static_cast<std::uint8_t>(expected));
    CHECK_FALSE(answer.problem_text.empty());
    answer = world.find();
    CHECK(answer.problem == static_cast<std::uint8_t>(expected));
    CHECK(world.web.asked.size() == 1);
    world.web.error.reset();
    world.web.answer = {200, "text/plain", ""};
    world.publish("enforce", 60);
    now_is += StsServer::kRetry;
    answer = world.find();
    CHECK(answer.found);
    CHECK(answer.problem == 0);
}

TEST_CASE("a kept policy holds until it expires, whatever fails", "[tlspolicy]") {
    World world;
    CHECK(world.find().found);
    SECTION("no record any more") { world.dns.texts.clear(); }
    SECTION("no name service") { world.dns.broken = true; }
    SECTION("a new id, and no web server") {
        world.dns.texts["_mta-sts.example.com"] = {"v=STSv1; id=2"};
        world.web.error = Error(Errc::timeout, "slow");
    }
    now_is += 86400 * 7 - 1;
    const StsAnswer old = world.find();
    CHECK(old.found);
    CHECK(old.policy_id == "1");
    now_is += StsServer::kRetry;
    CHECK_FALSE(world.find().found);
}

TEST_CASE("a slow web server does not hold up mail for which a policy is kept", "[tlspolicy]") {
    World world;
    CHECK(world.find().found);
    world.dns.texts["_mta-sts.example.com"] = {"v=STSv1; id=2"};
    world.web.delay = StsServer::kWithCache + std::chrono::seconds(1);
    const StsAnswer old = world.find();
    CHECK(old.policy_id == "1");
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(1500)));
    CHECK(world.find().policy_id == "2");   // it came in the end
}

TEST_CASE("nor does it hold up mail for long when no policy is kept", "[tlspolicy]") {
    World world;
    world.web.delay = StsServer::kWithoutCache + std::chrono::seconds(1);
    const StsAnswer none = world.find();
    CHECK_FALSE(none.found);
    CHECK(none.problem == 0);
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(1500)));
    CHECK(world.find().found);
    CHECK(world.web.asked.size() == 1);
}

TEST_CASE("a policy that cannot be written holds all the same", "[tlspolicy]") {
    World world;
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto signal_before = std::signal(SIGXFSZ, SIG_IGN);
    rlimit none = before;
    none.rlim_cur = 4096;   // LMDB writes behind that
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &none) == 0);
    const StsAnswer answer = world.find();
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, signal_before);
    CHECK(answer.found);
    CHECK(answer.policy_id == "1");
    CHECK(world.cache->all().empty());
}

TEST_CASE("many who ask at once cost one fetch", "[tlspolicy]") {
    World world;
    world.web.delay = std::chrono::milliseconds(50);
    int found = 0;
    struct Asking {
        static Task<> ask(StsServer& server, int& found) {
            const StsAnswer answer = co_await server.find("example.com");
            found += answer.found ? 1 : 0;
        }
    };
    for (int i = 0; i < 20; ++i) {
        spawn(Asking::ask(*world.server, found));
    }
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(300)));
    CHECK(found == 20);
    CHECK(world.web.asked.size() == 1);
}

TEST_CASE("policies are refreshed daily while they are asked for, and go when they have expired", "[tlspolicy]") {
    World world;
    CHECK(world.find().found);
    world.refresh();
    CHECK(world.web.asked.size() == 1);
    now_is += 86400;
    world.publish("testing", 86400 * 100);
    world.refresh();
    CHECK(world.web.asked.size() == 2);
    CHECK(world.cache->find("example.com")->expires() == now_is + 86400 * 100);
    now_is += StsServer::kUnused;
    world.refresh();
    CHECK(world.web.asked.size() == 2);
    now_is += 86400 * 100;
    world.refresh();
    CHECK(world.cache->all().empty());
}

TEST_CASE("what came while others were refreshed is not thrown away with what it replaced", "[tlspolicy]") {
    World world;
    world.dns.texts["_mta-sts.a.example"] = {"v=STSv1; id=1"};
    CHECK(world.find().found);
    world.publish("enforce", 86400 * 100);
    CHECK(world.find("a.example").found);
    now_is += 86400 * 8;   // the first has expired, the other is to be refreshed before it
    struct Asking {
        static Task<> ask(StsServer& server) {
            const StsAnswer answer = co_await server.find("example.com");
            CHECK(answer.found);
        }
    };
    world.web.delay = std::chrono::milliseconds(50);
    spawn(Asking::ask(*world.server));
    world.web.delay = std::chrono::milliseconds(300);
    world.refresh();
    const std::optional<StoredPolicy> kept = world.cache->find("example.com");
    REQUIRE(kept);
    CHECK(kept->fetched == now_is);
}

TEST_CASE("questions and answers travel over a socket", "[tlspolicy]") {
    World world;
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    spawn(world.server->serve(UniqueFd(ends[0])));
    struct Asking {
        static Task<StsAnswer> ask(Channel<ToMtaSts, FromMtaSts>& channel) {
            StsQuestion question;
            question.id = 7;
            question.domain = "example.com";
            channel.post(std::move(question));
            Result<FromMtaSts> got = co_await channel.receive(std::chrono::seconds(5));
            co_return got ? std::move(std::get<StsAnswer>(*got)) : StsAnswer();
        }
    };
    Channel<ToMtaSts, FromMtaSts> channel(UniqueFd(ends[1]), kMaxStsAnswer);
    const StsAnswer answer = Loop::current().run_until(Asking::ask(channel));
    CHECK(answer.id == 7);
    CHECK(answer.found);
    channel.close();
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(20)));
}
