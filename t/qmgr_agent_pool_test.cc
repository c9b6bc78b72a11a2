// Connections to delivery agents: requests wait for an agent that is ready, whatever the agents let in at a time.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "lib/log/capture.h"
#include "lib/queue/requests.h"
#include "qmgr/agent_pool.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

struct Ended final : AgentEvents {
    void answered(std::uint64_t batch, std::vector<queue::RecipientDone> answers) override {
        for (const queue::RecipientDone& answer : answers) {
            fates[batch] = answer.dsn;
        }
    }
    void ended(std::uint64_t batch, BatchEnd end) override {
        order.push_back(batch);
        ends[batch] = std::move(end);
    }
    std::map<std::uint64_t, std::string> fates;
    std::map<std::uint64_t, BatchEnd> ends;
    std::vector<std::uint64_t> order;
};

/// An agent behind private/test, which takes `places` connections at a time and needs 5 ms for a request.
class Agent {
public:
    explicit Agent(std::size_t places) : places_(places) {
        listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::string("private/test").copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener_.get(), 100) == 0);
        events_.open(listener_.get());
        spawn(accept(*this));
    }
    std::size_t most = 0, served = 0, connections = 0;
    std::size_t hang_up = 0;      ///< so many connections, before anything is said
    bool dies = false;            ///< with the first request

private:
    static Task<> accept(Agent& self) {
        for (;;) {
            co_await self.places_.acquire();
            UniqueFd client(::accept4(self.listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!client) {
                self.places_.release();
                const Wake wake = co_await self.events_.readable(kForever);
                if (wake != Wake::ready) {
                    co_return;
                }
                continue;
            }
            if (self.hang_up > 0) {
                --self.hang_up;
                self.places_.release();
                continue;
            }
            ++self.connections;
            spawn(serve(self, std::move(client)));
        }
    }
    static Task<> serve(Agent& self, UniqueFd socket) {
        queue::Requests requests(std::move(socket));
        self.most = std::max(self.most, ++self.open_);
        for (;;) {
            std::optional<queue::Deliver> request = co_await requests.next();
            if (!request || self.dies) {
                break;
            }
            co_await sleep_for(Millis(5));
            ++self.served;
            queue::RecipientDone done;
            done.outcome = queue::kDelivered;
            done.dsn = "2.0.0";
            requests.post(std::move(done));
            co_await requests.flush();
        }
        --self.open_;
        self.places_.release();
    }
    UniqueFd listener_;
    FdEvents events_;
    Semaphore places_;
    std::size_t open_ = 0;
};

struct World {
    World() {
        std::string name = "/tmp/postern-agents-XXXXXX";
        directory = ::mkdtemp(name.data());
        REQUIRE(::chdir(directory.c_str()) == 0);
        REQUIRE(::mkdir("private", 0700) == 0);
        pool.set_events(ended);
    }
    ~World() {
        pool.keep_none();
        wait(Millis(50));   // conversations end before what they refer to
        agent.reset();
        wait(Millis(1));
        REQUIRE(::chdir(before.c_str()) == 0);
        std::filesystem::remove_all(directory);
    }
    void deliver(std::uint64_t batch) {
        queue::Deliver request;
        request.transport = "test";
        request.message.reset(::dup(2));
        request.recipients.resize(1);
        pool.deliver(batch, std::move(request));
    }
    static void wait(Millis time) { Loop::current().run_until(sleep_for(time)); }
    /// Until so many batches have ended, for a second at most.
    bool has_ended(std::size_t count) {
        for (int i = 0; i < 100 && ended.order.size() < count; ++i) {
            wait(Millis(10));
        }
        return ended.order.size() == count;
    }

    std::string before = std::filesystem::current_path();
    std::string directory;
    LogCapture log;
    Config config = Config::defaults();
    Ended ended;
    AgentPool pool{config};
    std::unique_ptr<Agent> agent;
};

}  // namespace

TEST_CASE("more deliveries than agents take at once wait for their turn, and the first are first", "[qmgr]") {
    World world;
    world.agent = std::make_unique<Agent>(2);
    for (std::uint64_t batch = 1; batch <= 40; ++batch) {
        world.deliver(batch);
    }
    REQUIRE(world.has_ended(40));   // far below ipc_idle: no connection of ours was in the way
    CHECK(world.agent->most == 2);
    CHECK(world.agent->served == 40);
    CHECK(world.agent->connections == 2);
    CHECK(std::is_sorted(world.ended.order.begin(), world.ended.order.end()));
    for (const auto& [batch, end] : world.ended.ends) {
        CHECK(end.kind == BatchEnd::Kind::complete);
        CHECK(world.ended.fates[batch] == "2.0.0");
    }
}

TEST_CASE("a connection is used again", "[qmgr]") {
    World world;
    world.agent = std::make_unique<Agent>(50);
    for (std::uint64_t batch = 1; batch <= 5; ++batch) {
        world.deliver(batch);
        REQUIRE(world.has_ended(batch));
    }
    CHECK(world.agent->connections == 1);
}

TEST_CASE("agents that let many in serve many at once", "[qmgr]") {
    World world;
    world.agent = std::make_unique<Agent>(50);
    for (std::uint64_t batch = 1; batch <= 30; ++batch) {
        world.deliver(batch);
    }
    REQUIRE(world.has_ended(30));
    CHECK(world.agent->most >= 10);
}

TEST_CASE("a transport that nobody serves fails at once, for all who wait, with one warning", "[qmgr]") {
    World world;
    for (std::uint64_t batch = 1; batch <= 3; ++batch) {
        world.deliver(batch);
    }
    REQUIRE(world.has_ended(3));
    for (const auto& [batch, end] : world.ended.ends) {
        CHECK(end.kind == BatchEnd::Kind::transport_dead);
        CHECK(end.reason == "mail transport unavailable");
    }
    CHECK(world.log.lines().size() == 1);
}

TEST_CASE("an agent that ends before it has said anything has a successor", "[qmgr]") {
    World world;
    world.agent = std::make_unique<Agent>(1);
    SECTION("soon") {
        world.agent->hang_up = 3;
        world.deliver(1);
        REQUIRE(world.has_ended(1));
        CHECK(world.ended.ends[1].kind == BatchEnd::Kind::complete);
    }
    SECTION("never") {
        world.agent->hang_up = 1000;
        world.deliver(1);
        REQUIRE(world.has_ended(1));
        CHECK(world.ended.ends[1].kind == BatchEnd::Kind::transport_dead);
    }
}

TEST_CASE("who waits is served though an agent dies", "[qmgr]") {
    World world;
    world.agent = std::make_unique<Agent>(1);
    world.agent->dies = true;
    world.deliver(1);
    REQUIRE(world.has_ended(1));
    CHECK(world.ended.ends[1].kind == BatchEnd::Kind::lost);
    world.deliver(2);
    world.deliver(3);
    REQUIRE(world.has_ended(3));
    CHECK(world.ended.ends[3].kind == BatchEnd::Kind::lost);
    world.agent->dies = false;
    world.deliver(4);
    REQUIRE(world.has_ended(4));
    CHECK(world.ended.ends[4].kind == BatchEnd::Kind::complete);
}

TEST_CASE("after keep_none() those who wait are served all the same", "[qmgr]") {
    World world;
    world.agent = std::make_unique<Agent>(1);
    for (std::uint64_t batch = 1; batch <= 5; ++batch) {
        world.deliver(batch);
    }
    world.pool.keep_none();
    REQUIRE(world.has_ended(5));
    CHECK(world.ended.ends[5].kind == BatchEnd::Kind::complete);
}
