/// How long logins wait after failures from their address.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include "auth/penalty.h"

using namespace postern;
using std::chrono::seconds;

namespace {

const AuthPenalty::Clock::time_point kStart = AuthPenalty::Clock::time_point{} + std::chrono::hours(100);

struct Guesser {
    AuthPenalty penalty{seconds(15), {"203.0.113.0/24"}};
    AuthPenalty::Clock::time_point now = kStart;
    int guesses = 0;

    void fail(const std::string& ip, std::string password = "") {
        password = password.empty() ? fmt::format("guess {}", ++guesses) : password;
        penalty.failed(ip, "198.51.100.1", "joe", password, now);
    }
    long wait(const std::string& ip) const { return penalty.delay(ip, "198.51.100.1", now).count(); }
};

}  // namespace

TEST_CASE("each wrong password makes the next login wait longer, up to the limit", "[auth]") {
    Guesser guesser;
    CHECK(guesser.wait("192.0.2.1") == 0);
    for (const long expected : {4, 8, 15, 15, 15}) {
        guesser.fail("192.0.2.1");
        CHECK(guesser.wait("192.0.2.1") == expected);
    }
    CHECK(guesser.wait("192.0.2.2") == 0);
    guesser.now += seconds(59);
    CHECK(guesser.wait("192.0.2.1") == 15);
    guesser.now += seconds(1);
    CHECK(guesser.wait("192.0.2.1") == 0);
    guesser.fail("192.0.2.1");
    CHECK(guesser.wait("192.0.2.1") == 4);
}

TEST_CASE("a success ends the waiting", "[auth]") {
    Guesser guesser;
    guesser.fail("192.0.2.1");
    guesser.fail("192.0.2.1");
    guesser.penalty.succeeded("192.0.2.1");
    CHECK(guesser.wait("192.0.2.1") == 0);
    CHECK(guesser.penalty.addresses() == 0);
    guesser.fail("192.0.2.1");
    CHECK(guesser.wait("192.0.2.1") == 4);
}

TEST_CASE("the same wrong password counts once, but guesses that nobody sees all count", "[auth]") {
    Guesser guesser;
    for (int i = 0; i < 20; ++i) {
        guesser.fail("192.0.2.1", "old one");
    }
    CHECK(guesser.wait("192.0.2.1") == 4);
    for (std::size_t i = 0; i < AuthPenalty::kTries; ++i) {
        guesser.fail("192.0.2.1");
    }
    CHECK(guesser.wait("192.0.2.1") == 15);
    Guesser scram;
    for (int i = 0; i < 3; ++i) {
        scram.penalty.failed("192.0.2.1", "198.51.100.1", "joe", "", scram.now);
    }
    CHECK(scram.wait("192.0.2.1") == 15);
}

TEST_CASE("an IPv6 customer is one address, an IPv4 one however it is written", "[auth]") {
    Guesser guesser;
    guesser.fail("2001:db8:1:2::1");
    guesser.fail("2001:db8:1:2:ffff::9");
    CHECK(guesser.wait("2001:db8:1:2:3:4:5:6") == 8);
    CHECK(guesser.wait("2001:db8:1:3::1") == 0);
    guesser.fail("::ffff:192.0.2.1");
    guesser.fail("::ffff:192.0.2.1");
    CHECK(guesser.wait("192.0.2.1") == 8);
    CHECK(guesser.wait("::ffff:192.0.2.2") == 0);
}

TEST_CASE("this machine and trusted networks never wait", "[auth]") {
    Guesser guesser;
    for (const char* ip : {"127.0.0.1", "127.8.8.8", "::1", "203.0.113.9", "198.51.100.1", "", "nonsense"}) {
        CAPTURE(ip);
        guesser.fail(ip);
        CHECK(guesser.wait(ip) == 0);
    }
    CHECK(guesser.penalty.addresses() == 0);
    AuthPenalty off(seconds(0), {});
    off.failed("192.0.2.1", "198.51.100.1", "joe", "x", kStart);
    CHECK(off.delay("192.0.2.1", "198.51.100.1", kStart).count() == 0);
    CHECK(off.addresses() == 0);
}

TEST_CASE("memory is bounded: the address that was quiet for longest is forgotten", "[auth]") {
    Guesser guesser;
    guesser.fail("192.0.2.1");
    guesser.fail("192.0.2.2");
    guesser.fail("192.0.2.1");
    for (std::size_t i = 0; i < AuthPenalty::kMaxAddresses - 1; ++i) {
        guesser.penalty.failed(fmt::format("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255), "198.51.100.1", "joe", "x",
                               guesser.now);
    }
    CHECK(guesser.penalty.addresses() == AuthPenalty::kMaxAddresses);
    CHECK(guesser.wait("192.0.2.1") == 8);
    CHECK(guesser.wait("192.0.2.2") == 0);
    guesser.penalty.expire(guesser.now + AuthPenalty::kMemory - seconds(1));
    CHECK(guesser.penalty.addresses() == AuthPenalty::kMaxAddresses);
    guesser.penalty.expire(guesser.now + AuthPenalty::kMemory);
    CHECK(guesser.penalty.addresses() == 0);
}
