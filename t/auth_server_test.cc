/// auth(8)'s conversation.
#include <catch2/catch.hpp>

#include <gsasl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>

#include "lib/log/capture.h"
#include "lib/sasl/password_scheme.h"
#include "t/auth_suite.h"

using namespace postern;
using namespace postern::auth_test;

TEST_CASE("PLAIN lets the right password in and nothing else", "[auth]") {
    Suite suite("auth_verbose = yes");
    LogCapture log;
    SaslStep good = suite.run(plain(*suite.client, "JOE", "pencil", peer()));
    CHECK(good.kind == SaslStep::Kind::success);
    CHECK(good.user == "joe");
    CHECK(good.token.size() > 32);   // an authenticator and what it is for
    CHECK(suite.run(plain(*suite.client, "ann@example.org", "pencil", peer())).kind == SaslStep::Kind::success);
    for (const auto& [user, password] : {std::pair{"joe", "Pencil"}, {"joe", ""}, {"nobody", "pencil"},
                                         {"ann@example.org", "x"}, {"joe/../joe", "pencil"}, {"j\xc3\xb6", "x"}}) {
        const SaslStep bad = suite.run(plain(*suite.client, user, password, peer()));
        CAPTURE(user);
        CHECK(bad.kind == SaslStep::Kind::failure);
        CHECK(bad.reason == AuthFailureReason::bad_credentials);
        CHECK(bad.user == user);
    }
    CHECK(log.count("auth: passwd-file(joe,127.0.0.1,<s1>): Password mismatch") > 0);
    CHECK(log.count("auth: passwd-file(nobody,127.0.0.1,<s1>): unknown user") > 0);
}

TEST_CASE("a wrong password is logged only as auth_verbose_passwords asks", "[auth]") {
    const auto logged = [](const std::string& settings) {
        Suite suite(settings);
        LogCapture log;
        suite.run(plain(*suite.client, "joe", "Pencils", peer()));
        suite.run(plain(*suite.client, "joe", "pencil", peer()));
        suite.run(plain(*suite.client, "nobody", "pencil", peer()));
        CHECK(log.count("pencil") == 0);
        std::string lines;
        for (const std::string& line : log.lines()) {
            lines += line.find("mismatch") != std::string::npos ? line : "";
        }
        return lines;
    };
    const std::string head = "auth: passwd-file(joe,127.0.0.1,<s1>): Password mismatch";
    CHECK(logged("auth_verbose_passwords = plain").empty());   // without auth_verbose nothing is logged at all
    CHECK(logged("auth_verbose = yes") == head);
    CHECK(logged("auth_verbose = yes\nauth_verbose_passwords = plain") == head + " (given password: Pencils)");
    CHECK(logged("auth_verbose = yes\nauth_verbose_passwords = plain:3") == head + " (given password: Pen)");
    CHECK(logged("auth_verbose = yes\nauth_verbose_passwords = sha1") ==
          head + " (SHA1 of given password: 15df500896990e970809214ecda1c4ccf0392adc)");
    CHECK(logged("auth_verbose = yes\nauth_verbose_passwords = sha1:6") == head + " (SHA1 of given password: 15df50)");
    for (const char* wrong : {"yes", "sha1:", "sha1:0", "no:3", "plain:x", "md5"}) {
        CHECK_FALSE(Config::from_text(std::string("auth_verbose_passwords = ") + wrong + "\n"));
    }
}

TEST_CASE("auth_debug tells the steps of a log-in, without passwords", "[auth]") {
    Suite suite("auth_debug = yes");
    LogCapture log;
    suite.run(plain(*suite.client, "joe", "pencil", peer()));
    suite.run(plain(*suite.client, "joe", "Pencils", peer()));
    CHECK(log.count("auth: Debug: log-in by PLAIN: service=") == 2);
    CHECK(log.count("auth: Debug: passwd-file(joe,127.0.0.1,<s1>): accepted") == 1);
    CHECK(log.count("auth: Debug: passwd-file(joe,127.0.0.1,<s1>): refused") == 1);
    CHECK(log.count("auth: Debug: user joe logged in: session=<s1>") == 1);
    CHECK(log.count("encil") == 0);
}

