/// cleanup: telling a queue manager that does not listen just now.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "cleanup/qmgr_notifier.h"
#include "lib/async/loop.h"

using namespace postern;
using namespace postern::cleanup;

namespace {

/// A socket of which nobody takes connections until accept() is called.
struct BusyQmgr {
    std::string directory;
    std::string path;
    UniqueFd listener;
    std::vector<UniqueFd> in_the_way;

    BusyQmgr() {
        char name[] = "/tmp/postern-notifier-XXXXXX";
        directory = ::mkdtemp(name);
        path = directory + "/qmgr";
    }
    ~BusyQmgr() {
        ::unlink(path.c_str());
        CHECK(::rmdir(directory.c_str()) == 0);
    }
    sockaddr_un address() const {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.c_str(), path.size());
        return address;
    }
    void listen() {
        const sockaddr_un where = address();
        listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
        REQUIRE(::listen(listener.get(), 0) == 0);
    }
    /// Until the kernel takes no further connection.
    void fill() {
        const sockaddr_un where = address();
        for (int i = 0; i < 10; ++i) {
            UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
                REQUIRE(errno == EAGAIN);
                return;
            }
            in_the_way.push_back(std::move(client));
        }
        FAIL("the backlog has no end");
    }
    UniqueFd accept() const { return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)); }
    /// The next connection after those that were in the way.
    UniqueFd accept_notifier() {
        for (std::size_t i = 0; i < in_the_way.size(); ++i) {
            REQUIRE(accept());
        }
        for (int i = 0; i < 100; ++i) {
            UniqueFd client = accept();
            if (client) {
                return client;
            }
            pause(20);
        }
        return UniqueFd();
    }
    static void pause(int milliseconds) { Loop::current().run_until(sleep_for(Millis(milliseconds))); }
};

queue::NewMessage message(const std::string& id) {
    queue::NewMessage message;
    message.queue_id = id;
    return message;
}

Task<Result<queue::ToQmgr>> receive_one(Channel<queue::FromQmgr, queue::ToQmgr>& channel) {
    co_return co_await channel.receive(std::chrono::seconds(5));
}

}  // namespace

TEST_CASE("a queue manager that took no connection for long is asked to look when it does", "[cleanup]") {
    BusyQmgr qmgr;
    qmgr.listen();
    qmgr.fill();
    QmgrNotifier notifier(qmgr.path, Millis(30), Millis(10));
    notifier.notify(message("4A1"));
    BusyQmgr::pause(150);   // several tries have failed
    notifier.notify(message("4A2"));
    UniqueFd client = qmgr.accept_notifier();
    REQUIRE(client);
    Channel<queue::FromQmgr, queue::ToQmgr> channel(std::move(client));
    const Result<queue::ToQmgr> first = Loop::current().run_until(receive_one(channel));
    REQUIRE(first);
    const auto* const rescan = std::get_if<queue::Rescan>(&*first);
    REQUIRE(rescan != nullptr);
    CHECK_FALSE(rescan->deferred);
    notifier.notify(message("4A3"));   // from here on as ever
    const Result<queue::ToQmgr> second = Loop::current().run_until(receive_one(channel));
    REQUIRE(second);
    const auto* const told = std::get_if<queue::NewMessage>(&*second);
    REQUIRE(told != nullptr);
    CHECK(told->queue_id == "4A3");
}

TEST_CASE("a queue manager that is replaced while a connection is idle is asked to look", "[cleanup]") {
    BusyQmgr qmgr;
    qmgr.listen();
    QmgrNotifier notifier(qmgr.path, Millis(500), Millis(10));
    notifier.notify(message("4B1"));
    {
        const UniqueFd first = qmgr.accept_notifier();
        REQUIRE(first);
        BusyQmgr::pause(10);
    }
    notifier.notify(message("4B2"));
    UniqueFd client = qmgr.accept_notifier();
    REQUIRE(client);
    Channel<queue::FromQmgr, queue::ToQmgr> channel(std::move(client));
    const Result<queue::ToQmgr> asked = Loop::current().run_until(receive_one(channel));
    REQUIRE(asked);
    CHECK(std::holds_alternative<queue::Rescan>(*asked));
}

TEST_CASE("without a queue manager a notice is forgotten, and the next one tries again", "[cleanup]") {
    BusyQmgr qmgr;
    QmgrNotifier notifier(qmgr.path, Millis(500), Millis(10));
    notifier.notify(message("4C1"));
    BusyQmgr::pause(30);
    qmgr.listen();
    BusyQmgr::pause(30);
    CHECK_FALSE(qmgr.accept());   // it will have scanned when it started
    notifier.notify(message("4C2"));
    UniqueFd client = qmgr.accept_notifier();
    REQUIRE(client);
    Channel<queue::FromQmgr, queue::ToQmgr> channel(std::move(client));
    const Result<queue::ToQmgr> told = Loop::current().run_until(receive_one(channel));
    REQUIRE(told);
    const auto* const notice = std::get_if<queue::NewMessage>(&*told);
    REQUIRE(notice != nullptr);
    CHECK(notice->queue_id == "4C2");
}
