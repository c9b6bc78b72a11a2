#include <catch2/catch.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <thread>

#include "lib/async/loop.h"
#include "lib/async/offload.h"
#include "lib/base/unique_fd.h"

using namespace postern;

namespace {

Task<int> immediately(int value) { co_return value; }

Task<int> sum_of_many(int count) {
    int sum = 0;
    for (int i = 0; i < count; ++i) {
        const int one = co_await immediately(1);
        sum += one;
    }
    co_return sum;
}

Task<int> after(Millis delay, int value) {
    co_await sleep_for(delay);
    co_return value;
}

Task<int> nested(int depth) {
    if (depth == 0) {
        const int value = co_await after(Millis(1), 1);
        co_return value;
    }
    const int below = co_await nested(depth - 1);
    co_return below + 1;
}

Task<> note_when(Notice& notice, std::vector<int>& order, int id) {
    co_await notice.wait(kForever);
    order.push_back(id);
}

struct Pair {
    UniqueFd a, b;
    Pair() {
        int fds[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
        a.reset(fds[0]);
        b.reset(fds[1]);
    }
};

Task<Wake> wait_for(FdEvents& events, Millis timeout) {
    const Wake wake = co_await events.readable(timeout);
    co_return wake;
}

}  // namespace

TEST_CASE("a loop over operations that end at once uses no stack", "[async]") {
    CHECK(Loop::current().run_until(sum_of_many(1000000)) == 1000000);
}

TEST_CASE("values come back through many awaiting coroutines", "[async]") {
    CHECK(Loop::current().run_until(nested(1000)) == 1001);
}

TEST_CASE("a notice wakes every waiter in order", "[async]") {
    Notice notice;
    std::vector<int> order;
    spawn(note_when(notice, order, 1));
    spawn(note_when(notice, order, 2));
    spawn(note_when(notice, order, 3));
    notice.notify_one();
    Loop::current().run_ready();
    CHECK(order == std::vector<int>{1});
    notice.notify_all();
    Loop::current().run_ready();
    CHECK(order == std::vector<int>{1, 2, 3});
    CHECK_FALSE(notice.has_waiters());
}

TEST_CASE("a descriptor that becomes readable wakes its reader; the deadline does otherwise", "[async]") {
    Pair pair;
    FdEvents events;
    events.open(pair.a.get());
    CHECK(Loop::current().run_until(wait_for(events, Millis(5))) == Wake::timed_out);
    REQUIRE(::write(pair.b.get(), "x", 1) == 1);
    CHECK(Loop::current().run_until(wait_for(events, Millis(2000))) == Wake::ready);
    char byte = 0;
    REQUIRE(::read(pair.a.get(), &byte, 1) == 1);
    CHECK(Loop::current().run_until(wait_for(events, Millis(5))) == Wake::timed_out);
}

TEST_CASE("closing and interrupting end a wait", "[async]") {
    Pair pair;
    FdEvents events;
    events.open(pair.a.get());
    events.interrupt();
    CHECK(Loop::current().run_until(wait_for(events, Millis(2000))) == Wake::interrupted);
    Timer timer;
    timer.start(Millis(1), [](void* self) { static_cast<FdEvents*>(self)->interrupt(); }, &events);
    CHECK(Loop::current().run_until(wait_for(events, Millis(2000))) == Wake::interrupted);
    timer.start(Millis(1), [](void* self) { static_cast<FdEvents*>(self)->close(); }, &events);
    CHECK(Loop::current().run_until(wait_for(events, Millis(2000))) == Wake::closed);
}

TEST_CASE("what was waited for may be gone before the waiter runs", "[async]") {
    Pair pair;
    auto events = std::make_unique<FdEvents>();
    events->open(pair.a.get());
    Timer timer;
    timer.start(Millis(1), [](void* self) { static_cast<std::unique_ptr<FdEvents>*>(self)->reset(); }, &events);
    CHECK(Loop::current().run_until(wait_for(*events, Millis(2000))) == Wake::closed);
    CHECK(events == nullptr);
}

namespace {

Task<> offload_one(int value, int& sum, int& done, std::thread::id main_thread, bool& right_threads) {
    auto work = [value, main_thread] {
        ::usleep(1000);
        return std::this_thread::get_id() != main_thread ? value : -1;
    };
    const int result = co_await offload(std::move(work));
    right_threads = right_threads && result == value && std::this_thread::get_id() == main_thread;
    sum += result;
    ++done;
    if (done == 200) {
        Loop::current().stop();
    }
}

}  // namespace

TEST_CASE("offloaded work runs on other threads, and its caller on the loop's", "[async]") {
    int sum = 0;
    int done = 0;
    bool right_threads = true;
    for (int i = 1; i <= 200; ++i) {
        spawn(offload_one(i, sum, done, std::this_thread::get_id(), right_threads));
    }
    Loop::current().run();
    CHECK(done == 200);
    CHECK(sum == 200 * 201 / 2);
    CHECK(right_threads);
}

namespace {

Task<> hold(Semaphore& semaphore, int& inside, int& most, int& done) {
    co_await semaphore.acquire();
    ++inside;
    most = std::max(most, inside);
    co_await sleep_for(Millis(1));
    --inside;
    ++done;
    semaphore.release();
    if (done == 20) {
        Loop::current().stop();
    }
}

}  // namespace

TEST_CASE("a semaphore bounds what runs at the same time", "[async]") {
    Semaphore semaphore(3);
    int inside = 0;
    int most = 0;
    int done = 0;
    for (int i = 0; i < 20; ++i) {
        spawn(hold(semaphore, inside, most, done));
    }
    Loop::current().run();
    CHECK(done == 20);
    CHECK(most == 3);
}

TEST_CASE("signals reach their handler on the loop", "[async]") {
    bool seen = false;
    Loop::current().on_signal(SIGUSR1, [&seen] {
        seen = true;
        Loop::current().stop();
    });
    ::kill(::getpid(), SIGUSR1);
    Loop::current().run();
    CHECK(seen);
}

// --- the coroutine forms that CONTRIBUTING.md allows must be compiled rightly ---------------------------------

namespace {

struct Tracked {
    static int alive;
    std::string text;
    explicit Tracked(std::string t) : text(std::move(t)) { ++alive; }
    Tracked(Tracked&& other) noexcept : text(std::move(other.text)) { ++alive; }
    Tracked(const Tracked&) = delete;
    ~Tracked() { --alive; }
};
int Tracked::alive = 0;

struct Aggregate {
    std::string name;
    int number = 0;
};

Task<std::string> send(Tracked message) {
    co_await yield_to_others();
    co_return message.text;
}
Task<int> status(int value) {
    co_await yield_to_others();
    co_return value;
}
Task<std::string> name_of(Aggregate query) {
    co_await yield_to_others();
    co_return query.name;
}

Task<bool> is_whole(std::shared_ptr<std::string> text) {
    co_await yield_to_others();
    co_return *text == "shared by all rounds";
}
/// A loop hands on a parameter, not a variable.
Task<int> whole_rounds(std::shared_ptr<std::string> text) {
    int rounds = 0;
    for (int i = 0; i < 3; ++i) {
        const bool whole = co_await is_whole(text);
        rounds += whole ? 1 : 0;
    }
    co_return rounds;
}
/// Or each round is a coroutine of its own.
Task<bool> one_round(std::shared_ptr<std::string> from) {
    const std::shared_ptr<std::string> text = from;
    const bool whole = co_await is_whole(text);
    co_return whole && text.use_count() >= 2;
}

Task<int> allowed_forms(std::string& log) {
    Tracked message("hello, this is a string that does not fit in place");
    const std::string sent = co_await send(std::move(message));
    log += sent;
    if (const int code = co_await status(250); code >= 400) {
        co_return code;
    }
    Aggregate query{.name = "a name that is long enough to be on the heap", .number = 1};
    const std::string name = co_await name_of(std::move(query));
    log += name;
    auto lambda = [name] { return static_cast<int>(name.size()); };
    const int size = co_await offload(std::move(lambda));
    log += std::to_string(size);
    bool again = true;
    while (again) {
        const int value = co_await status(1);
        again = value != 1;
    }
    const auto text = std::make_shared<std::string>("shared by all rounds");
    const int rounds = co_await whole_rounds(text);
    log += std::to_string(rounds);
    const bool alone = co_await one_round(text);
    log += alone && text.use_count() == 1 ? "!" : "?";
    co_return co_await status(42);
}

}  // namespace

TEST_CASE("the allowed coroutine forms do what they say with this compiler", "[async]") {
    std::string log;
    CHECK(Loop::current().run_until(allowed_forms(log)) == 42);
    CHECK(log == "hello, this is a string that does not fit in placea name that is long enough to be on the heap443!");
    CHECK(Tracked::alive == 0);
}

namespace {

int g_kept = 0;
void forget() { g_kept = 0; }

}  // namespace

TEST_CASE("what work keeps on its thread is there for its like, and gone before other work", "[async]") {
    set_offload_threads(1);
    const auto run = [](auto task) { return Loop::current().run_until(std::move(task)); };
    std::thread([&] {   // a pool of its own
        auto keep = [] {
            keep_on_thread(&forget);
            return ++g_kept;
        };
        auto look = [] { return g_kept; };
        CHECK(run(offload_keeping(keep)) == 1);
        CHECK(run(offload_keeping(keep)) == 2);
        CHECK(run(offload(look)) == 0);
        CHECK(run(offload_keeping(keep)) == 1);
    }).join();
    set_offload_threads(32);
}

TEST_CASE("where the system gives no thread, offloaded work is done all the same", "[async]") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        // In a thread of its own, which has a loop and a pool of its own.
        std::thread([] {
            const rlimit none{1, 1};
            if ((::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) || ::setrlimit(RLIMIT_NPROC, &none) != 0) {
                ::_exit(2);
            }
            const int first = Loop::current().run_until(offload([] { return 40; }));
            const int second = Loop::current().run_until(offload([] { return 2; }));
            ::_exit(first + second == 42 ? 0 : 3);
        }).join();
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}
