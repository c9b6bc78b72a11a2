/// auth(8)'s master users: who may log in as somebody else, and what is told about it.
#include <catch2/catch.hpp>

#include "lib/log/capture.h"
#include "t/auth_suite.h"

using namespace postern;
using namespace postern::auth_test;

namespace {

/// The settings of a suite whose masters' database has the further words `words`.
std::string with_masters(const std::string& words = "") {
    return "auth_master_user_separator = *\nauth_verbose = yes\nauth_passdbs = { passwd-file:master=yes " + words +
           " {dir}/masters }, passwd-file:{dir}/users\n";
}

SaslStep login(Suite& suite, const std::string& user, const std::string& password) {
    return suite.run(plain(*suite.client, user, password, peer()));
}

/// PLAIN with an identity to act for (RFC 4616 section 2).
SaslStep login_for(Suite& suite, const std::string& for_user, const std::string& user, const std::string& password) {
    SaslServerSession sasl(*suite.client);
    std::optional<std::string> response = for_user + '\0' + user + '\0' + password;
    AuthPeer from = peer();
    return suite.run(sasl.start("PLAIN", std::move(response), std::move(from)));
}

bool is_refused(const SaslStep& step) {
    return step.kind == SaslStep::Kind::failure && step.reason == AuthFailureReason::bad_credentials;
}

}  // namespace

TEST_CASE("a master user logs in as another with his own password, and both names are logged", "[auth]") {
    LogCapture log;
    Suite suite(with_masters());
    const SaslStep step = login(suite, "Ann@example.org*Boss", "bosspw");
    REQUIRE(step.kind == SaslStep::Kind::success);
    CHECK(step.user == "ann@example.org");
    CHECK(step.master == "boss");
    CHECK(log.last() == "auth: passwd-file(boss,127.0.0.1,master,<s1>): Master user logging in as ann@example.org");
    const Result<FromAuth> redeemed = suite.run(redeem(suite.directory + "/auth", step.token, "imap"));
    REQUIRE(redeemed.ok());
    REQUIRE(std::holds_alternative<AuthUserFound>(*redeemed));
    CHECK(std::get<AuthUserFound>(*redeemed).user.user == "ann@example.org");
    CHECK(std::get<AuthUserFound>(*redeemed).user.uid == 1002);
    // The identity to act for says the same, and counts more.
    CHECK(login_for(suite, "ann@example.org", "boss", "bosspw").user == "ann@example.org");
    CHECK(login_for(suite, "ann@example.org", "joe*boss", "bosspw").user == "ann@example.org");
    // Whether the user exists is seen when the mail is opened.
    CHECK(login(suite, "nobody*boss", "bosspw").kind == SaslStep::Kind::success);
}

TEST_CASE("what is not a master user's password opens nobody else's mail", "[auth]") {
    LogCapture log;
    Suite suite(with_masters());
    CHECK(is_refused(login(suite, "joe*boss", "wrong")));
    CHECK(log.last() == "auth: passwd-file(boss,127.0.0.1,master,<s1>): Password mismatch");
    CHECK(is_refused(login(suite, "joe*boss", "pencil")));            // the user's own
    CHECK(is_refused(login(suite, "joe*both", "pencil")));            // an ordinary user
    CHECK(log.last() == "auth: passwd-file(both,127.0.0.1,master,<s1>): unknown user");
    CHECK(is_refused(login_for(suite, "joe", "both", "pencil")));
    CHECK(is_refused(login(suite, "boss", "bosspw")));                // a master user is no user
    CHECK(is_refused(login(suite, "joe*far", "bosspw")));             // allow_nets
    CHECK(login(suite, "joe*retired", "bosspw").reason == AuthFailureReason::disabled);
    CHECK(is_refused(login(suite, "*boss", "bosspw")));
    CHECK(log.last() == "auth: plain(?,127.0.0.1,<s1>): Master user login attempted to use empty login username (master: boss)");
    CHECK(is_refused(login(suite, "joe*", "pencil")));
    CHECK(is_refused(login(suite, "joe*boss*boss", "bosspw")));       // the second is a character like others
    CHECK(log.last().find("Username character disallowed by auth_username_chars: 0x2a") != std::string::npos);
}

TEST_CASE("who asks to act for himself is no master", "[auth]") {
    LogCapture log;
    Suite suite(with_masters());
    CHECK(is_refused(login(suite, "joe*joe", "joe-the-master")));
    const SaslStep step = login(suite, "joe*joe", "pencil");
    CHECK(step.user == "joe");
    CHECK(step.master.empty());
    CHECK(login_for(suite, "joe", "joe", "pencil").user == "joe");
    CHECK(login(suite, "both*joe", "joe-the-master").user == "both");
    CHECK(log.count("Master user logging in as both") == 1);
    CHECK(log.count("Master user logging in as joe") == 0);
}

TEST_CASE("with pass=yes a master user needs somebody who may log in", "[auth]") {
    LogCapture log;
    Suite suite(with_masters("pass=yes"));
    CHECK(login(suite, "joe*boss", "bosspw").user == "joe");
    CHECK(is_refused(login(suite, "nobody*boss", "bosspw")));
    CHECK(log.last() == "auth: passwd-file(boss,127.0.0.1,master,<s1>): Master user may not log in as nobody");
    CHECK(login(suite, "off*boss", "bosspw").reason == AuthFailureReason::disabled);
    Suite without(with_masters());
    CHECK(login(without, "off*boss", "bosspw").user == "off");
}

