// smtp's way to tlsrpt: nothing waits for it, and nothing is lost that it takes.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "lib/tlsrpt/client.h"
#include "store_helpers.h"

using namespace postern;

namespace {

/// Takes connections one after another, and reads slowly.
class SlowService {
public:
    explicit SlowService(std::string path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un where{};
        where.sun_family = AF_UNIX;
        path.copy(where.sun_path, sizeof where.sun_path - 1);
        REQUIRE(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
        REQUIRE(::listen(socket_.get(), 5) == 0);
        thread_ = std::thread([this] { run(); });
    }
    ~SlowService() {
        ::shutdown(socket_.get(), SHUT_RDWR);
        thread_.join();
    }
    std::atomic<std::size_t> bytes{0};
    std::atomic<int> connections{0};

private:
    void run() {
        std::array<char, 64 * 1024> buffer{};
        for (;;) {
            const UniqueFd client(::accept(socket_.get(), nullptr, nullptr));
            if (!client) {
                return;
            }
            ++connections;
            for (ssize_t got = 1; got > 0;) {
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
                got = ::read(client.get(), buffer.data(), buffer.size());
                bytes += static_cast<std::size_t>(std::max<ssize_t>(got, 0));
            }
        }
    }
    UniqueFd socket_;
    std::thread thread_;
};

TlsrptOutcome big_outcome() {
    TlsrptOutcome out;
    out.domain = "example.com";
    out.policy_strings = {std::string(100'000, 'x')};
    return out;
}

void run_for(int milliseconds) { Loop::current().run_until(sleep_for(std::chrono::milliseconds(milliseconds))); }

}  // namespace

TEST_CASE("outcomes that come while others are being sent follow them", "[tlsrpt]") {
    const store::Scratch scratch;
    SlowService service(scratch.path() + "/tlsrpt");
    TlsrptClient client(scratch.path() + "/tlsrpt");
    constexpr int kOutcomes = 60;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kOutcomes; ++i) {
        client.tell(big_outcome());
        if (i % 5 == 4) {
            run_for(1);
        }
    }
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));
    for (int i = 0; i < 200 && service.bytes < kOutcomes * 100'000; ++i) {
        run_for(20);
    }
    CHECK(service.bytes > kOutcomes * 100'000);
    CHECK(service.bytes < kOutcomes * 100'200);
    CHECK(service.connections > 1);
}

TEST_CASE("without the service outcomes are gone, and nobody waits", "[tlsrpt]") {
    TlsrptClient client("/nonexistent/tlsrpt");
    for (int i = 0; i < 3; ++i) {
        client.tell(big_outcome());
        run_for(1);
    }
    SUCCEED();
}
