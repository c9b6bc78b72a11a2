// smtp/shared_ledger.h: what agents know together, and what is left of those that were killed.
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include <catch2/catch.hpp>

#include "smtp/shared_ledger.h"

namespace postern::smtp {
namespace {

struct Scratch {
    std::string directory;
    Scratch() {
        char name[] = "/tmp/postern-ledger-XXXXXX";
        directory = ::mkdtemp(name);
    }
    ~Scratch() {
        std::remove(path().c_str());
        ::rmdir(directory.c_str());
    }
    std::string path() const { return directory + "/ledger"; }
    std::unique_ptr<SharedLedger> open() const {
        Result<std::unique_ptr<SharedLedger>> ledger = SharedLedger::open(path());
        REQUIRE(ledger);
        return std::move(*ledger);
    }
    /// Runs `work` with a ledger of its own in a process that is killed afterwards, or when it says so.
    template <class F>
    void in_killed_process(F work) const {
        const pid_t pid = ::fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            Result<std::unique_ptr<SharedLedger>> ledger = SharedLedger::open(path());
            if (ledger) {
                work(**ledger);
            }
            ::raise(SIGKILL);
        }
        int status = 0;
        REQUIRE(::waitpid(pid, &status, 0) == pid);
        REQUIRE(WIFSIGNALED(status));
    }
};

const SharedLedger::Key kKey{"4BqkXy1zZz", 1700000000123456};

}  // namespace

TEST_CASE("What a killed agent's server has taken is known to the next agent", "[smtp]") {
    const Scratch scratch;
    scratch.in_killed_process([](SharedLedger& ledger) {
        const SharedLedger::Marks marks = ledger.sending(kKey, {3, 5}, false);
        ledger.taken(marks, "2.6.0", "250 2.6.0 Ok: queued as 1");
    });
    const std::unique_ptr<SharedLedger> next = scratch.open();
    REQUIRE(next->find(kKey, 5));
    CHECK(next->find(kKey, 3)->reply == "250 2.6.0 Ok: queued as 1");
    CHECK(next->find(kKey, 3)->dsn == "2.6.0");
    CHECK_FALSE(next->find(kKey, 4));
    CHECK_FALSE(next->find({kKey.first, kKey.second + 1}, 3));
    CHECK_FALSE(next->find({"another", kKey.second}, 3));
    CHECK_FALSE(next->is_busy(kKey, {3, 5}));
}

TEST_CASE("Nobody waits for an agent that was killed before it heard its server", "[smtp]") {
    const Scratch scratch;
    scratch.in_killed_process([](SharedLedger& ledger) { ledger.sending(kKey, {3, 5}, true); });
    const std::unique_ptr<SharedLedger> same_place = scratch.open();
    CHECK_FALSE(same_place->is_busy(kKey, {3}));
    CHECK_FALSE(same_place->find(kKey, 3));
    // The dead one had another place than the one who looks.
    scratch.in_killed_process([](SharedLedger& ledger) { ledger.sending(kKey, {3, 5}, true); });
    CHECK_FALSE(same_place->is_busy(kKey, {3}));
    CHECK_FALSE(same_place->find(kKey, 3));
}

TEST_CASE("What an agent notes and then dies, while another looks whether it lives, is known", "[smtp]") {
    const Scratch scratch;
    std::vector<std::uint32_t> shared(SharedLedger::kIndices);
    std::iota(shared.begin(), shared.end(), 1U);
    std::vector<std::uint32_t> looked_for(3'000'000, 1000);   // so many that a look takes long enough for all that happens meanwhile
    looked_for.push_back(shared.back());
    int ready[2], go[2];
    REQUIRE((::pipe(ready) == 0 && ::pipe(go) == 0));
    const std::unique_ptr<SharedLedger> waiter = scratch.open();
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        const Result<std::unique_ptr<SharedLedger>> agent = SharedLedger::open(scratch.path());
        const SharedLedger::Marks marks = (*agent)->sending(kKey, shared, false);
        char byte = 0;
        [[maybe_unused]] const ssize_t told = ::write(ready[1], &byte, 1), heard = ::read(go[0], &byte, 1);
        ::usleep(3000);
        (*agent)->taken(marks, "2.0.0", "250 2.0.0 Ok");
        ::raise(SIGKILL);
    }
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    REQUIRE(::write(go[1], &byte, 1) == 1);
    while (waiter->is_busy(kKey, looked_for)) {
    }
    CHECK(waiter->find(kKey, shared.back()));
    CHECK(::waitpid(pid, nullptr, 0) == pid);
    for (const int fd : {ready[0], ready[1], go[0], go[1]}) {
        ::close(fd);
    }
}

