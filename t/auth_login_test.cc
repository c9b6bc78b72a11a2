/// Log-ins, all the way: t/login_suite.h.
#include <catch2/catch.hpp>

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "lib/base/sanitizer.h"
#include "lib/log/capture.h"
#include "lib/login/log_format.h"
#include "lib/login/networks.h"
#include "t/login_suite.h"

using namespace postern;
using namespace postern::login_test;

TEST_CASE("a client in the clear is handed to a session process with the user's uid", "[login]") {
    LogCapture log;
    Client client;
    const std::string greeting = client.ask("joe pencil");
    CHECK(greeting.find("tag1 OK user=joe uid=" + std::to_string(suite().uid) + " gid=" + std::to_string(suite().uid)) ==
          0);
    CHECK(greeting.find("tls=false rip=192.0.2.1") != std::string::npos);
    CHECK(pid_in(greeting) != std::to_string(::getpid()));
    CHECK(client.ask("hello") == "hello");
    REQUIRE(log.count("imap-login: Login: user=<joe>, method=PLAIN, rip=192.0.2.1, lip=192.0.2.1, mpid=" +
                      pid_in(greeting) + ", secured, session=<") == 1);
    client.stream->write("quit\r\n");
    CHECK(client.next() == "<lost connection>");
}

TEST_CASE("what the front had read already reaches the session", "[login]") {
    Client client;
    client.stream->write("joe pencil\r\nfirst\r\nsecond\r\n");
    CHECK(client.next().find("tag1 OK") == 0);
    CHECK(client.next() == "first");
    CHECK(client.next() == "second");
}

TEST_CASE("one process serves all connections of a user and no other user's", "[login]") {
    Client a, b, c;
    const std::string first = pid_in(a.ask("joe pencil"));
    CHECK(pid_in(b.ask("joe pencil")) == first);
    CHECK(pid_in(c.ask("ann pencil")) != first);
    CHECK(a.ask("x") == "x");
    CHECK(b.ask("y") == "y");
    CHECK(c.ask("z") == "z");
}

TEST_CASE("a session process that dies takes only its user's sessions along", "[login]") {
    Client joe, ann;
    const std::string before = pid_in(joe.ask("joe pencil"));
    const std::string other = ann.ask("ann pencil");
    CHECK(joe.ask("crash") == "<lost connection>");
    CHECK(ann.ask("still here") == "still here");
    Client again;
    const std::string after = again.ask("joe pencil");
    CHECK(after.find("tag1 OK") == 0);
    CHECK(pid_in(after) != before);
}

TEST_CASE("an idle session process ends after session_process_idle_limit", "[login]") {
    std::string pid;
    {
        Client client;
        pid = pid_in(client.ask("ann pencil"));
        client.stream->write("quit\r\n");
        client.next();
    }
    bool gone = false;
    for (int i = 0; i < 60 && !gone; ++i) {
        suite().run(sleep_for(Millis(100)));
        gone = ::kill(std::atoi(pid.c_str()), 0) != 0;
    }
    CHECK(gone);
}

TEST_CASE("a session process may write where its user's mail is, and nowhere else", "[login]") {
    Client client;
    CHECK(client.ask("joe pencil").find("tag1 OK") == 0);
    CHECK(client.ask("write " + suite().home + "/joe/file") == "written");
    if (kSanitizer || landlock_version() == 0) {
        std::printf("skipped: no Landlock in this kernel or under sanitizers\n");
        return;
    }
    CHECK(client.ask("write " + suite().home + "/ann/file") == "not written");   // same uid: Landlock's doing
    CHECK(client.ask("write /tmp/postern-login-escape") == "not written");
}

