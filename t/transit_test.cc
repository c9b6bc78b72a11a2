// Messages in transit: whoever is killed, a message is in one place, whole, and the lock of an agent that has it stays.
#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <utime.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "lib/queue/transit.h"

using namespace postern;
using namespace postern::queue;

namespace {

/// Fails the write that is so many from now.
struct FailingIo : FileIo {
    int fail = 1;
    ssize_t pwritev(int fd, const iovec* pieces, int count, std::uint64_t offset) override {
        if (--fail == 0) {
            errno = ENOSPC;
            return -1;
        }
        return FileIo::pwritev(fd, pieces, count, offset);
    }
};

/// A queue and its directory in transit, which need not be in memory for this.
struct Scratch {
    std::string root, memory;
    Scratch() {
        char name[] = "/tmp/transit_test.XXXXXX";
        root = ::mkdtemp(name);
        memory = root + "/memory";
        for (const char* directory : {"maildrop", "incoming", "active", "deferred", "hold", "memory"}) {
            ::mkdir((root + "/" + directory).c_str(), 0700);
        }
        CHECK(::symlink(memory.c_str(), (root + "/transit").c_str()) == 0);
    }
    ~Scratch() { std::filesystem::remove_all(root); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    Transit open() const {
        std::optional<Transit> transit = Transit::open(root, root);
        REQUIRE(transit);
        return std::move(*transit);
    }
    bool has(const std::string& name) const { return ::access((root + "/" + name).c_str(), F_OK) == 0; }
    std::string text(const std::string& name) const {
        std::ifstream file(root + "/" + name);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    void write(const std::string& name, const std::string& text) const { std::ofstream(root + "/" + name, std::ios::app) << text; }
    /// All files of the queue and in transit, sorted.
    std::string files() const {
        std::vector<std::string> found;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
            if (entry.is_regular_file()) {
                found.push_back(std::filesystem::relative(entry.path(), root).string());
            }
        }
        std::sort(found.begin(), found.end());
        std::string all;
        for (const std::string& name : found) {
            all += (all.empty() ? "" : " ") + name;
        }
        return all;
    }
};

bool lock(const UniqueFd& file) { return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0; }

/// As long as it lives, no more files can be opened.
struct NoDescriptors {
    rlimit before{};
    NoDescriptors() {
        ::getrlimit(RLIMIT_NOFILE, &before);
        const rlimit none{0, before.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &none);
    }
    ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before); }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;
};

/// As qmgr has it: open and locked.
UniqueFd take(const Transit& transit, const std::string& id) {
    UniqueFd file = transit.open_file(id, O_RDWR);
    REQUIRE(file);
    REQUIRE(lock(file));
    return file;
}

}  // namespace

TEST_CASE("a message in transit is there whole, once, and can be removed", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    CHECK(transit.name() == "memory");
    CHECK(transit.put("AAAAAA0", {"first ", "second"}).ok());
    CHECK(scratch.text("memory/AAAAAA0") == "first second");
    CHECK(transit.contains("AAAAAA0"));
    CHECK_FALSE(transit.contains("AAAAAA1"));
    CHECK(transit.put("AAAAAA0", {"again"}).error().code == Errc::exists);
    CHECK(scratch.files() == "memory/AAAAAA0");
    CHECK(scratch.text("memory/AAAAAA0") == "first second");
    CHECK(transit.put("AAAAAA2", {"x"}).ok());
    CHECK(transit.put("AAAAAA1", {"x"}).ok());
    CHECK(transit.ids() == std::vector<std::string>{"AAAAAA0", "AAAAAA1", "AAAAAA2"});
    CHECK(transit.remove("AAAAAA0"));
    CHECK_FALSE(transit.remove("AAAAAA0"));
    CHECK(errno == ENOENT);
    CHECK_FALSE(transit.open_file("AAAAAA0", O_RDONLY));
    CHECK(errno == ENOENT);
}

