/// postsuper and messages in transit: they are in a directory of the queue before anything is done to them.
#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <thread>

#include "lib/queue/queue_id.h"
#include "tools/queue_surgery.h"
#include "tools/transit_exit.h"

using namespace postern;
using namespace postern::tools;

namespace {

struct Scratch {
    std::string root;
    std::optional<queue::Transit> transit;
    Scratch() {
        char name[] = "/tmp/transit_exit_test.XXXXXX";
        root = ::mkdtemp(name);
        for (const char* directory : {"incoming", "memory"}) {
            ::mkdir((root + "/" + directory).c_str(), 0700);
        }
        CHECK(::symlink((root + "/memory").c_str(), (root + "/transit").c_str()) == 0);
        transit = queue::Transit::open(root, root);
        REQUIRE(transit);
    }
    ~Scratch() { std::filesystem::remove_all(root); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    /// As qmgr has it.
    UniqueFd locked(const std::string& id) const {
        REQUIRE(transit->put(id, {"message"}).ok());
        UniqueFd file = transit->open_file(id, O_RDONLY);
        REQUIRE(::flock(file.get(), LOCK_EX | LOCK_NB) == 0);
        return file;
    }
    bool is_in_incoming(const std::string& id) const { return ::access((root + "/incoming/" + id).c_str(), F_OK) == 0; }
};

}  // namespace

TEST_CASE("messages that nobody has leave the transit at once", "[tools]") {
    const Scratch scratch;
    REQUIRE(scratch.transit->put("AAAAAA0", {"message"}).ok());
    REQUIRE(scratch.transit->put("AAAAAA1", {"message"}).ok());
    CHECK(leave_transit(*scratch.transit, {"AAAAAA0", "AAAAAA2"}, std::chrono::milliseconds(0)).empty());
    CHECK(scratch.is_in_incoming("AAAAAA0"));
    CHECK(scratch.transit->all_ids() == std::vector<std::string>{"AAAAAA1"});
}

TEST_CASE("messages that somebody has are waited for, all together", "[tools]") {
    const Scratch scratch;
    const UniqueFd delivered = scratch.locked("AAAAAA0"), kept = scratch.locked("AAAAAA1"), stays = scratch.locked("AAAAAA2");
    bool done = false;
    std::thread manager([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        done = scratch.transit->remove("AAAAAA0") && scratch.transit->keep("AAAAAA1", kept.get(), "incoming", false);
    });
    CHECK(leave_transit(*scratch.transit, {"AAAAAA0", "AAAAAA1", "AAAAAA2"}, std::chrono::seconds(2)) == std::vector<std::string>{"AAAAAA2"});
    manager.join();
    CHECK(done);
    CHECK(scratch.is_in_incoming("AAAAAA1"));
    CHECK_FALSE(scratch.is_in_incoming("AAAAAA0"));
    CHECK_FALSE(scratch.is_in_incoming("AAAAAA2"));
}

TEST_CASE("a message that cannot be moved is told of", "[tools]") {
    const Scratch scratch;
    REQUIRE(scratch.transit->put("AAAAAA0", {"message"}).ok());
    std::filesystem::remove_all(scratch.root + "/incoming");
    CHECK(leave_transit(*scratch.transit, {"AAAAAA0"}, std::chrono::milliseconds(0)) == std::vector<std::string>{"AAAAAA0"});
    CHECK(scratch.transit->contains("AAAAAA0"));
}

TEST_CASE("a structure fix renames what does not fit its inode, but not what began in memory", "[tools]") {
    const Scratch scratch;
    const std::string foreign = queue::make_queue_id(1700000000000010, 12, false),
                      random = queue::make_queue_id(1700000000000010, queue::kFirstRandomNumber + 5, false);
    for (const std::string& id : {foreign, random}) {
        REQUIRE(scratch.transit->put(id, {"message"}).ok());
        REQUIRE(scratch.transit->keep_idle(id, "incoming").ok());
    }
    std::vector<std::string> renamed;
    CHECK(fix_names({scratch.root + "/incoming"}, [&](const std::string& from, const std::string&) { renamed.push_back(from); }) == 1);
    CHECK(renamed == std::vector<std::string>{foreign});
    CHECK(scratch.is_in_incoming(random));
}