TEST_CASE("passwords of masters and users are remembered apart", "[auth]") {
    LogCapture log;
    Suite suite(with_masters() + "auth_cache_size = 1000000\n");
    for (int i = 0; i < 2; ++i) {
        CAPTURE(i);
        CHECK(login(suite, "joe", "pencil").user == "joe");
        CHECK(login(suite, "both*joe", "joe-the-master").master == "joe");
        CHECK(is_refused(login(suite, "both*joe", "pencil")));
        CHECK(is_refused(login(suite, "joe", "joe-the-master")));
        CHECK(is_refused(login(suite, "joe*far", "bosspw")));
    }
    CHECK(log.count("Master user logging in as both") == 2);
}

TEST_CASE("with one name in two databases of masters, what counts is what is said where the password is", "[auth]") {
    LogCapture log;
    const std::string passdbs = "auth_mechanisms = plain scram-sha-256\nauth_master_user_separator = *\nauth_passdbs = "
                                "{ passwd-file:master=yes {dir}/users }, { passwd-file:master=yes pass=yes {dir}/masters }, passwd-file:{dir}/users\n";
    for (const char* cache : {"", "auth_cache_size = 1000000\n"}) {
        CAPTURE(cache);
        Suite suite(passdbs + cache);
        CHECK(login(suite, "nobody*joe", "pencil").user == "nobody");
        for (int i = 0; i < 3; ++i) {
            CAPTURE(i);
            CHECK(login(suite, "both*joe", "joe-the-master").user == "both");
            CHECK(is_refused(login(suite, "nobody*joe", "joe-the-master")));   // pass=yes
        }
        for (int i = 0; i < 3; ++i) {
            CHECK(login(suite, "nobody*joe", "pencil").user == "nobody");
        }
    }
}

TEST_CASE("a right password from where it may not come from is not remembered as a wrong one", "[auth]") {
    LogCapture log;
    Suite suite("auth_cache_size = 1000000\nauth_cache_negative_ttl = 1h\n");
    AuthPeer near = peer();
    near.remote_ip = "192.0.2.7";
    CHECK(login(suite, "joe", "pencil").user == "joe");   // the file is known
    CHECK(is_refused(login(suite, "net", "pencil")));
    CHECK(suite.run(plain(*suite.client, "net", "pencil", near)).kind == SaslStep::Kind::success);
    CHECK(is_refused(login(suite, "net", "pencil")));
    CHECK(suite.run(plain(*suite.client, "net", "pencil", near)).kind == SaslStep::Kind::success);
}

TEST_CASE("a wrong password of a master user is a failure like others", "[auth]") {
    LogCapture log;
    Suite suite(with_masters() + "auth_failure_delay = 1s\nauth_penalty_max_delay = 1s\n");
    AuthPeer far = peer();
    far.remote_ip = "192.0.2.7";
    const auto timed = [&](const std::string& password) {
        const auto before = std::chrono::steady_clock::now();
        AuthPeer from = far;
        const SaslStep step = suite.run(plain(*suite.client, "joe*boss", password, std::move(from)));
        return std::pair(step.kind, std::chrono::steady_clock::now() - before >= std::chrono::milliseconds(950));
    };
    CHECK(timed("wrong") == std::pair(SaslStep::Kind::failure, true));    // auth_failure_delay
    CHECK(timed("bosspw") == std::pair(SaslStep::Kind::success, true));   // the penalty
    CHECK(timed("bosspw") == std::pair(SaslStep::Kind::success, false));
}

TEST_CASE("without a separator or a database of masters there are none", "[auth]") {
    LogCapture log;
    Suite no_separator("auth_passdbs = { passwd-file:master=yes {dir}/masters }, passwd-file:{dir}/users\n");
    CHECK(is_refused(login(no_separator, "joe*boss", "bosspw")));
    CHECK(login_for(no_separator, "joe", "boss", "bosspw").user == "joe");
    Suite no_masters("auth_master_user_separator = *\nauth_verbose = yes\n");
    CHECK(is_refused(login(no_masters, "joe*joe2", "pencil")));
    CHECK(log.last() == "auth: joe2(127.0.0.1,master,<s1>): No password database with master=yes");
    CHECK(is_refused(login_for(no_masters, "both", "joe", "pencil")));
    CHECK(login(no_masters, "joe", "pencil").user == "joe");
}

TEST_CASE("settings of master users are checked", "[auth]") {
    const auto error = [](const std::string& settings) {
        const Result<Config> config = Config::from_text(settings);
        REQUIRE(config.ok());
        const auto opened = Databases::open(*config);
        return opened ? std::string() : opened.error().what;
    };
    CHECK(error("auth_passdbs = { static:password=x master=yes }\n").empty());
    CHECK(error("auth_passdbs = { static:password=x master=maybe }\n").find("master= is neither yes nor no") != std::string::npos);
    CHECK(error("auth_passdbs = static:password=x\nauth_userdbs = { passwd-file:master=yes /x }\n").find("auth_userdbs") !=
          std::string::npos);
    CHECK(error("auth_passdbs = static:password=x\nauth_master_user_separator = **\n") ==
          "parameter auth_master_user_separator: \"**\" is more than one character");
}