TEST_CASE("accounts that are off, elsewhere or broken fail each in its way", "[auth]") {
    Suite suite;
    LogCapture log;
    const SaslStep off = suite.run(plain(*suite.client, "off", "pencil", peer()));
    CHECK(off.reason == AuthFailureReason::disabled);
    CHECK(off.text == "Gone");
    CHECK(suite.run(plain(*suite.client, "off", "wrong", peer())).reason == AuthFailureReason::bad_credentials);
    CHECK(suite.run(plain(*suite.client, "net", "pencil", peer())).reason == AuthFailureReason::bad_credentials);
    AuthPeer near = peer();
    near.remote_ip = "192.0.2.77";
    CHECK(suite.run(plain(*suite.client, "net", "pencil", near)).kind == SaslStep::Kind::success);
    near.remote_ip = "2001:db8::5";
    CHECK(suite.run(plain(*suite.client, "net", "pencil", near)).kind == SaslStep::Kind::success);
    CHECK(suite.run(plain(*suite.client, "odd", "pencil", peer())).reason == AuthFailureReason::temporary);
    CHECK(log.count("Unknown scheme ROT13") > 0);
    CHECK(suite.run(plain(*suite.client, "away", "pencil", peer())).reason == AuthFailureReason::temporary);
    CHECK(log.count("names another server") > 0);
}

TEST_CASE("nopassword counts only where there is no password", "[auth]") {
    Suite suite;
    CHECK(suite.run(plain(*suite.client, "any", "whatever", peer())).kind == SaslStep::Kind::success);
    CHECK(suite.run(plain(*suite.client, "both", "pencil", peer())).kind == SaslStep::Kind::success);
    CHECK(suite.run(plain(*suite.client, "both", "whatever", peer())).reason == AuthFailureReason::bad_credentials);
}

TEST_CASE("uid and gid may be names of the system", "[auth]") {
    Suite suite;
    const Result<AuthUser> named = suite.run(suite.databases->find_user("named", "imap"));
    REQUIRE(named.ok());
    CHECK(named->uid == 0);
    CHECK(named->gid == 0);
    CHECK_FALSE(suite.run(suite.databases->find_user("nosuch", "imap")).ok());
}

TEST_CASE("nobody acts for somebody else, and junk is called malformed", "[auth]") {
    Suite suite;
    SaslServerSession sasl(*suite.client);
    std::optional<std::string> response = std::string("ann@example.org\0joe\0pencil", 26);
    CHECK(suite.run(sasl.start("PLAIN", response, peer())).reason == AuthFailureReason::bad_credentials);
    for (const std::string& junk : {std::string("joe"), std::string("\0joe", 4), std::string("\0joe\0pen\0cil", 13),
                                    std::string("\0\0pencil", 8)}) {
        SaslServerSession other(*suite.client);
        response = junk;
        const SaslStep step = suite.run(other.start("PLAIN", response, peer()));
        CHECK(step.kind == SaslStep::Kind::failure);
        CHECK(step.reason != AuthFailureReason::temporary);
    }
    SaslServerSession unknown(*suite.client);
    response = "";
    CHECK(suite.run(unknown.start("CRAM-MD5", response, peer())).reason == AuthFailureReason::bad_mechanism);
    SaslServerSession huge(*suite.client);
    response = std::string(kMaxSaslMessage + 1, 'x');
    CHECK(suite.run(huge.start("PLAIN", response, peer())).reason == AuthFailureReason::malformed);
}

