#include <catch2/catch.hpp>

#include <dirent.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "auth/pam.h"
#include "lib/base/strings.h"

using namespace postern;

namespace {

/// Processes whose parent is this one.
std::size_t children() {
    std::size_t count = 0;
    DIR* proc = opendir("/proc");
    while (const dirent* entry = readdir(proc)) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') {
            continue;
        }
        std::ifstream stat(std::string("/proc/") + entry->d_name + "/stat");
        std::string text((std::istreambuf_iterator<char>(stat)), {});
        const std::size_t close = text.rfind(')');
        if (close != std::string::npos && split(text.substr(close + 2), " ")[1] == std::to_string(::getpid())) {
            count += text[close + 2] != 'Z' ? 1 : 0;
        }
    }
    closedir(proc);
    return count;
}

/// Waits until all children have ended; false when they do not.
bool soon_alone() {
    for (int i = 0; i < 500 && children() > 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return children() == 0;
}

}  // namespace

TEST_CASE("PAM refuses who is not there, from several threads at once", "[auth]") {
    auto helper = PamHelper::start(4);
    REQUIRE(helper.ok());
    std::vector<std::thread> threads;
    std::vector<PamAnswer> answers(12);
    for (PamAnswer& answer : answers) {
        threads.emplace_back([&] { answer = (*helper)->check({"other", "postern-no-such-user", "x", "192.0.2.1"}); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (const PamAnswer& answer : answers) {
        CHECK(answer.verdict != PamVerdict::ok);
        CHECK(answer.verdict != PamVerdict::disabled);
        CHECK_FALSE(answer.text.empty());
    }
    // Nothing reaches PAM that it would cut short or that is too long.
    CHECK((*helper)->check({"other", "root", std::string("a\0b", 3), ""}).verdict == PamVerdict::mismatch);
    CHECK((*helper)->check({"other", "root", std::string(100'000, 'x'), ""}).verdict == PamVerdict::mismatch);
}

TEST_CASE("the PAM helper ends with auth", "[auth]") {
    REQUIRE(soon_alone());   // the helper of the test before takes a moment to end
    {
        auto helper = PamHelper::start(4);
        REQUIRE(helper.ok());
        CHECK(children() == 1);
    }
    CHECK(soon_alone());
}

/// Set POSTERN_TEST_PAM=service:user:password where such a user exists.
TEST_CASE("PAM lets the right password in", "[auth]") {
    const char* text = std::getenv("POSTERN_TEST_PAM");
    if (text == nullptr) {
        std::printf("skipped: POSTERN_TEST_PAM=service:user:password is not set\n");
        return;
    }
    const auto parts = split_exact(text, ':');
    REQUIRE(parts.size() == 3);
    auto helper = PamHelper::start(4);
    REQUIRE(helper.ok());
    CHECK((*helper)->check({parts[0], parts[1], parts[2], "127.0.0.1"}).verdict == PamVerdict::ok);
    const auto start = std::chrono::steady_clock::now();
    const PamAnswer wrong = (*helper)->check({parts[0], parts[1], parts[2] + "x", "127.0.0.1"});
    CHECK(wrong.verdict == PamVerdict::mismatch);
    CHECK(wrong.text == "pam_authenticate() failed: Authentication failure (Password mismatch?)");
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));   // no sleeping in PAM
}