TEST_CASE("forged, used and foreign tokens get no session", "[login]") {
    const auto refused = [](const FromLauncher& answer) {
        const auto* no = std::get_if<NotHandedOver>(&answer);
        return no != nullptr ? static_cast<int>(no->reason) : 0;
    };
    CHECK(refused(suite().run(hand_over_directly(""))) == static_cast<int>(HandOverRefusal::bad_token));
    CHECK(refused(suite().run(hand_over_directly(std::string(16, 'A')))) == static_cast<int>(HandOverRefusal::bad_token));
    const SaslStep login = suite().run(get_token("joe"));
    REQUIRE(login.kind == SaslStep::Kind::success);
    CHECK(refused(suite().run(hand_over_directly(login.token))) == 0);
    CHECK(refused(suite().run(hand_over_directly(login.token))) == static_cast<int>(HandOverRefusal::bad_token));
}

TEST_CASE("system accounts never get a session process", "[login]") {
    LogCapture log;
    for (const char* user : {"root", "low"}) {
        CAPTURE(user);
        Client client;
        CHECK(client.ask(std::string(user) + " pencil") == "NO unavailable");
        CHECK(log.count(fmt::format("imap-login: Internal login failure: ")) > 0);
        client.stream->write("quit\r\n");
        client.next();
    }
    CHECK(log.count("imap-login: Disconnected (internal failure, 1 successful auths): user=<root>") == 1);
}

TEST_CASE("mail_max_userip_connections counts per user and address", "[login]") {
    LogCapture log;
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 4; ++i) {
        clients.push_back(std::make_unique<Client>("198.51.100.7"));
        clients.back()->stream->write("AUTH PLAIN AGFubgBwZW5jaWw=\r\n");
    }
    (void)clients;
    // Not secured (another address than ours): refused before any check.
    CHECK(clients[0]->next() ==
          "NO Cleartext authentication disallowed on non-secure (SSL/TLS) connections.");
    std::vector<std::unique_ptr<Client>> local;
    for (int i = 0; i < 4; ++i) {
        local.push_back(std::make_unique<Client>());
        CHECK(local.back()->ask("ann pencil").find("tag1 OK") == 0);
    }
    Client fifth;
    CHECK(fifth.ask("ann pencil") == "NO unavailable");
    CHECK(log.count("Maximum number of connections from user+IP exceeded (mail_max_userip_connections=4): user=<ann>, "
                    "method=PLAIN, rip=192.0.2.1, lip=192.0.2.1, secured, session=<") == 1);
    Client other;
    CHECK(other.ask("joe pencil").find("tag1 OK") == 0);
    local.front()->stream->write("quit\r\n");
    local.front()->next();
    std::string answer = "NO unavailable";
    for (int i = 0; i < 200 && answer == "NO unavailable"; ++i) {   // until the end of the first is known
        suite().run(sleep_for(Millis(50)));
        answer = fifth.ask("ann pencil");
    }
    CHECK(answer.find("tag1 OK") == 0);
}

TEST_CASE("refused logins are logged as fail2ban expects", "[login]") {
    LogCapture log;
    Client client;
    CHECK(client.ask("joe wrong") == "NO Authentication failed.");
    CHECK(client.ask("AUTH PLAIN !!!") == "NO Invalid base64 data in initial response");
    CHECK(client.ask("AUTH PLAIN") == "+ ");
    CHECK(client.ask("*") == "NO Authentication aborted by client.");
    CHECK(client.ask("AUTH LOGIN") == "+ VXNlcm5hbWU6");
    CHECK(client.ask("am9l") == "+ UGFzc3dvcmQ6");
    CHECK(client.ask("d3Jvbmc=") == "NO Authentication failed.");
    CHECK(client.ask("AUTH GSSAPI") == "NO Unsupported authentication mechanism.");
    client.stream->write("quit\r\n");
    client.next();
    CHECK(log.count("imap-login: Disconnected (auth failed, 2 attempts in 0 secs): user=<joe>, method=GSSAPI, "
                    "rip=192.0.2.1, lip=192.0.2.1, secured, session=<") == 1);
    Client silent;
    silent.stream->write("quit\r\n");
    silent.next();
    CHECK(log.count("imap-login: Disconnected (no auth attempts in 0 secs): user=<>, rip=192.0.2.1, lip=192.0.2.1, "
                    "secured, session=<") == 1);
}