TEST_CASE("An agent that lives is waited for", "[smtp]") {
    const Scratch scratch;
    const std::unique_ptr<SharedLedger> one = scratch.open();
    const std::unique_ptr<SharedLedger> other = scratch.open();   // a lock of its own: as another process
    const SharedLedger::Marks marks = one->sending(kKey, {1, 2}, true);
    REQUIRE(marks.size() == 2);
    CHECK(other->is_busy(kKey, {2, 9}));
    CHECK_FALSE(other->is_busy(kKey, {9}));
    CHECK_FALSE(one->is_busy(kKey, {2}));   // its own
    one->taken({marks[0]}, "2.0.0", "250 one");
    one->release({marks[1]});
    CHECK_FALSE(other->is_busy(kKey, {1, 2}));
    CHECK(other->find(kKey, 1));
    CHECK_FALSE(other->find(kKey, 2));
    one->told({marks[0]});
    CHECK(other->find(kKey, 1));
    one->release({marks[0]});
    CHECK_FALSE(other->find(kKey, 1));
}

TEST_CASE("Recipients of one answer share entries, however many they are", "[smtp]") {
    const Scratch scratch;
    const std::unique_ptr<SharedLedger> ledger = scratch.open();
    std::vector<std::uint32_t> many(1000);
    std::iota(many.begin(), many.end(), 0U);
    const SharedLedger::Marks marks = ledger->sending(kKey, many, false);
    CHECK(marks.size() == 25);
    ledger->taken(marks, "2.0.0", std::string(5000, 'x'));
    CHECK(ledger->find(kKey, 999));
    CHECK(ledger->find(kKey, 0)->reply.size() < 300);
    CHECK_FALSE(ledger->find(kKey, 1000));
    ledger->release(marks);
    CHECK_FALSE(ledger->find(kKey, 999));
}

TEST_CASE("A full ledger makes no entries for living agents to lose, and takes those of dead ones", "[smtp]") {
    const Scratch scratch;
    const std::unique_ptr<SharedLedger> ledger = scratch.open();
    std::vector<std::uint32_t> many(SharedLedger::kEntries + 10);
    std::iota(many.begin(), many.end(), 0U);
    CHECK(ledger->sending(kKey, many, true).size() == SharedLedger::kEntries);
    CHECK(ledger->sending({"other", 1}, {0}, true).empty());
    const Scratch second;
    second.in_killed_process([&](SharedLedger& dead) { dead.sending(kKey, many, true); });
    const std::unique_ptr<SharedLedger> first_place = second.open();
    second.in_killed_process([&](SharedLedger& dead) { dead.sending(kKey, many, true); });
    CHECK(first_place->sending({"other", 1}, {0, 1}, true).size() == 2);
}

TEST_CASE("The file has all its blocks from the start, so that a full disk cannot end an agent", "[smtp]") {
    const Scratch scratch;
    const std::unique_ptr<SharedLedger> ledger = scratch.open();
    struct stat status {};
    REQUIRE(::stat(scratch.path().c_str(), &status) == 0);
    CHECK(status.st_size > 1'000'000);
    CHECK(status.st_blocks * 512 >= status.st_size);
}

TEST_CASE("Files that are no ledger are refused", "[smtp]") {
    const Scratch scratch;
    {
        std::ofstream file(scratch.path());
        file << std::string(100, 'x');
    }
    CHECK_FALSE(SharedLedger::open(scratch.path()));   // others may read it
    ::chmod(scratch.path().c_str(), 0600);
    const Result<std::unique_ptr<SharedLedger>> wrong = SharedLedger::open(scratch.path());
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().what.find("format") != std::string::npos);
    CHECK_FALSE(SharedLedger::open(scratch.directory + "/absent/ledger"));
}

TEST_CASE("Whatever stands in the file, nothing beyond it is read", "[smtp]") {
    const Scratch scratch;
    scratch.open()->sending(kKey, {1, 2, 3}, false);
    struct stat status {};
    REQUIRE(::stat(scratch.path().c_str(), &status) == 0);
    for (int round = 0; round < 20; ++round) {
        std::fstream file(scratch.path(), std::ios::in | std::ios::out | std::ios::binary);
        // The magic number and the fingerprints stay, so that damaged entries are looked at.
        for (std::streamoff at = 8 + 8 * SharedLedger::kEntries; at < status.st_size; at += 61) {
            file.seekp(at);
            file.put(static_cast<char>(std::rand()));
        }
        file.close();
        const std::unique_ptr<SharedLedger> ledger = scratch.open();
        for (std::uint32_t index = 0; index < 5; ++index) {
            const auto found = ledger->find(kKey, index);
            CHECK((!found || found->reply.size() < 300));
        }
        (void)ledger->is_busy(kKey, {1, 2, 3});
    }
}

}  // namespace postern::smtp
