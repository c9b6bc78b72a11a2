/// The tokens that auth(8) gives to a front and takes from a session launcher.
#include <catch2/catch.hpp>

#include <sys/stat.h>

#include "lib/log/capture.h"
#include "t/auth_suite.h"

using namespace postern;
using namespace postern::auth_test;

TEST_CASE("a token is good once, for its service, for its owner", "[auth]") {
    Suite suite;
    LogCapture log;
    const std::string socket = suite.directory + "/auth";
    const SaslStep login = suite.run(plain(*suite.client, "ann@example.org", "pencil", peer()));
    const Result<FromAuth> found = suite.run(redeem(socket, login.token, "imap"));
    REQUIRE(found.ok());
    REQUIRE(std::holds_alternative<AuthUserFound>(*found));
    const AuthUser& user = std::get<AuthUserFound>(*found).user;
    CHECK(user.user == "ann@example.org");
    CHECK(user.uid == 1002);
    CHECK(user.gid == 1002);
    CHECK(user.home == "/home/ann");
    CHECK(user.mail_location == "mbox:/home/ann/mail");
    CHECK(user.groups == std::vector<std::uint32_t>{1002});
    CHECK(user.extra == std::vector<std::string>{"quota_rule=*:storage=1G"});
    CHECK(std::get<AuthUserFound>(*found).peer.remote_ip == "127.0.0.1");
    CHECK(reason_of(suite.run(redeem(socket, login.token, "imap"))) == AuthFailureReason::bad_token);

    const SaslStep other = suite.run(plain(*suite.client, "joe", "pencil", peer()));
    CHECK(reason_of(suite.run(redeem(socket, other.token, "pop3"))) == AuthFailureReason::bad_token);
    CHECK(reason_of(suite.run(redeem(socket, other.token, "imap"))) == AuthFailureReason::bad_token);
    CHECK(reason_of(suite.run(redeem(socket, std::string(16, 'x'), "imap"))) == AuthFailureReason::bad_token);
    CHECK(reason_of(suite.run(redeem(socket, "", "imap"))) == AuthFailureReason::bad_token);

    const SaslStep mine = suite.run(plain(*suite.client, "joe", "pencil", peer()));
    suite.trusted = false;   // a front that was taken over
    CHECK(reason_of(suite.run(redeem(socket, mine.token, "imap"))) == AuthFailureReason::bad_token);
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer("smtp"))).token.empty());
}

TEST_CASE("tokens expire, and are forgotten only then", "[auth]") {
    TokenStore tokens("key", std::chrono::seconds(60));
    const auto now = TokenStore::Clock::now();
    const std::string token = tokens.issue({"joe", peer()}, now);
    CHECK_FALSE(tokens.redeem(token, "imap", now + std::chrono::seconds(60)).has_value());
    const std::string again = tokens.issue({"joe", peer()}, now);
    CHECK(tokens.redeem(again, "imap", now + std::chrono::seconds(59)).has_value());
    tokens.expire(now + std::chrono::seconds(59));
    CHECK_FALSE(tokens.redeem(again, "imap", now + std::chrono::seconds(59)).has_value());
    CHECK(tokens.remembered() == 1);
    tokens.expire(now + std::chrono::seconds(61));
    CHECK(tokens.remembered() == 0);
    CHECK_FALSE(tokens.redeem(again, "imap", now + std::chrono::seconds(61)).has_value());
}

TEST_CASE("a token is good at every process with the instance's key, and at no other", "[auth]") {
    const auto now = TokenStore::Clock::now();
    const std::chrono::seconds lifetime(60);
    TokenStore issuer("key", lifetime), successor("key", lifetime), stranger("other", lifetime);
    AuthPeer from = peer();
    from.session_id = "abc";
    const std::string token = issuer.issue({"joe", from}, now);
    CHECK_FALSE(stranger.redeem(token, "imap", now).has_value());
    const auto login = successor.redeem(token, "imap", now);
    REQUIRE(login.has_value());
    CHECK(login->user == "joe");
    CHECK(login->peer.session_id == "abc");
    CHECK_FALSE(successor.redeem(token, "imap", now).has_value());
    const std::string other = issuer.issue({"joe", from}, now);
    for (std::size_t at = 0; at < other.size(); ++at) {
        CAPTURE(at);
        std::string changed = other;
        changed[at] = static_cast<char>(changed[at] ^ 1);
        CHECK_FALSE(issuer.redeem(changed, "imap", now).has_value());
        CHECK_FALSE(issuer.redeem(other.substr(0, at), "imap", now).has_value());
    }
    CHECK_FALSE(issuer.redeem(other + "x", "imap", now).has_value());
    CHECK(issuer.redeem(other, "imap", now).has_value());
    from.session_id.assign(TokenStore::kMaxTokenBytes, 'x');
    CHECK(issuer.issue({"joe", from}, now).empty());
}

TEST_CASE("the key of tokens is made once, and is nobody else's", "[auth]") {
    char name[] = "/tmp/postern-key-XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    const std::string directory = name;
    const std::string path = directory + "/auth_token_key";
    const Result<std::string> first = load_token_key(directory);
    const Result<std::string> second = load_token_key(directory);
    REQUIRE(first.ok());
    REQUIRE(second.ok());
    CHECK(*first == *second);
    CHECK(first->size() == 32);
    REQUIRE(::truncate(path.c_str(), 20) == 0);       // what a crash may leave
    const Result<std::string> repaired = load_token_key(directory);
    REQUIRE(repaired.ok());
    CHECK(*repaired != *first);
    CHECK(*load_token_key(directory) == *repaired);
    REQUIRE(::chmod(path.c_str(), 0644) == 0);
    CHECK(load_token_key(directory).error().code == Errc::config);
    REQUIRE(::chmod(path.c_str(), 0600) == 0);
    REQUIRE(::link(path.c_str(), (directory + "/second").c_str()) == 0);
    CHECK(load_token_key(directory).error().code == Errc::config);
    ::unlink(path.c_str());
    REQUIRE(::symlink("second", path.c_str()) == 0);
    CHECK_FALSE(load_token_key(directory).ok());
    CHECK_FALSE(load_token_key(directory + "/nowhere").ok());
    ::unlink(path.c_str());
    ::unlink((directory + "/second").c_str());
    ::rmdir(directory.c_str());
}