TEST_CASE("guessing ends the connection after ten tries", "[login]") {
    Client client;
    for (int i = 0; i < 9; ++i) {
        CHECK(client.ask("joe wrong") == "NO Authentication failed.");
    }
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    const UniqueFd other(pair[1]);
    LoginConnection direct(*suite().front, make_socket_stream(UniqueFd(pair[0])), {});
    LoginResult last;
    for (int i = 0; i < 10; ++i) {
        last = suite().run(direct.login("joe", "wrong"));
    }
    CHECK(last.kind == LoginResult::Kind::too_many_tries);
}

namespace {

/// A blocking TLS client in a thread: login, echo a line and a megabyte, quit.  Yields what it read.
struct TlsTalk {
    std::string greeting, echoed;
    std::size_t bulk = 0;
};

void talk_tls(int fd, TlsTalk& talk) {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    const auto line = [ssl] {
        std::string text;
        char c = 0;
        while (SSL_read(ssl, &c, 1) == 1 && c != '\n') {
            text += c;
        }
        return text;
    };
    const auto say = [ssl](const std::string& text) { SSL_write(ssl, text.data(), static_cast<int>(text.size())); };
    if (SSL_connect(ssl) == 1) {
        say("joe pencil\r\n");
        talk.greeting = line();
        say("over tls\r\n");
        talk.echoed = line();
        std::thread writer([&say] {   // both directions at once
            for (int i = 0; i < 1100; ++i) {
                say(std::string(998, 'x') + "\r\n");
            }
        });
        for (int i = 0; i < 1100; ++i) {
            talk.bulk += line().size();
        }
        writer.join();
        say("quit\r\n");
        line();
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    ::close(fd);
}

Task<> serve_and_note(LoginFront& front, UniqueFd socket, bool& ended) {
    co_await serve_front(front, std::move(socket), "198.51.100.7", true);
    ended = true;
}

Task<> wait_until(const bool& flag) {
    for (int i = 0; i < 2000 && !flag; ++i) {
        co_await sleep_for(Millis(10));
    }
}

}  // namespace

TEST_CASE("a TLS client is relayed, and the keys stay in the front", "[login]") {
    LogCapture log;
    suite();
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    bool ended = false;
    spawn(serve_and_note(*suite().front, UniqueFd(pair[1]), ended));
    TlsTalk talk;
    std::thread client(talk_tls, pair[0], std::ref(talk));
    suite().run(wait_until(ended));
    client.join();
    CHECK(ended);
    CHECK(talk.greeting.find("tag1 OK user=joe") == 0);
    CHECK(talk.greeting.find("tls=true rip=198.51.100.7") != std::string::npos);
    CHECK(talk.echoed == "over tls\r");
    CHECK(talk.bulk == 1100 * 999);
    CHECK(log.count("imap-login: Login: user=<joe>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, mpid=") == 1);
    CHECK(log.count(", TLS, session=<") == 1);
}

TEST_CASE("something that is not TLS is logged and ends", "[login]") {
    LogCapture log;
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    UniqueFd client(pair[0]);
    bool ended = false;
    spawn(serve_and_note(*suite().front, UniqueFd(pair[1]), ended));
    REQUIRE(::write(client.get(), "GET / HTTP/1.0\r\n\r\n", 18) == 18);
    suite().run(wait_until(ended));
    CHECK(log.count("imap-login: Disconnected: TLS handshaking: ") == 1);
}

TEST_CASE("login lines follow login_log_format_elements", "[login]") {
    LoginFacts facts;
    facts.user = "joe@example.org";
    facts.auth_user = "boss@example.com";
    facts.method = "PLAIN";
    facts.remote_ip = "192.0.2.1";
    facts.pid = 7;
    facts.session_id = "abc";
    CHECK(login_elements("user=<%u> n=%n d=%d method=%m rip=%r lip=%l mpid=%e %c session=<%{session}> 100%%", facts) ==
          "user=<joe@example.org>, n=joe, d=example.org, method=PLAIN, rip=192.0.2.1, mpid=7, session=<abc>, 100%");
    CHECK(login_elements("a=%{auth_user} b=%{auth_username} c=%{auth_domain}", facts) == "a=boss@example.com, b=boss, c=example.com");
    CHECK(login_line("%$: %s", "Login", "a=b") == "Login: a=b");
    CHECK(login_line("%s - %$ %%", "Login", "a=b") == "a=b - Login %");
    CHECK(login_elements("%{", facts).size() < 3);
}

TEST_CASE("addresses are found in networks", "[login]") {
    CHECK(in_networks("192.0.2.1", {"192.0.2.0/24"}));
    CHECK_FALSE(in_networks("192.0.3.1", {"192.0.2.0/24"}));
    CHECK(in_networks("192.0.3.1", {"192.0.2.0/23"}));
    CHECK(in_networks("2001:db8::1", {"10.0.0.0/8", "2001:db8::/32"}));
    CHECK_FALSE(in_networks("2001:db9::1", {"2001:db8::/32"}));
    CHECK(in_networks("::1", {"::1"}));
    CHECK(in_networks("", {"local"}));
    CHECK_FALSE(in_networks("192.0.2.1", {"0.0.0.0/33", "junk", "192.0.2.1/x", "local"}));
    CHECK(in_networks("192.0.2.1", {"0.0.0.0/0"}));
}

TEST_CASE("logins per second and CPU per login", "[.][bench]") {
    constexpr int kLogins = 3000;
    LogCapture log;
    Client warm;
    warm.ask("joe pencil");
    const auto cpu = [] {
        double total = 0;
        for (const pid_t pid : {::getpid(), suite().auth, suite().launcher}) {
            std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
            std::string text((std::istreambuf_iterator<char>(stat)), {});
            const auto fields = split(text.substr(text.rfind(')') + 2), " ");
            total += std::stod(fields[11]) + std::stod(fields[12]);
        }
        return total / static_cast<double>(sysconf(_SC_CLK_TCK));
    };
    const double before = cpu();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kLogins; ++i) {
        Client client;
        if (client.ask("joe pencil").find("tag1 OK") != 0) {
            FAIL("login failed");
        }
        client.stream->write("quit\r\n");
        client.next();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%.0f logins/s, %.3f ms CPU each (client, front, auth, launcher; without the session process)\n",
                kLogins / seconds, 1000 * (cpu() - before) / kLogins);
}

