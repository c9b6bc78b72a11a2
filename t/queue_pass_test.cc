// lib/queue/pass: recipients are handed to another agent, and each comes back with one fate whatever that agent does.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "lib/async/loop.h"
#include "lib/queue/pass.h"
#include "lib/queue/requests.h"

using namespace postern;

namespace {

/// What the agent behind private/other does with its one request.
enum class Manner { answers_all, answers_one, hangs_up, is_not_ready, is_unavailable, speaks_for_others };

struct World {
    World() {
        std::string name = "/tmp/postern-pass-XXXXXX";
        directory = ::mkdtemp(name.data());
        before = ::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        REQUIRE(::chdir(directory.c_str()) == 0);
        REQUIRE(::mkdir("private", 0700) == 0);
    }
    ~World() {
        CHECK(::fchdir(before) == 0);
        ::close(before);
        std::filesystem::remove_all(directory);
    }
    void listen() {
        listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::string("private/other").copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener.get(), 5) == 0);
    }
    static queue::RecipientDone done(std::uint32_t index) {
        queue::RecipientDone out;
        out.index = index;
        out.outcome = queue::kDelivered;
        out.dsn = "2.0.0";
        out.reason = "for " + std::to_string(index);
        return out;
    }
    static Task<> serve(World& self, Manner manner) {
        FdEvents events;
        events.open(self.listener.get());
        UniqueFd client;
        while (!client) {
            client.reset(::accept4(self.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!client) {
                co_await events.readable(kForever);
            }
        }
        if (manner == Manner::is_not_ready) {
            co_return;
        }
        queue::Requests requests(std::move(client));
        std::optional<queue::Deliver> request = co_await requests.next();
        if (!request || manner == Manner::hangs_up) {
            co_return;
        }
        self.transport = request->transport;
        self.nexthop = request->nexthop;
        if (manner == Manner::is_unavailable) {
            queue::Unavailable unavailable;
            unavailable.reason = "no time";
            requests.post(std::move(unavailable));
        } else if (manner == Manner::speaks_for_others) {
            requests.post(done(99));
            requests.post(done(98));
        } else {
            requests.post(done(7));
            if (manner == Manner::answers_all) {
                requests.post(done(3));
            }
        }
        co_await requests.flush();
    }
    /// "3: 2.0.0 for 3 logged; 7: ..."
    std::string pass(const std::string& destination) {
        queue::Deliver request;
        request.queue_id = "4A1B";
        request.nexthop = "site.example";
        request.message.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        queue::Deliver copy = queue::copy_for_agent(request);
        CHECK(copy.message.get() != request.message.get());
        for (const std::uint32_t index : {3U, 7U}) {
            queue::DeliverTo to;
            to.recipient.address = "a@site.example";
            to.index = index;
            copy.recipients.push_back(std::move(to));
        }
        const std::vector<queue::PassedOn> passed = Loop::current().run_until(queue::pass_on(std::move(copy), destination));
        std::string out;
        for (const queue::PassedOn& one : passed) {
            out += (out.empty() ? "" : "; ") + std::to_string(one.done.index) + ": " + one.done.dsn + " " + one.done.reason + (one.logged ? " logged" : "");
            CHECK(one.done.outcome == (one.logged ? queue::kDelivered : queue::kDeferred));
        }
        return out;
    }
    std::string with(Manner manner, const std::string& destination = "other") {
        listen();
        spawn(serve(*this, manner));
        std::string out = pass(destination);
        ::unlink("private/other");
        return out;
    }

    std::string directory, transport, nexthop;
    int before = -1;
    UniqueFd listener;
};

}  // namespace

TEST_CASE("each recipient that is passed on has one fate", "[queue]") {
    World world;
    CHECK(world.with(Manner::answers_all) == "3: 2.0.0 for 3 logged; 7: 2.0.0 for 7 logged");
    CHECK(world.transport == "other");
    CHECK(world.nexthop == "site.example");
    CHECK(world.with(Manner::answers_all, "other:elsewhere:25") == "3: 2.0.0 for 3 logged; 7: 2.0.0 for 7 logged");
    CHECK(world.nexthop == "elsewhere:25");
    CHECK(world.with(Manner::answers_all, "other:") == "3: 2.0.0 for 3 logged; 7: 2.0.0 for 7 logged");
    CHECK(world.nexthop == "site.example");
}

TEST_CASE("an agent that does not do its work leaves recipients deferred", "[queue]") {
    World world;
    CHECK(world.pass("other").substr(0, 46) == "3: 4.3.0 mail transport other is not available");
    const std::string lost = "4.3.0 mail transport other: ";
    CHECK(world.with(Manner::answers_one).substr(0, 3 + lost.size()) == "3: " + lost);
    CHECK(world.with(Manner::answers_one).find("; 7: 2.0.0 for 7 logged") != std::string::npos);
    CHECK(world.with(Manner::hangs_up).substr(0, 3 + lost.size()) == "3: " + lost);
    CHECK(world.with(Manner::is_not_ready).substr(0, 3 + lost.size()) == "3: " + lost);
    CHECK(world.with(Manner::is_unavailable) == "3: 4.3.0 no time; 7: 4.3.0 no time");
    CHECK(world.with(Manner::speaks_for_others) == "3: " + lost + "no answer; 7: " + lost + "no answer");
}