TEST_CASE("a message that is kept has its journal with it, and its lock", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    const std::string big(300000, 'x');   // more than is copied at a time
    REQUIRE(transit.put("AAAAAA0", {"message", big}).ok());
    const UniqueFd file = take(transit, "AAAAAA0");
    CHECK(transit.is_still("AAAAAA0", file.get()));
    scratch.write("memory/AAAAAA0", "journal");
    const Result<UniqueFd> kept = transit.keep("AAAAAA0", file.get(), "active", false);
    REQUIRE(kept);
    CHECK(scratch.files() == "active/AAAAAA0");
    CHECK_FALSE(transit.is_still("AAAAAA0", file.get()));   // who has opened it before and waits for the lock has nothing
    CHECK(scratch.text("active/AAAAAA0") == "message" + big + "journal");
    CHECK_FALSE(transit.contains("AAAAAA0"));
    const UniqueFd other(::open((scratch.root + "/active/AAAAAA0").c_str(), O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(lock(other));
    CHECK(::write(kept->get(), "x", 1) == -1);   // for reading: agents get it
    CHECK(transit.keep("AAAAAA0", file.get(), "active", false).error().code == Errc::not_found);
    CHECK(transit.keep("AAAAAA1", file.get(), "active", false).error().code == Errc::not_found);
}

TEST_CASE("the lock of an agent outlives the file it was of", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    REQUIRE(transit.put("AAAAAA0", {"message"}).ok());
    UniqueFd agent = take(transit, "AAAAAA0");
    const Result<UniqueFd> kept = transit.keep("AAAAAA0", agent.get(), "active", true);
    REQUIRE(kept);
    CHECK(scratch.files() == "active/AAAAAA0 memory/lock.AAAAAA0");
    CHECK_FALSE(transit.contains("AAAAAA0"));
    CHECK(transit.ids().empty());
    CHECK(transit.is_held("AAAAAA0"));
    CHECK(transit.resume());   // a new qmgr
    CHECK(transit.is_held("AAAAAA0"));
    agent.reset();
    CHECK_FALSE(transit.is_held("AAAAAA0"));
    CHECK(scratch.files() == "active/AAAAAA0");
    CHECK_FALSE(transit.is_held("AAAAAA1"));

    REQUIRE(transit.put("AAAAAA2", {"message"}).ok());
    const UniqueFd another = take(transit, "AAAAAA2");
    REQUIRE(transit.keep("AAAAAA2", another.get(), "active", true));
    transit.release("AAAAAA2");
    CHECK_FALSE(transit.is_held("AAAAAA2"));
    CHECK(scratch.files() == "active/AAAAAA0 active/AAAAAA2");
}

TEST_CASE("a message that cannot be kept is in transit as before", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    REQUIRE(transit.put("AAAAAA0", {std::string(300000, 'x')}).ok());
    const UniqueFd file = take(transit, "AAAAAA0");
    const bool agents = GENERATE(false, true);
    for (const int fail : {1, 2, 3}) {
        FailingIo io;
        io.fail = fail;
        CHECK(transit.keep("AAAAAA0", file.get(), "active", agents, io).error().code == Errc::no_space);
        CHECK(scratch.files() == "memory/AAAAAA0");
    }
    scratch.write("active/AAAAAA0", "another");
    CHECK(transit.keep("AAAAAA0", file.get(), "active", false).error().code == Errc::exists);
    CHECK(scratch.files() == "active/AAAAAA0 memory/AAAAAA0");
    CHECK(scratch.text("active/AAAAAA0") == "another");
    CHECK(transit.keep("AAAAAA0", file.get(), "nosuch", false).error().code == Errc::io);
    CHECK(scratch.files() == "active/AAAAAA0 memory/AAAAAA0");
    CHECK(transit.keep("AAAAAA0", file.get(), "deferred", false).ok());
}

TEST_CASE("a message that nobody has locked is kept by whoever comes", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    for (const char* id : {"AAAAAA0", "AAAAAA1", "AAAAAA2"}) {
        REQUIRE(transit.put(id, {id}).ok());
    }
    const UniqueFd locked = take(transit, "AAAAAA1");
    scratch.write("incoming/AAAAAA2", "another");
    CHECK(transit.keep_idle("AAAAAA0", "incoming").ok());
    CHECK(transit.keep_idle("AAAAAA1", "incoming").error().code == Errc::temporary);
    CHECK(transit.keep_idle("AAAAAA2", "incoming").error().code == Errc::exists);
    CHECK(transit.keep_idle("AAAAAA3", "incoming").error().code == Errc::not_found);
    CHECK(scratch.files() == "incoming/AAAAAA0 incoming/AAAAAA2 memory/AAAAAA1 memory/AAAAAA2");
}

TEST_CASE("what a killed process had half moved is put right", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    scratch.write("memory/move.AAAAAA0", "whole");                 // killed before the queue had it
    const std::string directory = GENERATE("incoming", "active", "deferred", "hold", "maildrop");
    scratch.write("memory/move.AAAAAA1", "whole");                 // and after, wherever it went since
    scratch.write(directory + "/AAAAAA1", "whole");
    scratch.write("memory/lock.AAAAAA2", "whole");                 // an agent that has ended
    scratch.write("memory/tmp.AAAAAA3", "unfini");
    scratch.write("memory/tmp.AAAAAA4", "unfini");
    const utimbuf old{1, 1};
    CHECK(::utime((scratch.memory + "/tmp.AAAAAA3").c_str(), &old) == 0);
    CHECK(transit.contains("AAAAAA0"));
    CHECK(transit.all_ids() == std::vector<std::string>{"AAAAAA0", "AAAAAA1"});
    CHECK(transit.open_any("AAAAAA0"));
    CHECK(transit.ids().empty());
    CHECK(transit.resume());
    CHECK(transit.ids() == std::vector<std::string>{"AAAAAA0"});
    CHECK(scratch.files() == directory + "/AAAAAA1 memory/AAAAAA0 memory/tmp.AAAAAA4");
}

TEST_CASE("an agent that had a message while it was half moved is waited for", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    REQUIRE(transit.put("AAAAAA0", {"whole"}).ok());
    const UniqueFd agent = take(transit, "AAAAAA0");
    CHECK(::rename((scratch.memory + "/AAAAAA0").c_str(), (scratch.memory + "/move.AAAAAA0").c_str()) == 0);
    scratch.write("active/AAAAAA0", "whole");
    CHECK(transit.resume());
    CHECK_FALSE(transit.contains("AAAAAA0"));
    CHECK(transit.is_held("AAAAAA0"));
}

TEST_CASE("a message that is half moved is held, even when nobody has it any more", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    scratch.write("memory/move.AAAAAA0", "whole");
    scratch.write("active/AAAAAA0", "whole");
    CHECK(transit.is_held("AAAAAA0"));
    CHECK(transit.resume());
    CHECK_FALSE(transit.is_held("AAAAAA0"));
    CHECK(scratch.files() == "active/AAAAAA0");
}

TEST_CASE("without descriptors nobody can tell that a message is not held", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    scratch.write("memory/lock.AAAAAA0", "whole");
    const UniqueFd agent = transit.open_file("lock.AAAAAA0", O_RDONLY);
    REQUIRE(lock(agent));
    {
        const NoDescriptors none;
        CHECK(transit.is_held("AAAAAA0"));
        CHECK(transit.is_held("AAAAAA1"));   // so it is asked again later
    }
    CHECK_FALSE(transit.is_held("AAAAAA1"));
    CHECK(transit.is_held("AAAAAA0"));
}

TEST_CASE("transit is empty when nothing is there or on its way out, and that can be told", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    CHECK(transit.is_empty());
    scratch.write("memory/lock.AAAAAA0", "whole");
    scratch.write("memory/tmp.AAAAAA1", "unfini");
    CHECK(transit.is_empty());
    {
        const NoDescriptors none;
        CHECK_FALSE(transit.is_empty());
    }
    scratch.write("memory/move.AAAAAA2", "whole");
    CHECK_FALSE(transit.is_empty());
    CHECK(::rename((scratch.memory + "/move.AAAAAA2").c_str(), (scratch.memory + "/AAAAAA2").c_str()) == 0);
    CHECK_FALSE(transit.is_empty());
    CHECK(transit.remove("AAAAAA2"));
    CHECK(transit.is_empty());
    CHECK(transit.is_there());
    std::filesystem::remove_all(scratch.memory);
    CHECK_FALSE(transit.is_there());
    CHECK_FALSE(transit.is_empty());   // what was there is in no queue
}

TEST_CASE("nothing is put right while somebody moves a message", "[transit]") {
    const Scratch scratch;
    const Transit transit = scratch.open();
    scratch.write("memory/move.AAAAAA0", "whole");
    UniqueFd mover(::open(scratch.memory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(::flock(mover.get(), LOCK_SH | LOCK_NB) == 0);
    CHECK_FALSE(transit.resume());
    CHECK(scratch.files() == "memory/move.AAAAAA0");
    mover.reset();
    CHECK(transit.resume());
    CHECK(scratch.files() == "memory/AAAAAA0");
}

TEST_CASE("a queue without a good directory has no transit", "[transit]") {
    const Scratch scratch;
    CHECK(Transit::open(scratch.root, "."));
    CHECK(read_transit_link(scratch.root) == scratch.memory);
    ::chmod(scratch.memory.c_str(), 0701);
    CHECK_FALSE(Transit::open(scratch.root, "."));   // others may enter
    ::rmdir(scratch.memory.c_str());
    CHECK_FALSE(Transit::open(scratch.root, "."));   // the machine was started again
    scratch.write("memory", "a file");
    CHECK_FALSE(Transit::open(scratch.root, "."));
    ::unlink((scratch.root + "/transit").c_str());
    CHECK_FALSE(Transit::open(scratch.root, "."));
    CHECK(read_transit_link(scratch.root).empty());
}