TEST_CASE("PLAIN without an initial response and LOGIN ask", "[auth]") {
    Suite suite;
    SaslServerSession sasl(*suite.client);
    SaslStep step = suite.run(sasl.start("plain", std::nullopt, peer()));
    CHECK(step.kind == SaslStep::Kind::challenge);
    CHECK(step.data.empty());
    CHECK(suite.run(sasl.next(plain_response("joe", "pencil"))).kind == SaslStep::Kind::success);

    SaslServerSession empty(*suite.client);   // an empty initial response is one: it is not asked again
    std::optional<std::string> nothing = std::string();
    CHECK(suite.run(empty.start("PLAIN", nothing, peer())).reason == AuthFailureReason::malformed);

    SaslServerSession login(*suite.client);
    step = suite.run(login.start("LOGIN", std::nullopt, peer()));
    CHECK(step.data == "Username:");
    step = suite.run(login.next("joe"));
    CHECK(step.data == "Password:");
    step = suite.run(login.next("pencil"));
    CHECK(step.kind == SaslStep::Kind::success);

    SaslServerSession with_initial(*suite.client);
    std::optional<std::string> user = "joe";
    step = suite.run(with_initial.start("LOGIN", user, peer()));
    CHECK(step.data == "Password:");
    step = suite.run(with_initial.next("wrong"));
    CHECK(step.reason == AuthFailureReason::bad_credentials);
    // The exchange is over: going on is an error, not a second chance.
    step = suite.run(with_initial.next("pencil"));
    CHECK(step.kind == SaslStep::Kind::failure);
}

namespace {

int client_callback(Gsasl*, Gsasl_session*, Gsasl_property) { return GSASL_NO_CALLBACK; }

/// GNU SASL's client against our server, step by step.
Task<SaslStep> scram(AuthClient& auth, std::string mechanism, std::string user, std::string password,
                     std::string* first_challenge, AuthPeer from = peer()) {
    Gsasl* library = nullptr;
    Gsasl_session* session = nullptr;
    gsasl_init(&library);
    gsasl_callback_set(library, client_callback);
    gsasl_client_start(library, mechanism.c_str(), &session);
    gsasl_property_set(session, GSASL_AUTHID, user.c_str());
    gsasl_property_set(session, GSASL_PASSWORD, password.c_str());
    char* out = nullptr;
    std::size_t size = 0;
    gsasl_step(session, "", 0, &out, &size);
    std::optional<std::string> message = std::string(out, size);
    gsasl_free(out);
    SaslServerSession server(auth);
    SaslStep step = co_await server.start(mechanism, std::move(message), std::move(from));
    if (first_challenge != nullptr) {
        *first_challenge = step.data;
    }
    while (step.kind == SaslStep::Kind::challenge) {
        out = nullptr;
        size = 0;
        const int code = gsasl_step(session, step.data.data(), step.data.size(), &out, &size);
        if (code != GSASL_OK && code != GSASL_NEEDS_MORE) {
            step.text = "client refuses the server";
            break;
        }
        std::string response(out != nullptr ? out : "", size);
        gsasl_free(out);
        step = co_await server.next(std::move(response));
    }
    gsasl_finish(session);
    gsasl_done(library);
    co_return step;
}

std::string salt_in(const std::string& challenge) {
    const std::size_t at = challenge.find(",s=");
    return challenge.substr(at, challenge.find(",i=") - at);
}

}  // namespace

TEST_CASE("SCRAM works with plain and kept passwords, and proves the server too", "[auth]") {
    Suite suite;
    for (const char* mechanism : {"SCRAM-SHA-256", "SCRAM-SHA-1"}) {
        CAPTURE(mechanism);
        const SaslStep good = suite.run(scram(*suite.client, mechanism, "joe", "pencil", nullptr));
        CHECK(good.kind == SaslStep::Kind::success);
        CHECK(good.user == "joe");
        const SaslStep bad = suite.run(scram(*suite.client, mechanism, "joe", "wrong", nullptr));
        CHECK(bad.kind == SaslStep::Kind::failure);
        CHECK(bad.reason == AuthFailureReason::bad_credentials);
    }
    std::string challenge;
    CHECK(suite.run(scram(*suite.client, "SCRAM-SHA-256", "kept", "pencil", &challenge)).kind ==
          SaslStep::Kind::success);
    CHECK(challenge.find("s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") != std::string::npos);
    CHECK(suite.run(scram(*suite.client, "SCRAM-SHA-1", "kept", "pencil", nullptr)).kind == SaslStep::Kind::failure);
    CHECK(suite.run(scram(*suite.client, "SCRAM-SHA-256", "off", "pencil", nullptr)).reason ==
          AuthFailureReason::disabled);
}

