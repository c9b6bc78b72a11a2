// lib/service: what a process and master, and its clients, can rely on when it is to end.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "lib/async/loop.h"
#include "lib/service/listener.h"
#include "lib/service/service.h"

using namespace postern;

namespace {

/// A directory with a socket that listens, and clients of that.
class Scratch {
public:
    Scratch() {
        char name[] = "/tmp/service_test.XXXXXX";
        directory = ::mkdtemp(name);
        address_.sun_family = AF_UNIX;
        std::strncpy(address_.sun_path, (directory + "/socket").c_str(), sizeof address_.sun_path - 1);
        listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) == 0);
        REQUIRE(::listen(listener.get(), 10) == 0);
    }
    ~Scratch() {
        const std::string command = "rm -rf " + directory;
        (void)!std::system(command.c_str());
    }
    UniqueFd connect() const {
        UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) == 0);
        return client;
    }
    std::string directory;
    UniqueFd listener;

private:
    sockaddr_un address_{};
};

/// What a service does that says "d" to master when it is told to drain.
[[noreturn]] void run_service(const Scratch& scratch, int status) {
    const int spoken = ::dup(status);
    ::dup2(scratch.listener.get(), 3);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("MAIL_CONFIG", scratch.directory.c_str(), 1);
    ::setenv("POSTERN_STATUS_FD", std::to_string(status).c_str(), 1);
    std::array<std::string, 5> words{"test", "-n", "test", "-t", "unix"};
    std::array<char*, 6> argv{};
    for (std::size_t i = 0; i < words.size(); ++i) {
        argv[i] = words[i].data();
    }
    Service service("test", static_cast<int>(words.size()), argv.data());
    service.may_overlap();
    service.on_drain([spoken] { (void)!::write(spoken, "d", 1); });
    std::_Exit(service.serve([](Connection) -> Task<> { co_return; }));
}

}  // namespace

TEST_CASE("master hears that a successor may start when nothing more comes to the process", "[service]") {
    const Scratch scratch;
    std::ofstream(scratch.directory + "/main.cf") << "queue_directory = " << scratch.directory << "\n";
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()) == 0);
    const UniqueFd ours(pair[0]);
    UniqueFd theirs(::fcntl(pair[1], F_DUPFD, 20));
    ::close(pair[1]);
    const pid_t child = ::fork();
    if (child == 0) {
        run_service(scratch, theirs.get());
    }
    theirs.reset();
    std::string said;
    char byte = 0;
    while (::read(ours.get(), &byte, 1) == 1) {
        said += byte;
        if (byte == 'A') {
            ::kill(child, SIGHUP);
        }
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(said == "AdR");
    CHECK(status == 0);
}

TEST_CASE("a listener that is closed while it hands over a client leaves the others to its siblings", "[service]") {
    Scratch scratch;
    const UniqueFd sibling(::fcntl(scratch.listener.get(), F_DUPFD_CLOEXEC, 3));
    const UniqueFd first = scratch.connect(), second = scratch.connect();
    Listener listener(std::move(scratch.listener), "socket");
    int taken = 0;
    listener.start([&](Connection) {
        ++taken;
        listener.close();
    });
    Loop::current().run_until(sleep_for(Millis(50)));
    listener.resume();
    Loop::current().run_until(sleep_for(Millis(50)));
    CHECK(taken == 1);
    CHECK(UniqueFd(::accept(sibling.get(), nullptr, nullptr)));
}
