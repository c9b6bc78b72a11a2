// anvil: its books, its conversation with processes that come, go and talk nonsense, and the side that asks.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "lib/async/loop.h"
#include "lib/limits/client_counts.h"
#include "lib/log/capture.h"
#include "proxymap/anvil_server.h"

using namespace postern;

namespace {

using Clock = anvil::Counts::Clock;
using Process = Channel<ToAnvil, FromAnvil>;
constexpr auto kMinute = std::chrono::seconds(60);

std::pair<UniqueFd, UniqueFd> socket_pair() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void settle() {
    Loop::current().run_until(sleep_for(Millis(20)));
}

/// A process as anvil sees it.  The server outlives it, and learns of its end.
struct Fake {
    explicit Fake(anvil::Server& server) {
        auto [ours, theirs] = socket_pair();
        channel = Process(std::move(ours), kMaxAnvilMessage);
        spawn(server.serve(std::move(theirs)));
    }
    ~Fake() {
        channel.close();
        settle();
    }
    Fake(const Fake&) = delete;
    Fake& operator=(const Fake&) = delete;
    AnvilNumbers ask(ToAnvil message) {
        std::visit([this](auto& m) { channel.post(std::move(m)); }, message);
        Result<FromAnvil> answer = Loop::current().run_until(channel.receive(std::chrono::seconds(5)));
        REQUIRE(answer);
        return std::get<AnvilNumbers>(*answer);
    }
    AnvilNumbers opened(const std::string& client) {
        AnvilOpened m;
        m.id = ++id;
        m.client = client;
        AnvilNumbers answer = ask(ToAnvil(std::move(m)));
        CHECK(answer.id == id);
        return answer;
    }
    /// Everything said before has been heard when this has been answered.
    AnvilNumbers look(const std::string& client, ClientEvent what) {
        AnvilEvent m;
        m.id = ++id;
        m.client = client;
        m.what = static_cast<std::uint8_t>(what);
        m.amount = 0;
        return ask(ToAnvil(std::move(m)));
    }
    Process channel;
    std::uint32_t id = 0;
};

}  // namespace

TEST_CASE("rates are counted in windows that begin with the first event", "[anvil]") {
    anvil::Counts counts(kMinute);
    const auto start = Clock::now();
    CHECK(counts.opened("smtp:a", start).rate == 1);
    CHECK(counts.opened("smtp:a", start + std::chrono::seconds(59)).rate == 2);
    CHECK(counts.event("smtp:a", ClientEvent::message, 3, start + std::chrono::seconds(60)).rate == 3);
    CHECK(counts.event("smtp:a", ClientEvent::message, 0, start + std::chrono::seconds(60)).rate == 3);
    // The window is over for all rates at once; what is open stays.
    CHECK(counts.event("smtp:a", ClientEvent::message, 0, start + std::chrono::seconds(61)).rate == 0);
    const ClientNumbers later = counts.opened("smtp:a", start + std::chrono::seconds(61));
    CHECK(later.rate == 1);
    CHECK(later.open == 3);
    CHECK(counts.event("smtp:b", ClientEvent::message, 1, start).rate == 1);
}

TEST_CASE("clients are forgotten when they have nothing open and nothing recent", "[anvil]") {
    anvil::Counts counts(kMinute);
    const auto start = Clock::now();
    counts.opened("smtp:a", start);
    counts.opened("smtp:b", start);
    counts.closed("smtp:b", 1, start);
    counts.forget_old(start + std::chrono::seconds(30));
    CHECK(counts.clients() == 2);
    counts.forget_old(start + std::chrono::seconds(61));
    CHECK(counts.clients() == 1);
    counts.closed("smtp:a", 1, start + std::chrono::seconds(62));
    CHECK(counts.clients() == 0);
}

TEST_CASE("memory is bounded: with too many clients, new ones are not counted", "[anvil]") {
    anvil::Counts counts(kMinute, 3);
    const auto now = Clock::now();
    for (int i = 0; i < 10; ++i) {
        counts.opened("smtp:" + std::to_string(i), now);
    }
    CHECK(counts.clients() == 3);
    CHECK(counts.opened("smtp:0", now).open == 2);
    CHECK(counts.opened("smtp:9", now).open == 0);
    counts.closed("smtp:9", 1, now);
    CHECK(counts.clients() == 3);
}