TEST_CASE("a master user proves the password of his own by SCRAM", "[auth]") {
    Suite suite("auth_master_user_separator = *\nauth_passdbs = { passwd-file:master=yes {dir}/masters }, passwd-file:{dir}/users\n");
    for (const char* mechanism : {"SCRAM-SHA-256", "SCRAM-SHA-1"}) {
        const SaslStep step = suite.run(scram(*suite.client, mechanism, "ann@example.org*boss", "bosspw", nullptr));
        CHECK(step.kind == SaslStep::Kind::success);
        CHECK(step.user == "ann@example.org");
        CHECK(step.master == "boss");
        CHECK(suite.run(scram(*suite.client, mechanism, "joe*boss", "pencil", nullptr)).reason == AuthFailureReason::bad_credentials);
        CHECK(suite.run(scram(*suite.client, mechanism, "joe*far", "bosspw", nullptr)).reason == AuthFailureReason::bad_credentials);
        CHECK(suite.run(scram(*suite.client, mechanism, "boss", "bosspw", nullptr)).reason == AuthFailureReason::bad_credentials);
        CHECK(suite.run(scram(*suite.client, mechanism, "joe", "pencil", nullptr)).master.empty());
    }
}

TEST_CASE("ANONYMOUS is offered when it is asked for, and is auth_anonymous_username", "[auth]") {
    const auto anonymous = [](Suite& suite, std::optional<std::string> trace, AuthPeer from = peer()) {
        SaslServerSession sasl(*suite.client);
        SaslStep step = suite.run(sasl.start("ANONYMOUS", trace, std::move(from)));
        if (step.kind == SaslStep::Kind::challenge) {
            step = suite.run(sasl.next("later"));
        }
        return step;
    };
    Suite without;
    CHECK(anonymous(without, "x").reason == AuthFailureReason::bad_mechanism);
    LogCapture log;
    Suite suite("auth_mechanisms = anonymous plain\nauth_anonymous_username = joe\nauth_failure_delay = 1s\nauth_penalty_max_delay = 1s\n");
    CHECK(suite.server->mechanisms() == std::vector<std::string>{"PLAIN", "ANONYMOUS"});
    const SaslStep step = anonymous(suite, "me@example.org\n");
    CHECK(step.kind == SaslStep::Kind::success);
    CHECK(step.user == "joe");
    CHECK(log.last().find("auth: anonymous(me@example.org") == 0);
    CHECK(log.last().find('\n') == std::string::npos);
    CHECK(std::holds_alternative<AuthUserFound>(*suite.run(redeem(suite.directory + "/auth", step.token, "imap"))));
    CHECK(anonymous(suite, "").kind == SaslStep::Kind::success);
    CHECK(anonymous(suite, std::nullopt).kind == SaslStep::Kind::success);
    CHECK(log.count("auth: anonymous(later,127.0.0.1,<s1>): login") == 1);
    CHECK(anonymous(suite, std::string(1021, 'x')).reason == AuthFailureReason::malformed);
    CHECK(anonymous(suite, std::string("a\0b", 3)).reason == AuthFailureReason::malformed);
    // Being nobody does not make up for a wrong password.
    AuthPeer far = peer();
    far.remote_ip = "192.0.2.9";
    AuthPeer from = far;
    CHECK(suite.run(plain(*suite.client, "joe", "wrong", std::move(from))).kind == SaslStep::Kind::failure);
    from = far;
    CHECK(anonymous(suite, "x", std::move(from)).kind == SaslStep::Kind::success);
    const auto before = std::chrono::steady_clock::now();
    from = far;
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", std::move(from))).kind == SaslStep::Kind::success);
    CHECK(std::chrono::steady_clock::now() - before >= std::chrono::milliseconds(950));
}

TEST_CASE("mail_index_path is where indexes are, unless a location says it", "[auth]") {
    Suite suite("mail_location = maildir:~/Maildir\nmail_index_path = /var/index/%d/%n\n");
    CHECK(suite.run(suite.databases->find_user("joe", "imap"))->mail_location == "maildir:/home/joe/Maildir:INDEX=/var/index//joe");
    CHECK(suite.run(suite.databases->find_user("ann@example.org", "imap"))->mail_location ==
          "mbox:/home/ann/mail:INDEX=/var/index/example.org/ann");
    Suite home("mail_location = maildir:~/Maildir:INDEX=~/i\nmail_index_path = ~/index\n");
    CHECK(home.run(home.databases->find_user("joe", "imap"))->mail_location == "maildir:/home/joe/Maildir:INDEX=/home/joe/i");
    CHECK(home.run(home.databases->find_user("ann@example.org", "imap"))->mail_location == "mbox:/home/ann/mail:INDEX=/home/ann/index");
    Suite plain_location("mail_location = maildir:~/Maildir\n");
    CHECK(plain_location.run(plain_location.databases->find_user("joe", "imap"))->mail_location == "maildir:/home/joe/Maildir");
    Suite bad("mail_index_path = /var/%y\n");
    CHECK(bad.run(bad.databases->find_user("joe", "imap")).error().what.find("parameter mail_index_path: ") == 0);
}

