/// What session processes of IMAP and POP3 share: the sessions they serve, and which mail they open.
#include <catch2/catch.hpp>
#include <functional>
#include <memory>

#include "lib/config/config.h"
#include "lib/login/running_session.h"
#include "lib/login/session_account.h"

using namespace postern;

namespace {

struct FakeSession {
    std::function<void()> stop;
};

}  // namespace

TEST_CASE("sessions are told to stop while they are served", "[login]") {
    int told = 0;
    FakeSession first{[&] { ++told; }}, second{[&] { told += 10; }};
    const RunningSession<FakeSession> running(first);
    {
        const RunningSession<FakeSession> other(second);
        RunningSession<FakeSession>::stop_all();
        CHECK(told == 11);
    }
    RunningSession<FakeSession>::stop_all();
    CHECK(told == 12);
}

TEST_CASE("a session that ends with another is not told any more", "[login]") {
    int told = 0;
    FakeSession sessions[2];
    std::unique_ptr<RunningSession<FakeSession>> running[2];
    for (int i = 0; i < 2; ++i) {
        sessions[i].stop = [&] {
            ++told;
            running[0].reset();
            running[1].reset();
        };
        running[i] = std::make_unique<RunningSession<FakeSession>>(sessions[i]);
    }
    RunningSession<FakeSession>::stop_all();
    CHECK(told == 1);
}

TEST_CASE("a user's own place for mail goes before mail_location", "[login]") {
    const Config config = Config::defaults();
    AuthUser user;
    user.user = "a@b.example";
    user.home = "/home/a";
    CHECK(session_account(user, config, "imap").location == config.mail_location());
    user.mail_location = "mbox:/var/mail/a";
    const store::AccountOptions options = session_account(user, config, "imap");
    CHECK(options.location == "mbox:/var/mail/a");
    CHECK(options.user == "a@b.example");
    CHECK(options.home == "/home/a");
}
