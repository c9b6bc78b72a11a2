/// The way of a login: front, auth(8), session launcher, session process, with the real code of each in processes of
/// their own and a session that echoes.
#pragma once

#include <catch2/catch.hpp>

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "auth/server.h"
#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/login/front.h"
#include "lib/login/launcher_state.h"

namespace postern::login_test {

/// The session: says who it is, echoes lines, ends at "quit", dies at "crash".
inline Task<> echo(SessionConnection connection, const Config&) {
    Stream& stream = *connection.stream;
    stream.write(fmt::format("{} OK user={} uid={} gid={} pid={} tls={} rip={}\r\n", connection.info.prelude,
                             connection.user->user, ::getuid(), ::getgid(), ::getpid(), connection.info.tls,
                             connection.info.remote_ip));
    for (;;) {
        const Result<std::string> line = co_await stream.read_line(1000, Millis(20'000));
        if (!line || *line == "quit") {
            break;
        }
        if (*line == "crash") {
            std::raise(SIGKILL);
        }
        if (line->rfind("write ", 0) == 0) {
            const bool wrote = static_cast<bool>(std::ofstream(line->substr(6)) << "x");
            stream.write(wrote ? "written\r\n" : "not written\r\n");
            continue;
        }
        stream.write(*line + "\r\n");
    }
    (void)co_await stream.flush(Millis(5000));
    stream.close();
}

inline constexpr Launcher kEcho{"echo-session", "imap", echo, nullptr};

inline UniqueFd listen_at(const std::string& path) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd.get(), 100) != 0) {
        std::abort();
    }
    return fd;
}

inline Task<> serve_auth(AuthServer& server, int listener) {
    FdEvents events;
    events.open(listener);
    for (;;) {
        UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (client) {
            spawn(server.serve(std::move(client), true));
        } else if (const Wake wake = co_await events.readable(kForever); wake != Wake::ready) {
            co_return;
        }
    }
}

inline void make_certificate(const std::string& path) {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_sign(certificate, key, EVP_sha256());
    FILE* file = std::fopen(path.c_str(), "w");
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    PEM_write_X509(file, certificate);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/// auth and launcher as child processes (made before this process has a loop), the front here.
struct Suite {
    std::string directory;
    std::string home;
    unsigned uid;
    Config config;
    pid_t auth = -1, launcher = -1;
    std::unique_ptr<LoginFront> front;

    Suite() : directory(make_directory()), uid(::getuid() == 0 ? 12345 : ::getuid()), config(make_config()) {
        REQUIRE(::chdir(directory.c_str()) == 0);
        UniqueFd auth_listener = listen_at("private/auth");
        UniqueFd session_listener = listen_at("private/imap-session");
        auth = ::fork();
        if (auth == 0) {
            session_listener.reset();
            auto databases = Databases::open(config);
            auto server = AuthServer::create(config, **databases, random_bytes(32));
            Loop::current().run_until(serve_auth(**server, auth_listener.get()));
            std::_Exit(0);
        }
        launcher = ::fork();
        if (launcher == 0) {
            auth_listener.reset();
            SessionLauncher state(kEcho, config, MailGroups{}, {session_listener.get()}, -1, -1);
            state.run();
            std::_Exit(0);
        }
        auto created = LoginFront::create(config, "imap", "private/imap-session");
        if (!created) {
            FAIL(created.error().what);
        }
        front = std::move(*created);
    }
    /// At exit the loop is gone already, so the front stays as it is; only the children and files go.
    void clean_up() const {
        ::kill(launcher, SIGTERM);
        ::kill(auth, SIGKILL);
        ::waitpid(launcher, nullptr, 0);
        ::waitpid(auth, nullptr, 0);
        (void)std::system(("rm -rf " + directory).c_str());
    }
    static std::string make_directory() {
        char name[] = "/tmp/postern-login-XXXXXX";
        if (mkdtemp(name) == nullptr) {
            std::abort();
        }
        ::chmod(name, 0755);
        ::mkdir((std::string(name) + "/private").c_str(), 0755);
        make_certificate(std::string(name) + "/key.pem");
        return name;
    }
    Config make_config() {
        home = directory + "/home";
        ::mkdir(home.c_str(), 0755);
        if (::chown(home.c_str(), uid, uid) != 0) {
            std::abort();
        }
        std::ofstream users(directory + "/users");
        users << fmt::format("joe:{{PLAIN}}pencil:{0}:{0}::{1}/joe\n", uid, home);
        users << fmt::format("ann:{{PLAIN}}pencil:{0}:{0}::{1}/ann\n", uid, home);
        users << fmt::format("root:{{PLAIN}}pencil:0:0::{0}/root\n", home);
        users << fmt::format("low:{{PLAIN}}pencil:33:33::{0}/low\n", home);
        users.close();
        ::mkdir((home + "/joe").c_str(), 0700);
        ::mkdir((home + "/ann").c_str(), 0700);
        for (const char* user : {"/joe", "/ann"}) {
            if (::chown((home + user).c_str(), uid, uid) != 0) {
                std::abort();
            }
        }
        Result<Config> made = Config::from_text(fmt::format(
            "auth_passdbs = passwd-file:{0}/users\nauth_userdbs = passwd-file:{0}/users\nauth_failure_delay = 0\n"
            "ssl_cert_file = {0}/key.pem\nssl_key_file = {0}/key.pem\nmail_max_userip_connections = 4\n"
            "session_process_idle_limit = 1\nauth_mechanisms = plain login scram-sha-256\n",
            directory));
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().what.c_str());
            std::abort();
        }
        return std::move(*made);
    }
    template <class T>
    T run(Task<T> task) {
        return Loop::current().run_until(std::move(task));
    }
};