TEST_CASE("sums stop at their highest value instead of beginning again", "[anvil]") {
    anvil::Counts counts(kMinute);
    const auto now = Clock::now();
    counts.event("smtp:a", ClientEvent::message, UINT32_MAX, now);
    CHECK(counts.event("smtp:a", ClientEvent::message, 5, now).rate == UINT32_MAX);
}

TEST_CASE("statistics have Postfix's words and name the highest number since the last time", "[anvil]") {
    anvil::Counts counts(kMinute);
    const auto now = Clock::now();
    counts.opened("smtp:192.0.2.1", now);
    counts.opened("smtp:192.0.2.1", now);
    counts.opened("smtp:192.0.2.2", now);
    counts.event("smtp:192.0.2.2", ClientEvent::recipient, 7, now);
    counts.event("smtp:192.0.2.2", ClientEvent::tls, 2, now);
    const std::vector<std::string> lines = counts.take_statistics();
    REQUIRE(lines.size() == 5);
    const auto begins = [](const std::string& line, const std::string& text) { return line.compare(0, text.size(), text) == 0; };
    CHECK(begins(lines[0], "statistics: max connection rate 2/60s for (smtp:192.0.2.1) at "));
    CHECK(begins(lines[1], "statistics: max connection count 2 for (smtp:192.0.2.1) at "));
    CHECK(begins(lines[2], "statistics: max recipient rate 7/60s for (smtp:192.0.2.2) at "));
    CHECK(begins(lines[3], "statistics: max newtls rate 2/60s for (smtp:192.0.2.2) at "));
    CHECK(begins(lines[4], "statistics: max cache size 2 at "));
    CHECK(lines[4].size() == std::string("statistics: max cache size 2 at Nov 22 14:07:39").size());
    CHECK(counts.take_statistics().empty());
}

TEST_CASE("connections are summed over processes, and those of a dead process are dropped", "[anvil]") {
    anvil::Server server(kMinute);
    Fake one(server);
    Fake two(server);
    CHECK(one.opened("smtp:a").open == 1);
    CHECK(one.opened("smtp:a").open == 2);
    CHECK(two.opened("smtp:a").open == 3);
    CHECK(two.opened("submission:a").open == 1);
    one.channel.close();   // as after SIGKILL: not a word
    settle();
    const AnvilNumbers after = two.opened("smtp:a");
    CHECK(after.open == 2);
    CHECK(after.rate == 4);   // what happened has happened
}

TEST_CASE("what was not asked about is counted when the connection closes", "[anvil]") {
    anvil::Server server(kMinute);
    Fake one(server);
    one.opened("smtp:a");
    AnvilClosed closed;
    closed.client = "smtp:a";
    closed.message = 3;
    closed.recipient = 9;
    one.channel.post(std::move(closed));
    CHECK(one.look("smtp:a", ClientEvent::message).rate == 3);
    CHECK(one.look("smtp:a", ClientEvent::recipient).rate == 9);
    CHECK(one.look("smtp:a", ClientEvent::recipient).open == 0);
}

TEST_CASE("a process that talks nonsense is let go, with what it had open", "[anvil]") {
    anvil::Server server(kMinute);
    Fake good(server);
    CHECK(good.opened("smtp:a").open == 1);
    const LogCapture log;
    std::size_t complaints = 0;
    const auto nonsense = [&](auto message) {
        Fake bad(server);
        CHECK(bad.opened("smtp:a").open == 2);
        bad.channel.post(std::move(message));
        Result<FromAnvil> answer = Loop::current().run_until(bad.channel.receive(std::chrono::seconds(5)));
        CHECK_FALSE(answer);
        CHECK(log.count("client: ") == ++complaints);
        CHECK(good.look("smtp:a", ClientEvent::connection).open == 1);
    };
    AnvilClosed not_open;
    not_open.client = "smtp:b";
    nonsense(std::move(not_open));
    AnvilEvent no_event;
    no_event.client = "smtp:a";
    no_event.what = kClientEvents;
    nonsense(std::move(no_event));
    AnvilOpened no_name;
    nonsense(std::move(no_name));
    AnvilOpened long_name;
    long_name.client.assign(kMaxAnvilClientName + 1, 'x');
    nonsense(std::move(long_name));
    AnvilOpened longer_name;
    longer_name.client.assign(kMaxAnvilMessage, 'x');
    nonsense(std::move(longer_name));
    AnvilStillOpen too_many;
    too_many.client = "smtp:a";
    too_many.connections = UINT32_MAX;
    nonsense(std::move(too_many));
}

