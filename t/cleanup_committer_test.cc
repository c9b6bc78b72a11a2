// Messages that come together share a flush; whatever fails, what was said to be durable is.
#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cleanup/committer.h"
#include "lib/async/loop.h"
#include "lib/queue/log_marks.h"
#include "lib/queue/log_recovery.h"

using namespace postern;
using namespace postern::queue;

namespace {

/// Counts flushes of files and of logs, which take their time; the latter can fail.
struct SlowIo : FileIo {
    std::atomic<int> files{0}, logs{0}, file_systems{0};
    std::atomic<bool> logs_fail{false}, files_fail{false}, file_systems_fail{false};
    int fsync(int) override {
        ++files;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        errno = EIO;
        return files_fail ? -1 : 0;
    }
    int fdatasync(int) override {
        ++logs;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        errno = EIO;
        return logs_fail ? -1 : 0;
    }
    int syncfs(int) override {
        ++file_systems;
        errno = EIO;
        return file_systems_fail ? -1 : 0;
    }
};

struct World {
    std::string path;
    SlowIo io;
    LogOptions options;
    std::unique_ptr<cleanup::Committer> committer;

    std::optional<Transit> transit;
    std::string memory;

    explicit World(std::uint64_t ring_size, bool has_transit) {
        char name[] = "/tmp/committer_test.XXXXXX";
        path = ::mkdtemp(name);
        for (const char* directory : {"incoming", "active", "deferred", "hold", "maildrop", "commit"}) {
            ::mkdir((path + "/" + directory).c_str(), 0700);
        }
        options.queue_directory = path;
        options.ring_size = ring_size;
        options.life = "this life";
        options.io = &io;
        if (has_transit) {
            char memory_name[] = "/dev/shm/committer_test.XXXXXX";
            memory = ::mkdtemp(memory_name);
            (void)!::symlink(memory.c_str(), (path + "/transit").c_str());
            transit = Transit::open(path, path);
            options.transit = &*transit;
        }
        committer = std::make_unique<cleanup::Committer>(options);
    }

    std::unique_ptr<QueueFileWriter> writer(const std::string& body) {
        WriterOptions file;
        file.queue_directory = path;
        file.io = &io;
        file.in_memory = committer->takes_memory();
        Result<std::unique_ptr<QueueFileWriter>> made = QueueFileWriter::create(file);
        REQUIRE(made.ok());
        REQUIRE((*made)->body(body).ok());
        REQUIRE((*made)->envelope(Envelope()).ok());
        return std::move(*made);
    }
    bool exists(const std::string& id) const { return ::access((path + "/incoming/" + id).c_str(), F_OK) == 0; }
};

/// A committer lives as long as its process: its log is looked after even when nobody waits.
World& new_world(std::uint64_t ring_size = kMinLogRing, bool has_transit = false) {
    struct Worlds {
        std::vector<World*> all;   // never destroyed: the loop has gone before
        ~Worlds() {
            for (const World* const world : all) {
                (void)!std::system(("rm -rf " + world->path + " " + world->memory).c_str());
            }
        }
    };
    static Worlds worlds;
    static auto* const kept = new std::vector<std::unique_ptr<World>>;
    kept->push_back(std::make_unique<World>(ring_size, has_transit));
    worlds.all.push_back(kept->back().get());
    return *kept->back();
}

struct Outcome {
    std::string id;
    bool ok = false;
    LogPlace place;
};

Task<> commit_one(World& world, std::string body, std::vector<Outcome>& outcomes) {
    Outcome outcome;
    const std::unique_ptr<QueueFileWriter> writer = world.writer(body);
    outcome.id = writer->queue_id();
    Result<LogPlace> place = co_await world.committer->commit(*writer);
    outcome.ok = place.ok();
    if (place) {
        outcome.place = *place;
    }
    outcomes.push_back(outcome);
}

/// `count` at the same time.
Task<std::vector<Outcome>> commit_many(World& world, std::size_t count, std::string body) {
    std::vector<Outcome> outcomes;
    for (std::size_t i = 0; i < count; ++i) {
        spawn(commit_one(world, body, outcomes));
    }
    while (outcomes.size() < count) {
        co_await sleep_for(Millis(1));
    }
    co_return outcomes;
}

std::vector<Outcome> run(World& world, std::size_t count, const std::string& body = "\nbody\n") {
    return Loop::current().run_until(commit_many(world, count, body));
}

/// Until the process has its log.
void have_log(World& world) {
    for (int tries = 0; tries < 1000; ++tries) {
        if (run(world, 2).front().place) {
            return;
        }
    }
    FAIL("no log was claimed");
}

}  // namespace