TEST_CASE("SCRAM does not tell who exists", "[auth]") {
    Suite suite;
    std::string first, second, known;
    CHECK(suite.run(scram(*suite.client, "SCRAM-SHA-256", "nobody", "x", &first)).reason ==
          AuthFailureReason::bad_credentials);
    CHECK(suite.run(scram(*suite.client, "SCRAM-SHA-256", "nobody", "x", &second)).reason ==
          AuthFailureReason::bad_credentials);
    suite.run(scram(*suite.client, "SCRAM-SHA-256", "joe", "x", &known));
    CHECK(salt_in(first) == salt_in(second));
    CHECK(salt_in(first).size() == salt_in(known).size());
    CHECK(salt_in(first) != salt_in(known));
}

TEST_CASE("what had no answer when auth ended is asked again", "[auth]") {
    Suite suite;
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::success);
    suite.server->drain();                            // ends the connection before the client can know
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::success);
    suite.server->drain();
    CHECK(suite.run(suite.client->lookup("joe", "lmtp")).ok());
    suite.server->drain();
    CHECK(suite.run(suite.client->mechanisms()).ok());
}

TEST_CASE("after a wrong password the next login from that address waits, also with the right one", "[auth]") {
    Suite suite("auth_penalty_max_delay = 2");
    int address = 9;
    AuthPeer far = peer();
    far.remote_ip = "198.51.100.9";
    const auto seconds_for = [&suite](const std::string& password, const AuthPeer& from) {
        const auto start = std::chrono::steady_clock::now();
        suite.run(plain(*suite.client, "joe", password, from));
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    // A busy machine can delay an answer, but not each of several; a penalty does.
    const auto without_penalty = [&seconds_for](const std::string& password, const auto& next_peer) {
        bool at_once = false;
        for (int i = 0; i < 5 && !at_once; ++i) {
            at_once = seconds_for(password, next_peer()) < 1.9;
        }
        return at_once;
    };
    CHECK(without_penalty("wrong", [&] {   // each from an address that has not been heard of
        far.remote_ip = "198.51.100." + std::to_string(++address);
        return far;
    }));
    CHECK(seconds_for("guess", far) >= 1.99);
    CHECK(without_penalty("guess", [] { return peer(); }));   // from this machine
    CHECK(seconds_for("pencil", far) >= 1.99);
    CHECK(without_penalty("pencil", [&] { return far; }));   // a success ends it
    const auto start = std::chrono::steady_clock::now();
    suite.run(scram(*suite.client, "SCRAM-SHA-256", "joe", "wrong", nullptr, far));
    suite.run(scram(*suite.client, "SCRAM-SHA-256", "joe", "pencil", nullptr, far));
    CHECK(std::chrono::steady_clock::now() - start >= Millis(1990));
}

TEST_CASE("the time of a refusal does not tell who exists", "[auth]") {
    Suite suite("auth_failure_delay = 1");
    const auto begin = std::chrono::steady_clock::now();
    REQUIRE(make_password("PBKDF2", "pencil", 20'000));
    const std::chrono::duration<double> cost = std::chrono::steady_clock::now() - begin;
    const int rounds = std::clamp(static_cast<int>(20'000 * 0.25 / cost.count()), 2'000, 5'000'000);   // a quarter of a second
    std::ofstream(suite.directory + "/users", std::ios::app)
        << "slow:{PBKDF2}$1$0123456789abcdef$" << rounds << "$" << std::string(40, '0') << ":1007:1007::/home/slow\n";
    const auto seconds_for = [&suite](const std::string& user) {
        const auto start = std::chrono::steady_clock::now();
        const SaslStep step = suite.run(plain(*suite.client, user, "wrong", peer()));
        CHECK(step.reason == AuthFailureReason::bad_credentials);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    // A busy machine can delay one answer, but a delay that comes of the hash is always there.
    double difference = 1;
    for (int i = 0; i < 5 && difference > 0.1; ++i) {
        const double known = seconds_for("slow");
        const double unknown = seconds_for("nobody");
        CHECK(unknown >= 0.99);
        difference = known - unknown;
    }
    CHECK(difference <= 0.1);
}

TEST_CASE("heavy hashes wait for each other, and nobody else for them", "[auth]") {
    Suite suite;
    suite.client = std::make_unique<AuthClient>(suite.directory + "/auth", std::chrono::minutes(5));   // however busy the machine is
    LogCapture log;
    // About a third of a second each; with a thread for each of them they would all be done at about the same time.
    const std::string heavy = "{PBKDF2}$1$0123456789abcdef$1000001$" + std::string(40, '0');
    const std::string expensive = *make_password("PBKDF2", "pencil", 20'000);
    std::ofstream(suite.directory + "/users", std::ios::app)
        << "slow:" << heavy << ":1007:1007::/home/slow\nusual:" << expensive << ":1008:1008::/home/usual\n"
        << "huge:{PBKDF2}$1$0123456789abcdef$99000000$" << std::string(40, '0') << ":1009:1009::/home/huge\n";
    const auto log_in = [](Suite& at, std::size_t& done) -> Task<> {
        AuthPeer who = peer();
        const SaslStep step = co_await plain(*at.client, "slow", "wrong", std::move(who));
        done += step.kind == SaslStep::Kind::failure ? 1 : 0;
    };
    std::size_t done = 0;
    constexpr std::size_t kMany = 36;   // more than there are threads
    for (std::size_t i = 0; i < kMany; ++i) {
        spawn(log_in(suite, done));
    }
    suite.run(sleep_for(Millis(100)));
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::success);
    CHECK(suite.run(plain(*suite.client, "usual", "pencil", peer())).kind == SaslStep::Kind::success);
    CHECK(done < kMany / 2);
    const SaslStep refused = suite.run(plain(*suite.client, "huge", "pencil", peer()));
    CHECK(refused.reason == AuthFailureReason::temporary);
    CHECK(log.count("the password's hash wants 99000000 rounds; more than 10000000 are refused") == 1);
    while (done < kMany) {
        suite.run(sleep_for(Millis(20)));
    }
}

TEST_CASE("users can be looked up without a password", "[auth]") {
    Suite suite;
    const Result<AuthUser> joe = suite.run(suite.client->lookup("Joe", "lmtp"));
    REQUIRE(joe.ok());
    CHECK(joe->uid == 1000);
    CHECK(joe->mail_location == "maildir:/home/joe/Maildir");
    CHECK(suite.run(suite.client->lookup("nobody", "lmtp")).error().code == Errc::not_found);
    CHECK(*suite.run(suite.client->mechanisms()) ==
          std::vector<std::string>{"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"});
}

TEST_CASE("when auth is not there the answer is temporary", "[auth]") {
    AuthClient nowhere("/tmp/postern-no-such-socket", Millis(1000));
    const SaslStep step = Loop::current().run_until(plain(nowhere, "joe", "pencil", peer()));
    CHECK(step.kind == SaslStep::Kind::failure);
    CHECK(step.reason == AuthFailureReason::temporary);
}

TEST_CASE("settings that cannot work are refused by name", "[auth]") {
    const auto open = [](const std::string& text) {
        Result<Config> config = Config::from_text(text);
        REQUIRE(config.ok());
        auto databases = Databases::open(*config);
        if (!databases) {
            return databases.error().what;
        }
        auto server = AuthServer::create(*config, **databases, random_bytes(32));
        return server ? std::string("accepted") : server.error().what;
    };
    CHECK(open("auth_passdbs = ldap:x").find("parameter auth_passdbs: ") == 0);
    CHECK(open("auth_passdbs = passwd-file:relative").find("no absolute file name") != std::string::npos);
    CHECK(open("auth_passdbs = static:\nauth_userdbs=passwd:").find("needs password=") != std::string::npos);
    CHECK(open("auth_passdbs = static:password=x\nauth_userdbs = pam:").find("parameter auth_userdbs: ") == 0);
    CHECK(open("auth_passdbs = static:password=x\nauth_mechanisms = plain gssapi").find("auth_mechanisms: gssapi") !=
          std::string::npos);
    CHECK(open("auth_passdbs = static:password=x\nauth_username_format = %q").find("auth_username_format") !=
          std::string::npos);
    CHECK(open("auth_passdbs = { static:password=x nologin=y }, { passwd-file:scheme=PLAIN username_format=%n /x }\n"
               "auth_userdbs = { static:uid=500 gid=500 home=/var/mail/%d/%n }") == "accepted");
}

TEST_CASE("the password cache remembers pairs, not passwords, and forgets with the file", "[auth]") {
    using Known = PasswordCache::Known;
    const auto now = PasswordCache::Clock::now();
    PasswordCache cache(10'000, std::chrono::seconds(60), std::chrono::seconds(30));
    CHECK_FALSE(cache.find("joe", "a", now));
    cache.remember("joe", "a", Known::bad, now);
    CHECK(cache.find("joe", "a", now) == Known::bad);
    CHECK_FALSE(cache.find("joe", "b", now));
    CHECK_FALSE(cache.find("ann", "a", now));
    CHECK_FALSE(cache.find("joe", "a", now + std::chrono::seconds(31)));
    cache.remember("joe", "b", Known::good, now);
    cache.remember("joe", "c", Known::good, now);
    CHECK_FALSE(cache.find("joe", "b", now));   // the password was changed
    CHECK(cache.find("joe", "c", now) == Known::good);
    for (int i = 0; i < 1000; ++i) {
        cache.remember("user" + std::to_string(i), "x", Known::good, now);
    }
    CHECK(cache.entries() < 40);
    PasswordCache off(0, std::chrono::seconds(60), std::chrono::seconds(60));
    off.remember("joe", "a", Known::good, now);
    CHECK_FALSE(off.find("joe", "a", now));
}

TEST_CASE("a password that was changed while it was checked is not remembered", "[auth]") {
    Suite suite("auth_cache_size = 1000000");
    suite.client = std::make_unique<AuthClient>(suite.directory + "/auth", std::chrono::minutes(5));   // however busy the machine is
    const std::string hash = *make_password("PBKDF2", "pencil", 4'000'000);
    const auto write_users = [&suite](const std::string& password) {
        std::ofstream(suite.directory + "/users") << kUsers << "slow:" << password << ":1007:1007::/home/slow\n";
    };
    write_users(hash);
    std::optional<SaslStep> first;
    const auto log_in = [](Suite& at, std::optional<SaslStep>& step) -> Task<> {
        AuthPeer who = peer();
        step = co_await plain(*at.client, "slow", "pencil", std::move(who));
    };
    spawn(log_in(suite, first));
    suite.run(sleep_for(Millis(1100)));                        // files are looked at once a second
    if (first) {
        WARN("skipped: this machine is too fast");
        return;
    }
    write_users("{PLAIN}other");
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::success);
    while (!first) {
        suite.run(sleep_for(Millis(20)));
    }
    CHECK(first->kind == SaslStep::Kind::success);             // it was right when it was asked
    CHECK(suite.run(plain(*suite.client, "slow", "pencil", peer())).kind == SaslStep::Kind::failure);
}

TEST_CASE("with the cache a changed passwd-file counts at once", "[auth]") {
    Suite suite("auth_cache_size = 100000");
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::success);
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::success);
    CHECK(suite.run(plain(*suite.client, "joe", "other", peer())).kind == SaslStep::Kind::failure);
    std::ofstream(suite.directory + "/users") << "joe:{PLAIN}other:1000:1001::/home/joe\n";
    suite.run(sleep_for(Millis(1100)));
    CHECK(suite.run(plain(*suite.client, "joe", "pencil", peer())).kind == SaslStep::Kind::failure);
    CHECK(suite.run(plain(*suite.client, "joe", "other", peer())).kind == SaslStep::Kind::success);
}
