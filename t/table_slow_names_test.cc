// A table server whose name is found late, or never: this program's name service is below.
#include <catch2/catch.hpp>

#include <netdb.h>
#include <netinet/in.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>

#include "lib/async/loop.h"
#include "lib/async/wait_here.h"
#include "lib/table/blocking_socket.h"

using namespace postern;

namespace {

/// Searches answer when the test opens the gate.
std::mutex gate_lock;
std::condition_variable gate_news;
bool gate_is_open = false;
std::atomic<int> begun{0};

void set_gate(bool open) {
    const std::lock_guard<std::mutex> lock(gate_lock);
    gate_is_open = open;
    gate_news.notify_all();
}

}  // namespace

extern "C" int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo** list) {
    ++begun;
    std::unique_lock<std::mutex> lock(gate_lock);
    gate_news.wait(lock, [] { return gate_is_open; });
    *list = nullptr;
    return EAI_AGAIN;
}

namespace {

struct Outcome {
    std::string text;
    Errc code = Errc::io;
    bool done = false;
};

Task<> connect_later(Outcome& outcome, std::string host, int seconds) {
    BlockingSocket socket;
    socket.set_deadline(seconds);
    const Result<void> connected = socket.connect_tcp(host, "1");
    outcome.text = connected ? "connected" : connected.error().what;
    outcome.code = connected ? Errc::io : connected.error().code;
    outcome.done = true;
    co_return;
}

/// Until the condition holds, which others bring about.
template <class Condition>
Task<bool> become(Condition condition) {
    for (int i = 0; i < 3000 && !condition(); ++i) {
        co_await sleep_for(Millis(10));
    }
    co_return condition();
}

}  // namespace

TEST_CASE("the search for a server's addresses ends with the lookup's time, and others go on", "[table]") {
    allow_waiting_here();
    set_gate(false);
    begun = 0;
    Outcome hasty, patient, late, elsewhere;
    spawn(connect_later(hasty, "slow.example", 1));
    spawn(connect_later(patient, "slow.example", 100));
    const auto hasty_is_done = [&hasty] { return hasty.done; };
    REQUIRE(Loop::current().run_until(become(hasty_is_done)));   // the loop has gone on meanwhile
    CHECK(hasty.text == "connect slow.example:1: no address found in time");
    CHECK(hasty.code == Errc::timeout);
    CHECK_FALSE(patient.done);
    spawn(connect_later(late, "slow.example", 0));
    CHECK(late.code == Errc::timeout);
    CHECK(begun == 1);   // one thread for one name
    spawn(connect_later(elsewhere, "other.example", 100));
    const auto both = [] { return begun == 2; };
    CHECK(Loop::current().run_until(become(both)));
    set_gate(true);
    const auto all = [&] { return patient.done && elsewhere.done; };
    REQUIRE(Loop::current().run_until(become(all)));
    CHECK(patient.text == std::string("connect slow.example:1: ") + gai_strerror(EAI_AGAIN));
    CHECK(patient.code == Errc::temporary);
    Outcome again;
    spawn(connect_later(again, "slow.example", 100));   // a search that has ended is not asked again
    const auto again_is_done = [&again] { return again.done; };
    REQUIRE(Loop::current().run_until(become(again_is_done)));
    CHECK(begun == 3);
}