namespace {

/// A socket of anvil's in a directory of its own, served when told to.
struct Anvil {
    Anvil() {
        char name[] = "/tmp/postern-anvil-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        directory = name;
        path = directory + "/anvil";
    }
    ~Anvil() {
        stop();
        ::unlink(path.c_str());
        ::rmdir(directory.c_str());
    }
    void start() {
        server = std::make_unique<anvil::Server>(kMinute);
        listener = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.c_str(), path.size());
        ::unlink(path.c_str());
        REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener.get(), 10) == 0);
        events.open(listener.get());
        spawn(accept_all(*this));
    }
    void stop() {
        events.close();
        listener.reset();
        if (server) {
            server->close_all();
            settle();
        }
    }
    static Task<> accept_all(Anvil& self) {
        for (;;) {
            UniqueFd client(::accept4(self.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (client) {
                spawn(self.server->serve(std::move(client)));
                continue;
            }
            const Wake wake = co_await self.events.readable(kForever);
            if (wake == Wake::closed) {
                co_return;
            }
        }
    }
    std::string directory, path;
    std::unique_ptr<anvil::Server> server;
    UniqueFd listener;
    FdEvents events;
};

std::optional<ClientNumbers> opened(ClientCounts& counts, const std::string& client) {
    return Loop::current().run_until(counts.opened(client));
}

}  // namespace

TEST_CASE("two processes see each other's connections through anvil", "[anvil]") {
    Anvil anvil;
    anvil.start();
    AnvilClient one(anvil.path);
    auto two = std::make_unique<AnvilClient>(anvil.path);
    CHECK(opened(one, "smtp:a")->open == 1);
    CHECK(opened(*two, "smtp:a")->open == 2);
    one.closed("smtp:a", EventTally{0, 5, 0, 0, 0}, true);
    settle();
    const std::optional<ClientNumbers> messages = Loop::current().run_until(two->event("smtp:a", ClientEvent::message, 1));
    REQUIRE(messages);
    CHECK(messages->rate == 6);
    CHECK(messages->open == 1);
    two.reset();
    settle();
    CHECK(opened(one, "smtp:a")->open == 1);
}

TEST_CASE("a close that may wait goes along with the next question", "[anvil]") {
    Anvil anvil;
    anvil.start();
    AnvilClient one(anvil.path);
    CHECK(opened(one, "smtp:a")->open == 1);
    one.closed("smtp:a", {}, false);
    CHECK(opened(one, "smtp:a")->open == 1);
    one.closed("smtp:a", {}, false);
    Loop::current().run_until(sleep_for(Millis(150)));
    AnvilClient two(anvil.path);
    CHECK(opened(two, "smtp:a")->open == 1);
}

TEST_CASE("without anvil nobody is limited, and that is said once", "[anvil]") {
    Anvil anvil;
    const LogCapture log;
    AnvilClient client(anvil.path);
    CHECK_FALSE(opened(client, "smtp:a"));
    CHECK_FALSE(opened(client, "smtp:a"));
    CHECK_FALSE(Loop::current().run_until(client.event("smtp:a", ClientEvent::message, 1)));
    client.closed("smtp:a", {}, true);
    CHECK(log.lines().size() == 1);
    CHECK(log.count("problem talking to service " + anvil.path) == 1);
}

TEST_CASE("an anvil that is started again learns what is open", "[anvil]") {
    Anvil anvil;
    anvil.start();
    const LogCapture log;
    AnvilClient client(anvil.path);
    CHECK(opened(client, "smtp:a")->open == 1);
    CHECK(opened(client, "smtp:a")->open == 2);
    const std::unique_ptr<anvil::Server> old = std::move(anvil.server);
    anvil.server = std::make_unique<anvil::Server>(kMinute);
    old->close_all();   // the listener stays, as master's does
    settle();
    AnvilClient other(anvil.path);
    CHECK(opened(other, "smtp:a")->open == 3);
    CHECK(opened(client, "smtp:a")->open == 4);
    CHECK(log.lines().empty());
}