inline Suite& suite() {
    static Suite* const only = [] {
        Suite* made = std::make_unique<Suite>().release();   // children are forked before the first loop
        std::atexit([] { suite().clean_up(); });
        return made;
    }();
    return *only;
}

/// A front's conversation: logs in with what the client sends ("user password"), then hands over.
inline Task<> serve_front(LoginFront& front, UniqueFd socket, std::string remote_ip, bool tls) {
    std::unique_ptr<Stream> stream = make_socket_stream(std::move(socket));
    LoginAddresses addresses;
    addresses.remote_ip = remote_ip;
    addresses.local_ip = "192.0.2.1";
    LoginConnection client(front, std::move(stream), std::move(addresses));
    if (tls) {
        const Result<void> started = co_await client.start_tls();
        if (!started) {
            co_return;
        }
    }
    for (;;) {
        const Result<std::string> line = co_await client.stream().read_line(1000, Millis(10'000));
        if (!line || *line == "quit") {
            client.log_disconnect("Disconnected");
            co_return;
        }
        const std::vector<std::string> words = split(*line, " ");
        LoginResult result;
        if (words[0] == "AUTH") {
            std::optional<std::string> initial;
            if (words.size() > 2) {
                initial = words[2];
            }
            result = co_await client.authenticate(words[1], std::move(initial));
        } else {
            result = co_await client.login(words[0], words[1]);
        }
        if (result.ok()) {
            const bool gone = co_await client.hand_over("tag1");
            if (gone) {
                co_return;
            }
            client.stream().write("NO unavailable\r\n");
        } else if (result.kind == LoginResult::Kind::lost) {
            client.log_disconnect("Disconnected");
            co_return;
        } else {
            client.stream().write("NO " + result.text + "\r\n");
        }
    }
}

struct Client {
    std::unique_ptr<Stream> stream;
    explicit Client(const std::string& remote_ip = "192.0.2.1") {
        suite();   // before the first stream: its children must not inherit a loop
        int pair[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        stream = make_socket_stream(UniqueFd(pair[0]));
        spawn(serve_front(*suite().front, UniqueFd(pair[1]), remote_ip, false));
    }
    std::string ask(const std::string& line) {
        stream->write(line + "\r\n");
        const Result<std::string> answer = suite().run(stream->read_line(2000, Millis(10'000)));
        return answer ? *answer : "<" + answer.error().what + ">";
    }
    std::string next() {
        const Result<std::string> answer = suite().run(stream->read_line(2000, Millis(10'000)));
        return answer ? *answer : "<" + answer.error().what + ">";
    }
};

inline std::string pid_in(const std::string& greeting) {
    const std::size_t at = greeting.find("pid=") + 4;
    return greeting.substr(at, greeting.find(' ', at) - at);
}

inline Task<FromLauncher> hand_over_directly(std::string token) {
    Result<UniqueFd> socket = co_await connect_unix("private/imap-session", Millis(1000));
    Channel<ToLauncher, FromLauncher> channel(std::move(*socket), kMaxHandOver);
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        std::abort();
    }
    const UniqueFd other(pair[1]);
    HandOver request;
    request.token = std::move(token);
    request.client.reset(pair[0]);
    (void)co_await channel.send(std::move(request));
    Result<FromLauncher> answer = co_await channel.receive(Millis(10'000));
    co_return answer ? std::move(*answer) : FromLauncher(NotHandedOver{99, "no answer"});
}

inline Task<SaslStep> get_token(std::string user) {
    SaslServerSession sasl(suite().front->auth());
    AuthPeer peer;
    peer.service = "imap";
    std::optional<std::string> response = plain_response(user, "pencil");
    co_return co_await sasl.start("PLAIN", std::move(response), std::move(peer));
}

}  // namespace postern::login_test