TEST_CASE("one message at a time is flushed by itself, and makes no log", "[cleanup]") {
    World& world = new_world();
    for (int i = 0; i < 5; ++i) {
        const std::vector<Outcome> one = run(world, 1);
        CHECK((one.front().ok && !one.front().place && world.exists(one.front().id)));
    }
    CHECK(world.io.files == 5);
    CHECK(::access((world.path + "/commit/" + log_name(kMinLogRing, 0)).c_str(), F_OK) != 0);
}

TEST_CASE("messages that meet share flushes", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    const int before = world.io.logs, files_before = world.io.files;
    const std::vector<Outcome> all = run(world, 100);
    for (const Outcome& one : all) {
        CHECK((one.ok && one.place && world.exists(one.id)));
    }
    CHECK(world.io.files == files_before);
    CHECK(world.io.logs - before <= 20);   // two batches, and the marks'
}

namespace {

Task<> send_many(World& world, int count, std::vector<Outcome>& outcomes) {
    for (int i = 0; i < count; ++i) {
        co_await commit_one(world, "\n" + std::string(3000, 'x') + "\n", outcomes);
    }
}

Task<std::vector<Outcome>> keep_sending(World& world, std::size_t senders, int count) {
    std::vector<Outcome> outcomes;
    for (std::size_t i = 0; i < senders; ++i) {
        spawn(send_many(world, count, outcomes));
    }
    while (outcomes.size() < senders * static_cast<std::size_t>(count)) {
        co_await sleep_for(Millis(1));
    }
    co_return outcomes;
}

}  // namespace

TEST_CASE("a log is kept tidy while more wait than one flush takes", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    std::size_t logged = 0;
    const std::vector<Outcome> all = Loop::current().run_until(keep_sending(world, 150, 30));   // seventeen megabytes for a log of one
    for (const Outcome& one : all) {
        logged += one.place ? 1 : 0;
        CHECK(one.ok);
    }
    CHECK(logged > all.size() / 2);
}

TEST_CASE("at the end the log is free, and nothing in it counts", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    const std::vector<Outcome> some = run(world, 5);
    world.committer->close();
    REQUIRE(::unlink((world.path + "/incoming/" + some[0].id).c_str()) == 0);
    LogOptions later = world.options;
    later.life = "another";
    CHECK(replay_logs(later).put_back == 0);
}

TEST_CASE("a file system that cannot be flushed keeps its log", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    world.io.file_systems_fail = true;
    const std::vector<Outcome> some = run(world, 3);
    const auto failed = [](World& w) -> Task<bool> {
        for (int tries = 0; tries < 2000 && w.io.file_systems == 0; ++tries) {
            co_await sleep_for(Millis(10));
        }
        co_await sleep_for(Millis(50));
        co_return w.io.file_systems > 0;
    };
    CHECK(Loop::current().run_until(failed(world)));
    world.io.file_systems_fail = false;
    CHECK_FALSE(run(world, 3).front().place);
    world.committer->close();
    CHECK(read_places(world.options).size() >= some.size());
}