namespace {

/// A launcher that takes what it is given and ends without an answer, three times.
Task<> take_and_vanish(int listener, std::vector<UniqueFd>& taken) {
    FdEvents events;
    events.open(listener);
    while (taken.size() < 3) {
        const Wake wake = co_await events.readable(Millis(3000));
        if (wake != Wake::ready) {
            co_return;
        }
        UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!socket) {
            continue;
        }
        Channel<FromLauncher, ToLauncher> channel(std::move(socket), kMaxHandOver);
        Result<ToLauncher> message = co_await channel.receive(Millis(3000));
        if (message) {
            taken.push_back(std::move(std::get<HandOver>(*message).client));
        }
    }
}

}  // namespace

TEST_CASE("a client that a session process may have is not served by the front as well", "[login]") {
    char directory[] = "/tmp/postern-launcher-XXXXXX";
    REQUIRE(mkdtemp(directory) != nullptr);
    const std::string path = std::string(directory) + "/launcher";
    const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 10) == 0);
    const Config config = std::move(*Config::from_text("ssl = no\nauth_service_name = postern-test-no-such-socket\n"));
    const auto front = std::move(*LoginFront::create(config, "imap", path));
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    const UniqueFd theirs(pair[1]);
    std::vector<UniqueFd> taken;
    {
        LoginConnection client(*front, make_socket_stream(UniqueFd(pair[0])), LoginAddresses());
        spawn(take_and_vanish(listener.get(), taken));
        CHECK(Loop::current().run_until(client.hand_over("t1")));
    }
    REQUIRE(taken.size() == 3);
    char byte = 0;
    CHECK(::recv(theirs.get(), &byte, 1, MSG_DONTWAIT) == 0);
    CHECK(::recv(taken.front().get(), &byte, 1, MSG_DONTWAIT) == 0);   // nor by any of those
    ::unlink(path.c_str());
    ::rmdir(directory);
}
