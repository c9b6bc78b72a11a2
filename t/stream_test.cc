#include <catch2/catch.hpp>

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "lib/stream/stream.h"
#include "lib/stream/tls.h"

using namespace postern;
using Seconds = std::chrono::seconds;

namespace {

Task<> collect_lines(Stream& stream, std::vector<std::string>& lines, std::size_t max) {
    for (;;) {
        const Result<std::string> line = co_await stream.read_line(max, Seconds(10));
        if (!line) {
            lines.push_back("!" + line.error().what);
            if (line.error().code != Errc::too_big) {
                co_return;
            }
            continue;
        }
        lines.push_back(*line);
        stream.write("<" + *line + ">");
    }
}

}  // namespace

TEST_CASE("lines are the same however the bytes are cut", "[stream]") {
    const std::string script = "one\r\ntwo\n\r\nfour\rstill four\r\n";
    const std::vector<std::string> expected{"one", "two", "", "four\rstill four", "!lost connection"};
    for (std::size_t cut = 0; cut <= script.size(); ++cut) {
        MemoryStream stream;
        std::vector<std::string> lines;
        spawn(collect_lines(stream, lines, 100));
        stream.feed(script.substr(0, cut));
        stream.feed(script.substr(cut));
        stream.hang_up();
        CAPTURE(cut);
        CHECK(lines == expected);
        CHECK(stream.sent() == "<one><two><><four\rstill four>");
    }
}

TEST_CASE("a line that is too long is refused once, and the next line is read", "[stream]") {
    MemoryStream stream;
    std::vector<std::string> lines;
    spawn(collect_lines(stream, lines, 10));
    stream.feed("0123456789\r\n");
    stream.feed("01234567890\r\n");
    for (int i = 0; i < 1000; ++i) {
        stream.feed("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    }
    stream.feed("\r\nnext\r\n");
    stream.hang_up();
    CHECK(lines == std::vector<std::string>{"0123456789", "!line too long", "!line too long", "next", "!lost connection"});
}

TEST_CASE("a deadline ends a read", "[stream]") {
    MemoryStream stream;
    std::vector<std::string> lines;
    spawn(collect_lines(stream, lines, 10));
    stream.feed("par");
    stream.expire();
    CHECK(lines == std::vector<std::string>{"!timeout"});
}

namespace {

std::string make_certificate(const std::string& directory) {
    const std::string pem = directory + "/cert.pem";
    const std::string command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
                                "-subj /CN=localhost -keyout " +
                                pem + ".key -out " + pem + ".crt >/dev/null 2>&1 && cat " + pem + ".key " + pem +
                                ".crt > " + pem;
    REQUIRE(std::system(command.c_str()) == 0);
    return pem;
}

/// A plain-old blocking TLS client.  Takes up `session` where there is one, and leaves there what the server offered.
std::string tls_client(int fd, bool inject, SSL_SESSION** session) {
    if (inject) {
        if (::write(fd, "STARTTLS\r\nINJECTED\r\n", 20) != 20) {
            return "write failed";
        }
    } else if (::write(fd, "STARTTLS\r\n", 10) != 10) {
        return "write failed";
    }
    char go[3] = {};
    if (::read(fd, go, 2) != 2) {
        return "no go-ahead";
    }
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    SSL_set_session(ssl, *session);
    std::string got = "handshake failed";
    pollfd early = {fd, POLLIN, 0};
    if (SSL_connect(ssl) == 1 && ::poll(&early, 1, 50) != 0) {
        got = "the server spoke before the first command";
    } else if (SSL_is_init_finished(ssl)) {
        SSL_write(ssl, "hello\r\nbye\r\n", 12);
        got.clear();
        char buffer[65536];
        int count = 0;
        while ((count = SSL_read(ssl, buffer, sizeof buffer)) > 0) {
            got.append(buffer, static_cast<std::size_t>(count));
        }
    }
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(ssl);
    SSL_set_quiet_shutdown(ssl, 1);
    SSL_shutdown(ssl);   // without it OpenSSL holds the session for broken
    SSL_free(ssl);
    SSL_CTX_free(context);
    ::close(fd);
    return got;
}

Task<std::string> tls_server(std::unique_ptr<Stream> stream, TlsContext& context) {
    Result<std::string> line = co_await stream->read_line(100, Seconds(10));
    if (!line || *line != "STARTTLS") {
        co_return "no STARTTLS";
    }
    stream->write("go");
    Result<void> flushed = co_await stream->flush(Seconds(10));
    Result<void> secure = co_await stream->start_tls(context, Seconds(10));
    if (!flushed || !secure) {
        co_return "no TLS";
    }
    std::string seen;
    for (;;) {
        line = co_await stream->read_line(100, Seconds(10));
        if (!line) {
            co_return seen + "!" + line.error().what;
        }
        seen += *line + ";";
        if (*line == "bye") {
            stream->write(std::string(1000000, 'x'));
            Result<void> done = co_await stream->flush(Seconds(10));
            const bool tls13 = stream->tls() != nullptr && stream->tls()->protocol == "TLSv1.3";
            const bool resumed = tls13 && stream->tls()->resumed;
            stream->close();
            co_return seen + (!done.ok() || !tls13 ? "failed" : resumed ? "ok, resumed" : "ok");
        }
    }
}

}  // namespace

TEST_CASE("STARTTLS drops what was pipelined in the clear, a megabyte passes, and the session can be resumed", "[stream]") {
    std::signal(SIGPIPE, SIG_IGN);   // as in every service
    char directory[] = "/tmp/stream_test.XXXXXX";
    REQUIRE(::mkdtemp(directory) != nullptr);
    TlsSettings settings;
    settings.cert_file = make_certificate(directory);
    Result<std::unique_ptr<TlsContext>> context = TlsContext::server(settings);
    REQUIRE(context.ok());
    SSL_SESSION* session = nullptr;
    for (const bool inject : {false, true}) {
        int fds[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        std::string client_saw;
        std::thread client([&] { client_saw = tls_client(fds[1], inject, &session); });
        auto stream = make_socket_stream(UniqueFd(fds[0]));
        const std::string server_saw = Loop::current().run_until(tls_server(std::move(stream), **context));
        client.join();
        CHECK(server_saw == (inject ? "hello;bye;ok, resumed" : "hello;bye;ok"));
        CHECK(client_saw == std::string(1000000, 'x'));
    }
    SSL_SESSION_free(session);
    CHECK(std::system((std::string("rm -r ") + directory).c_str()) == 0);
}

TEST_CASE("wrong TLS settings are refused with their reason", "[stream]") {
    TlsSettings settings;
    settings.protocols = ">=TLSv9";
    CHECK(TlsContext::server(settings).error().what.find("unknown TLS protocol \"TLSv9\"") == 0);
    settings.protocols = "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1";
    settings.cert_file = "/nonexistent/cert.pem";
    const auto context = TlsContext::server(settings);
    REQUIRE_FALSE(context.ok());
    CHECK(context.error().code == Errc::config);
    CHECK(context.error().what.find("/nonexistent/cert.pem") != std::string::npos);
}