TEST_CASE("what does not fit is flushed by itself", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    const std::vector<Outcome> long_one = run(world, 1, "\n" + std::string(300'000, 'x') + "\n");
    CHECK((long_one.front().ok && !long_one.front().place));
    const std::vector<Outcome> many = run(world, 40, "\n" + std::string(100'000, 'x') + "\n");   // four megabytes for a log of one
    std::size_t logged = 0;
    for (const Outcome& one : many) {
        CHECK((one.ok && world.exists(one.id)));
        logged += one.place ? 1 : 0;
    }
    CHECK((logged > 0 && logged < many.size()));
}

TEST_CASE("a log that fails is left, and its messages are flushed by themselves", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    world.io.logs_fail = true;
    const int before = world.io.files;
    for (const Outcome& one : run(world, 10)) {
        CHECK((one.ok && !one.place && world.exists(one.id)));
    }
    CHECK(world.io.files - before == 10);
    world.io.logs_fail = false;
    CHECK_FALSE(run(world, 10).front().place);
    world.io.files_fail = true;
    for (const Outcome& one : run(world, 10)) {
        CHECK((!one.ok && !world.exists(one.id)));
    }
}

TEST_CASE("a message that is not done with keeps its place until the file system was flushed", "[cleanup]") {
    World& world = new_world();
    have_log(world);
    const std::vector<Outcome> some = run(world, 3);
    CHECK(world.io.file_systems == 0);
    const auto settled = [](World& w) -> Task<bool> {
        for (int tries = 0; tries < 2000 && w.io.file_systems == 0; ++tries) {
            co_await sleep_for(Millis(10));
        }
        co_return w.io.file_systems > 0;
    };
    CHECK(Loop::current().run_until(settled(world)));
}

TEST_CASE("without a size there is no log", "[cleanup]") {
    World& world = new_world(0);
    for (const Outcome& one : run(world, 20)) {
        CHECK((one.ok && !one.place));
    }
    CHECK(world.io.logs == 0);
}

TEST_CASE("with a place in memory, messages that share a flush do not touch the queue", "[cleanup]") {
    World& world = new_world(kMinLogRing, true);
    have_log(world);
    const std::vector<Outcome> all = run(world, 50);
    for (const Outcome& one : all) {
        CHECK((one.ok && one.place && !world.exists(one.id) && world.transit->contains(one.id)));
    }
    REQUIRE(world.transit->keep_idle(all[0].id, "incoming"));
    CHECK(world.exists(all[0].id));
    const std::vector<Outcome> long_one = run(world, 1, "\n" + std::string(300'000, 'x') + "\n");
    CHECK((long_one.front().ok && !long_one.front().place && world.exists(long_one.front().id)));
}

TEST_CASE("without room in memory they get files of the queue", "[cleanup]") {
    World& world = new_world(kMinLogRing, true);
    have_log(world);
    const int before = world.io.files;
    (void)!std::system(("rm -r " + world.memory).c_str());
    for (const Outcome& one : run(world, 20)) {
        CHECK((one.ok && one.place && world.exists(one.id)));
    }
    CHECK(world.io.files == before);
}

TEST_CASE("a log that fails takes nobody's message in transit with it", "[cleanup]") {
    World& world = new_world(kMinLogRing, true);
    have_log(world);
    world.io.logs_fail = true;
    for (const Outcome& one : run(world, 10)) {
        CHECK((one.ok && !one.place && world.exists(one.id) && !world.transit->contains(one.id)));
    }
    CHECK(read_places(world.options).size() <= 2);   // of those alone that had made it have its log
}

TEST_CASE("at the end a log stays in use while messages are in transit", "[cleanup]") {
    World& world = new_world(kMinLogRing, true);
    have_log(world);
    const std::vector<Outcome> some = run(world, 5);
    world.committer->close();
    CHECK(read_places(world.options).size() >= some.size());
    for (const std::string& id : world.transit->ids()) {
        REQUIRE(world.transit->keep_idle(id, "incoming"));
    }
    const std::string moving = world.memory + "/move." + some.front().id;   // by somebody who has not written it yet
    REQUIRE(::close(::creat(moving.c_str(), 0700)) == 0);
    world.committer->close();
    CHECK(read_places(world.options).size() >= some.size());
    REQUIRE(::unlink(moving.c_str()) == 0);
    world.committer->close();
    CHECK(read_places(world.options).empty());
}
