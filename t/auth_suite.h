/// auth(8) in the process of a test, asked through the client that fronts use, over a listener of its own.
#pragma once

#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "auth/server.h"
#include "lib/async/loop.h"
#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/sasl/auth_client.h"

namespace postern::auth_test {

inline constexpr const char* kUsers =
    "joe:{PLAIN}pencil:1000:1001::/home/joe\n"
    "ann@example.org:{SHA512-CRYPT}$6$saltsalt$rD9fW1BwIrjB90WCgCTdIQc3phTBhf04I6Iw/XlgKD9E9aEbzqGZipjiFxGo/"
    "4wWXDA6jV6/vZO.kKdDSfUJb0:1002:1002::/home/ann::userdb_mail=mbox:~/mail userdb_quota_rule=*:storage=1G\n"
    "off:{PLAIN}pencil:1003:1003::/home/off::nologin reason=Gone\n"
    "net:{PLAIN}pencil:1004:1004::/home/net::allow_nets=192.0.2.0/24,2001:db8::/32\n"
    "odd:{ROT13}crapvy:1005:1005::/home/odd\n"
    "any::1007:1007::/home/any::nopassword\n"
    "both:{PLAIN}pencil:1007:1007::/home/any::nopassword\n"
    "away:{PLAIN}pencil:1007:1007::/home/away::proxy=y host=192.0.2.1\n"
    "named:{PLAIN}pencil:root:root::/home/named\n"
    "nosuch:{PLAIN}pencil:no-such-user:root::/home/named\n"
    "kept:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=:1006:1006::/home/kept\n";

/// Master users; joe has another password here.
inline constexpr const char* kMasters =
    "boss:{PLAIN}bosspw\njoe:{PLAIN}joe-the-master\nfar:{PLAIN}bosspw::::::allow_nets=192.0.2.0/24\nretired:{PLAIN}bosspw::::::nologin\n";

/// auth(8) in this process, on a socket in a directory of its own.
struct Suite {
    std::string directory;
    Config config;
    std::unique_ptr<Databases> databases;
    std::unique_ptr<AuthServer> server;
    std::unique_ptr<AuthClient> client;
    UniqueFd listener;
    FdEvents events;
    bool trusted = true;

    static std::string make_directory() {
        char name[] = "/tmp/postern-auth-XXXXXX";
        REQUIRE(mkdtemp(name) != nullptr);
        std::ofstream(std::string(name) + "/users") << kUsers;
        std::ofstream(std::string(name) + "/masters") << kMasters;
        return name;
    }
    /// "{dir}" in `more` stands for the directory.
    static Config make_config(const std::string& directory, std::string more) {
        for (std::size_t at = 0; (at = more.find("{dir}", at)) != std::string::npos;) {
            more.replace(at, 5, directory);
        }
        Result<Config> config = Config::from_text(
            "auth_passdbs = passwd-file:" + directory + "/users\nauth_userdbs = passwd-file:" + directory +
            "/users\nauth_failure_delay = 0\nauth_mechanisms = plain login scram-sha-256 scram-sha-1\n" + more);
        REQUIRE(config.ok());
        return std::move(*config);
    }
    explicit Suite(const std::string& more = "")
        : directory(make_directory()), config(make_config(directory, more)) {
        auto opened = Databases::open(config);
        REQUIRE(opened.ok());
        databases = std::move(*opened);
        auto created = AuthServer::create(config, *databases, random_bytes(32));
        REQUIRE(created.ok());
        server = std::move(*created);
        listen_at(directory + "/auth");
        client = std::make_unique<AuthClient>(directory + "/auth", Millis(10'000));
    }
    ~Suite() {
        client.reset();
        events.close();
        run(sleep_for(Millis(20)));   // conversations end before what they refer to
        unlink((directory + "/auth").c_str());
        unlink((directory + "/users").c_str());
        unlink((directory + "/masters").c_str());
        rmdir(directory.c_str());
    }
    void listen_at(const std::string& path) {
        listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener.get(), 10) == 0);
        events.open(listener.get());
        spawn(accept_all(*this));
    }
    static Task<> accept_all(Suite& suite) {
        for (;;) {
            const Wake wake = co_await suite.events.readable(kForever);
            if (wake != Wake::ready) {
                co_return;
            }
            for (;;) {
                UniqueFd client(::accept4(suite.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
                if (!client) {
                    break;
                }
                spawn(suite.server->serve(std::move(client), suite.trusted));
            }
        }
    }
    template <class T>
    T run(Task<T> task) {
        return Loop::current().run_until(std::move(task));
    }
};

inline AuthPeer peer(const std::string& service = "imap") {
    AuthPeer p;
    p.service = service;
    p.session_id = "s1";
    p.remote_ip = "127.0.0.1";
    p.local_ip = "127.0.0.1";
    return p;
}

inline Task<SaslStep> plain(AuthClient& client, std::string user, std::string password, AuthPeer p) {
    SaslServerSession sasl(client);
    std::optional<std::string> response = plain_response(user, password);
    co_return co_await sasl.start("PLAIN", std::move(response), std::move(p));
}

inline Task<Result<FromAuth>> redeem(std::string path, std::string token, std::string service) {
    Result<UniqueFd> fd = co_await connect_unix(path, Millis(1000));
    Channel<ToAuth, FromAuth> channel(std::move(*fd), kMaxAuthMessage);
    AuthRedeem request;
    request.id = 7;
    request.service = service;
    request.token = token;
    (void)co_await channel.send(std::move(request));
    Result<FromAuth> answer = co_await channel.receive(Millis(5000));
    co_return answer;
}

inline AuthFailureReason reason_of(const Result<FromAuth>& answer) {
    REQUIRE(answer.ok());
    REQUIRE(std::holds_alternative<AuthFailure>(*answer));
    return static_cast<AuthFailureReason>(std::get<AuthFailure>(*answer).reason);
}

}  // namespace postern::auth_test
