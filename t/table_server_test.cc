// lib/table: tables that are servers, whose slowness delays only who asks.
#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/async/loop.h"
#include "lib/async/wait_here.h"
#include "lib/table/table.h"
#include "lib/table/table_server.h"

using namespace postern;

namespace {

/// Speaks the tcp_table protocol, a thread for each connection.  The answer for a key is the key; for keys with "slow" it is
/// withheld until release(); "hang" is never answered.
class TcpServer {
public:
    TcpServer() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        REQUIRE(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
        REQUIRE(listen(listener_.get(), 200) == 0);
        REQUIRE(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }
    ~TcpServer() {
        release();
        shutdown(listener_.get(), SHUT_RDWR);
        acceptor_.join();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    std::string table() const { return "tcp:127.0.0.1:" + std::to_string(port_); }
    int connections() const { return connections_; }
    int questions() const { return questions_; }
    void release() {
        const std::lock_guard<std::mutex> lock(mutex_);
        released_ = true;
        changed_.notify_all();
    }

private:
    void accept_all() {
        for (;;) {
            UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!client) {
                return;
            }
            ++connections_;
            threads_.emplace_back([this, fd = client.release()] { serve(UniqueFd(fd)); });
        }
    }
    void serve(const UniqueFd& client) {
        std::string line;
        char c = 0;
        while (read(client.get(), &c, 1) == 1) {
            if (c != '\n') {
                line += c;
                continue;
            }
            ++questions_;
            const std::string key = line.substr(4);
            line.clear();
            if (key == "hang") {
                continue;
            }
            if (key.find("slow") != std::string::npos) {
                std::unique_lock<std::mutex> lock(mutex_);
                changed_.wait(lock, [this] { return released_; });
            }
            const std::string reply = "200 " + key + "\n";
            if (send(client.get(), reply.data(), reply.size(), MSG_NOSIGNAL) < 0) {
                return;
            }
            if (key == "last") {
                return;
            }
        }
    }

    UniqueFd listener_;
    int port_ = 0;
    std::thread acceptor_;
    std::list<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool released_ = false;
    std::atomic<int> connections_{0};
    std::atomic<int> questions_{0};
};

using Events = std::vector<std::string>;

TablePtr open_with(const std::string& spec, int seconds = 20) {
    TableContext context;
    context.server_timeout_seconds = seconds;
    Result<TablePtr> table = open_table(spec, context);
    REQUIRE(table);
    return std::move(*table);
}

std::string text_of(const Lookup& found) {
    return !found ? "error: " + found.error().what : found->value_or("nothing");
}

/// `ended` is told when the lookup has its answer.
Task<> look(Table& table, std::string key, Events& events, Notice& ended) {
    const Lookup found = table.lookup(key);
    events.push_back(text_of(found));
    ended.notify_all();
    co_return;
}

Task<> until(const Events& events, std::size_t count, Notice& ended) {
    while (events.size() < count) {
        co_await ended.wait(std::chrono::seconds(20));
    }
}

Task<> slow_and_quick(TcpServer& server, Table& table, Events& events) {
    Notice ended;
    spawn(look(table, "slow", events, ended));
    spawn(look(table, "quick", events, ended));
    co_await until(events, 1, ended);
    events.emplace_back("released");
    server.release();
    co_await until(events, 3, ended);
}

/// More than may wait.
Task<> flood(TcpServer& server, Table& table, Events& events) {
    constexpr std::size_t kAll = TableServer::kMaxConnections + TableServer::kMaxWaiting + 10;
    Notice ended;
    for (std::size_t i = 0; i < kAll; ++i) {
        spawn(look(table, "slow" + std::to_string(i), events, ended));
    }
    CHECK(events == Events(10, "error: " + table.name() + ": too many lookups wait for this server"));
    server.release();
    co_await until(events, kAll, ended);
}

Task<> hang(Table& table, Events& events) {
    Notice ended;
    spawn(look(table, "hang", events, ended));
    co_await until(events, 1, ended);
    spawn(look(table, "other", events, ended));
}

Outage::Clock::time_point g_now{};

}  // namespace

TEST_CASE("a slow lookup does not delay others of the same table", "[table]") {
    for (const char* form : {"@", "unionmap:{@}", "pipemap:{@,static:x}"}) {
        TcpServer server;
        std::string spec = form;
        spec.replace(spec.find('@'), 1, server.table());
        CAPTURE(spec);
        const TablePtr table = open_with(spec);
        Events events;
        Loop::current().run_until(slow_and_quick(server, *table, events));
        const bool piped = spec.rfind("pipemap", 0) == 0;
        CHECK(events == Events{piped ? "x" : "quick", "released", piped ? "x" : "slow"});
        CHECK(server.connections() == 2);
    }
}

TEST_CASE("lookups beyond the connections wait for their turn, and beyond that fail at once", "[table]") {
    TcpServer server;
    const TablePtr table = open_with(server.table());
    Events events;
    Loop::current().run_until(flood(server, *table, events));
    std::size_t answered = 0;
    for (const std::string& event : events) {
        answered += event.rfind("slow", 0) == 0 ? 1 : 0;
    }
    CHECK(answered == TableServer::kMaxConnections + TableServer::kMaxWaiting);
    CHECK(server.connections() == static_cast<int>(TableServer::kMaxConnections));
}

TEST_CASE("who asks a server that hangs has an error after a while, and the next one at once", "[table]") {
    TcpServer server;
    const TablePtr table = open_with(server.table(), 1);
    Events events;
    Loop::current().run_until(hang(*table, events));
    const std::string error = "error: " + server.table() + ": timeout";
    CHECK(events == Events{error, error});
    CHECK(server.questions() == 1);
}

TEST_CASE("without a loop a lookup blocks, and a connection that the server has closed is made again", "[table]") {
    TcpServer server;
    const TablePtr table = open_with(server.table(), 1);
    CHECK(text_of(table->lookup("one")) == "one");
    CHECK(text_of(table->lookup("last")) == "last");
    CHECK(text_of(table->lookup("two")) == "two");
    CHECK(server.connections() == 2);
    CHECK(text_of(table->lookup("hang")) == "error: " + server.table() + ": timeout");
}

TEST_CASE("an outage is remembered for a few seconds, then one question tries again", "[table]") {
    g_now = Outage::Clock::time_point(std::chrono::hours(1));
    Outage outage([] { return g_now; });
    int asked = 0;
    const auto in_vain = [&]() -> Result<std::string> {
        ++asked;
        g_now += std::chrono::seconds(30);
        return Error(Errc::timeout, "timeout");
    };
    const auto well = [&]() -> Result<std::string> {
        ++asked;
        return std::string("well");
    };
    CHECK_FALSE(outage.guard(in_vain).ok());
    CHECK_FALSE(outage.guard(well).ok());
    CHECK(asked == 1);
    g_now += Outage::kMemory;
    // The one that tries takes its time: others do not wait with it.
    const auto trial = [&]() -> Result<std::string> {
        CHECK_FALSE(outage.guard(well).ok());
        return in_vain();
    };
    CHECK_FALSE(outage.guard(trial).ok());
    CHECK(asked == 2);
    CHECK_FALSE(outage.guard(well).ok());
    g_now += Outage::kMemory;
    CHECK(outage.guard(well).ok());
    CHECK(outage.guard(well).ok());
    CHECK(asked == 4);
}

TEST_CASE("one question that takes too long is no outage while others are answered, nor is a quick refusal", "[table]") {
    g_now = Outage::Clock::time_point(std::chrono::hours(1));
    Outage outage([] { return g_now; });
    const auto well = []() -> Result<std::string> { return std::string("well"); };
    const auto slow = [&]() -> Result<std::string> {
        g_now += std::chrono::seconds(50);
        CHECK(outage.guard(well).ok());
        g_now += std::chrono::seconds(50);
        return Error(Errc::timeout, "timeout");
    };
    CHECK_FALSE(outage.guard(slow).ok());
    CHECK(outage.guard(well).ok());
    const auto refused = []() -> Result<std::string> { return Error(Errc::io, "refused"); };
    CHECK_FALSE(outage.guard(refused).ok());
    CHECK(outage.guard(well).ok());
}
