/// The queue's directory for messages in transit: made once, in memory, and never another's.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "lib/queue/transit.h"
#include "master/instance.h"
#include "master/transit_directory.h"

using namespace postern;
using namespace postern::master;

namespace {

/// A queue on the disk, and a place in memory.
class Scratch {
public:
    Scratch() {
        char on_disk[] = "/tmp/postern-transit-XXXXXX", in_memory[] = "/dev/shm/postern-transit-XXXXXX";
        root = ::mkdtemp(on_disk);
        const char* const made = ::mkdtemp(in_memory);
        memory = made == nullptr ? "" : made;
        ::mkdir((root + "/commit").c_str(), 0700);
    }
    ~Scratch() {
        std::filesystem::remove_all(root);
        if (!memory.empty()) {
            std::filesystem::remove_all(memory);
        }
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    /// What set_up_transit() says; the scratch directories' own names are left out.
    std::string set_up(const std::string& directory, std::string_view more = "") const {
        auto config = Config::from_text(fmt::format("queue_directory = {}\ntransit_directory = {}\n{}", root, directory, more));
        REQUIRE(config);
        TransitReport report = set_up_transit(*config, ::geteuid(), ::getegid());
        CHECK(report.notice.empty());
        for (const std::string& name : {memory, root}) {
            for (std::size_t at = report.warning.find(name + "/"); at != std::string::npos; at = report.warning.find(name + "/")) {
                report.warning.erase(at, name.size() + 1);
            }
        }
        return report.warning;
    }
    std::string link() const { return queue::read_transit_link(root); }
    std::size_t directories(const std::string& name) const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(memory + "/" + name), {}));
    }

    std::string root, memory;
};

bool has_memory(const Scratch& scratch) {
    if (scratch.memory.empty()) {
        WARN("no /dev/shm: skipped");
    }
    return !scratch.memory.empty();
}

mode_t mode_of(const std::string& path) {
    struct stat info {};
    return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

void put_file(const std::string& path) { std::ofstream(path) << "x"; }

constexpr const char* kOnDisk = "messages in transit are kept on the disk: transit_directory: ";

}  // namespace

TEST_CASE("a queue gets a directory of its own in memory, and keeps it", "[master]") {
    const Scratch scratch;
    if (!has_memory(scratch)) {
        return;
    }
    const std::string place = scratch.memory + "/postern";
    CHECK(scratch.set_up(place + "/") == "");
    const std::string first = scratch.link();
    CHECK(mode_of(place) == 0755);
    CHECK(mode_of(first) == 0700);
    CHECK(first.substr(0, first.rfind('/')) == place);
    CHECK(first.size() == place.size() + 1 + 16);
    CHECK(queue::Transit::open(scratch.root, scratch.root));
    CHECK(scratch.set_up(place) == "");
    put_file(first + "/AAAAAA0");
    CHECK(scratch.set_up(place) == "");
    CHECK(scratch.link() == first);
    CHECK(scratch.directories("postern") == 1);

    // As after a restart of the machine.
    std::filesystem::remove_all(place);
    CHECK(scratch.set_up(place) == "");
    CHECK(scratch.link() != first);
    CHECK(mode_of(scratch.link()) == 0700);
}

TEST_CASE("a directory that others may enter is not kept", "[master]") {
    const Scratch scratch;
    if (!has_memory(scratch)) {
        return;
    }
    CHECK(scratch.set_up(scratch.memory) == "");
    const std::string first = scratch.link();
    ::chmod(first.c_str(), 0750);
    CHECK(scratch.set_up(scratch.memory) == "");
    CHECK(scratch.link() != first);
    CHECK(scratch.directories("") == 1);
}

TEST_CASE("a queue that shall have none in transit keeps the directory until that is empty", "[master]") {
    const Scratch scratch;
    if (!has_memory(scratch)) {
        return;
    }
    const std::string none = GENERATE("", "other");
    const std::string more = none.empty() ? GENERATE("", "commit_log_size = 0\n") : "";
    const std::string next = !none.empty() ? scratch.memory + "/" + none : more.empty() ? "" : scratch.memory + "/first";
    CAPTURE(none, more);
    CHECK(scratch.set_up(scratch.memory + "/first") == "");
    const std::string first = scratch.link();
    put_file(first + "/AAAAAA0");
    CHECK(scratch.set_up(next, more) == first.substr(scratch.memory.size() + 1) + ": still in use for messages in transit");
    CHECK(scratch.link() == first);
    CHECK(std::filesystem::exists(first + "/AAAAAA0"));
    ::unlink((first + "/AAAAAA0").c_str());
    CHECK(scratch.set_up(next, more) == "");
    CHECK(scratch.link().empty() == none.empty());
    CHECK(scratch.directories("first") == 0);
}

TEST_CASE("messages stay on the disk where there is no good place in memory", "[master]") {
    const Scratch scratch;
    if (!has_memory(scratch)) {
        return;
    }
    CHECK(::symlink((scratch.memory + "/gone").c_str(), (scratch.root + "/transit").c_str()) == 0);
    CHECK(scratch.set_up(scratch.root + "/place") == std::string(kOnDisk) + "place: not in memory (tmpfs)");
    CHECK_FALSE(std::filesystem::exists(scratch.root + "/place"));
    CHECK(scratch.link().empty());   // it led nowhere
    CHECK(scratch.set_up("run/postern") == std::string(kOnDisk) + "run/postern: not an absolute path");

    ::mkdir((scratch.memory + "/real").c_str(), 0755);
    CHECK(::symlink("real", (scratch.memory + "/alias").c_str()) == 0);
    CHECK(scratch.set_up(scratch.memory + "/alias") == std::string(kOnDisk) + "alias: not a directory");
    ::chmod((scratch.memory + "/real").c_str(), 0777);
    CHECK(scratch.set_up(scratch.memory + "/real") == std::string(kOnDisk) + "real: others may remove what is in it");
    ::chmod((scratch.memory + "/real").c_str(), 01777);
    CHECK(scratch.set_up(scratch.memory + "/real") == "");
    if (::geteuid() == 0) {
        CHECK(::chown((scratch.memory + "/real").c_str(), 65534, 65534) == 0);
        CHECK(scratch.set_up(scratch.memory + "/real") == std::string(kOnDisk) + "real: others may remove what is in it");
    }
}

TEST_CASE("of several places the first that is in memory is taken", "[master]") {
    const Scratch scratch;
    if (!has_memory(scratch)) {
        return;
    }
    const std::string bad = scratch.root + "/place", good = scratch.memory + "/a", other = scratch.memory + "/b";
    CHECK(scratch.set_up(bad + ", " + good + ", " + other) == "");
    const std::string first = scratch.link();
    CHECK(first.substr(0, first.rfind('/')) == good);
    CHECK(scratch.set_up(other + " " + good) == "");   // one that is there stays
    CHECK(scratch.link() == first);
    CHECK(scratch.set_up(bad + ", run/x") == std::string(kOnDisk) + "place: not in memory (tmpfs); run/x: not an absolute path");
    CHECK(scratch.link().empty());
}

TEST_CASE("the default is not asked for: no warning where it does not work", "[master]") {
    const Scratch scratch;
    const auto config = Config::from_text("queue_directory = " + scratch.root + "\n");
    REQUIRE(config);
    if (::geteuid() == 0) {
        return;   // it might work
    }
    const TransitReport report = set_up_transit(*config, ::geteuid(), ::getegid());
    CHECK(report.warning.empty());
    CHECK(report.notice.empty());
}
