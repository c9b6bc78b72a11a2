// lib/async: plain functions that wait while other coroutines go on.
#include <catch2/catch.hpp>

#include <string>
#include <thread>
#include <vector>

#include "lib/async/loop.h"
#include "lib/async/offload.h"
#include "lib/async/wait_here.h"

using namespace postern;

namespace {

using Events = std::vector<std::string>;

/// What a thread has allowed it keeps: each test has a thread, and so a loop, of its own.
template <class F>
void in_a_thread(F work) {
    std::thread thread(work);
    thread.join();
}

Task<int> answer_after(Notice& notice, int answer) {
    const Wake wake = co_await notice.wait(std::chrono::seconds(20));
    co_return wake == Wake::ready ? answer : -1;
}

Task<int> answer_at_once() { co_return 7; }

/// A plain function, with something on its stack below the wait.
int plain(Notice& notice, int depth) {
    const std::string kept(100, static_cast<char>('a' + depth % 26));
    const int below = depth == 0 ? wait_here(answer_after(notice, 1)) : plain(notice, depth - 1);
    return kept == std::string(100, static_cast<char>('a' + depth % 26)) ? below + 1 : -1000;
}

Task<> asks(Notice& notice, Events& events, std::string name, int depth) {
    events.push_back(name + " asks");
    const int got = plain(notice, depth);
    events.push_back(name + " has " + std::to_string(got));
    co_return;
}

Task<> three_sessions(Notice& first, Notice& second, Events& events) {
    spawn(asks(first, events, "a", 5));
    spawn(asks(second, events, "b", 2));
    events.emplace_back("spawned");
    CHECK(stacks_set_aside() == 2);
    co_await yield_to_others();
    events.emplace_back("others go on");
    second.notify_all();
    co_await yield_to_others();
    first.notify_all();
    co_await yield_to_others();
    CHECK(stacks_set_aside() == 0);
}

/// Counts down in nested coroutines, and waits at the bottom.
Task<int> nested(Notice& notice, int depth) {
    if (depth == 0) {
        co_return plain(notice, 3);
    }
    const int below = co_await nested(notice, depth - 1);
    co_return below + 1;
}

Task<> keep_result(Notice& notice, int& result) {
    result = co_await nested(notice, 50);
}

Task<> many_at_once(int& finished) {
    Notice notice;
    std::vector<int> results(300, 0);
    for (int& result : results) {
        spawn(keep_result(notice, result));
    }
    CHECK(stacks_set_aside() == 300);
    notice.notify_all();
    co_await yield_to_others();
    for (const int result : results) {
        finished += result == 55 ? 1 : 0;
    }
}

Task<> offloads(std::vector<int>& results) {
    auto work = [] { return 42; };
    results.push_back(wait_here(offload(work)));
    results.push_back(wait_here(answer_at_once()));
    co_return;
}

Task<> wait_in_a_timer(Events& events) {
    Notice rung;
    Notice wanted;
    Loop::current().every(Millis(1), [&] {
        if (events.empty()) {
            events.emplace_back("rings");
            events.push_back(std::to_string(wait_here(answer_after(wanted, 3))));
            rung.notify_all();
        }
    });
    while (events.empty()) {
        co_await sleep_for(Millis(1));
    }
    events.emplace_back("meanwhile");
    wanted.notify_all();
    co_await rung.wait(std::chrono::seconds(20));
}

}  // namespace

TEST_CASE("a thread that has not allowed it cannot wait", "[async]") {
    in_a_thread([] {
        CHECK_FALSE(can_wait_here());
        bool could = true;
        call_aside([&could] { could = can_wait_here(); });
        CHECK_FALSE(could);
        allow_waiting_here();
        CHECK_FALSE(can_wait_here());   // the thread's own stack cannot be set aside
        call_aside([&could] { could = can_wait_here(); });
        CHECK(could);
    });
}

TEST_CASE("plain functions wait, while who spawned them and others go on", "[async]") {
    in_a_thread([] {
        allow_waiting_here();
        Events events;
        Notice first, second;
        Loop::current().run_until(three_sessions(first, second, events));
        CHECK(events == Events{"a asks", "b asks", "spawned", "others go on", "b has 4", "a has 7"});
    });
}

TEST_CASE("hundreds of stacks wait at the same time and all come back", "[async]") {
    in_a_thread([] {
        allow_waiting_here();
        for (int round = 0; round < 3; ++round) {
            int finished = 0;
            Loop::current().run_until(many_at_once(finished));
            CHECK(finished == 300);
            CHECK(stacks_set_aside() == 0);
        }
    });
}

TEST_CASE("threads of the pool, and what has ended already, can be waited for", "[async]") {
    in_a_thread([] {
        allow_waiting_here();
        std::vector<int> results;
        Loop::current().run_until(offloads(results));
        CHECK(results == std::vector<int>{42, 7});
    });
}

TEST_CASE("a callback of a timer can wait", "[async]") {
    in_a_thread([] {
        allow_waiting_here();
        Events events;
        Loop::current().run_until(wait_in_a_timer(events));
        CHECK(events == Events{"rings", "meanwhile", "3"});
    });
}
