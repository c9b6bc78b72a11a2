/// What a proxy says of a client, in both versions of HAProxy's protocol.
#include <catch2/catch.hpp>

#include <sys/socket.h>

#include "lib/async/loop.h"
#include "smtpd/haproxy.h"

using namespace postern;
using namespace postern::smtpd;

namespace {

std::string shown(const ProxiedClient& client) {
    return client.address + ":" + client.port + " > " + client.server_address + ":" + client.server_port;
}

constexpr InetProtocols kBoth{true, true}, kOnly4{true, false}, kOnly6{false, true};

std::string line(const std::string& text, InetProtocols protocols = kBoth) {
    const Result<ProxiedClient> client = parse_proxy_line(text, protocols);
    return client ? shown(*client) : client.error().what;
}

std::string header(unsigned char version_and_command, unsigned char protocol, const std::string& body) {
    std::string out(kProxySignature);
    out += static_cast<char>(version_and_command);
    out += static_cast<char>(protocol);
    out += static_cast<char>(body.size() >> 8);
    out += static_cast<char>(body.size() & 255);
    return out + body;
}

const std::string kBody4("\xC0\x00\x02\x09\xC6\x33\x64\x01\x04\xD2\x00\x19", 12);
const std::string kBody6("\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\1\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\2\x04\xD2\x00\x19", 36);

Task<> note(MemoryStream& stream, std::string& what) {
    const Result<std::optional<ProxiedClient>> client = co_await read_proxied_client(stream, Millis(1000), kBoth);
    what = !client ? client.error().what : *client ? shown(**client) : "itself";
}

/// What is understood of `text`, after which the peer hangs up, or (`silent`) says nothing more; and what is left for the conversation.
std::string heard(const std::string& text, std::string* rest = nullptr, bool silent = false) {
    MemoryStream stream;
    std::string what = "still waiting";
    spawn(note(stream, what));
    stream.feed(text);
    if (what == "still waiting") {
        silent ? stream.expire() : stream.hang_up();
    }
    if (rest != nullptr) {
        *rest = std::string(stream.buffered());
    }
    return what;
}

}  // namespace

TEST_CASE("a line of version 1 names both ends", "[smtpd]") {
    CHECK(line("PROXY TCP4 192.0.2.1 198.51.100.1 1234 25") == "192.0.2.1:1234 > 198.51.100.1:25");
    CHECK(line("PROXY TCP6 2001:DB8::1 2001:db8:0::2 1234 25") == "2001:db8::1:1234 > 2001:db8::2:25");
    CHECK(line("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 0 65535") == "192.0.2.1:0 > 192.0.2.2:65535");
    CHECK(line("PROXY  TCP4 192.0.2.1  198.51.100.1 1234 25 more words") == "192.0.2.1:1234 > 198.51.100.1:25");
}

TEST_CASE("a line of version 1 that is wrong is an error in Postfix's words", "[smtpd]") {
    CHECK(line("proxy TCP4 192.0.2.1 198.51.100.1 1234 25") == "unrecognized protocol header: proxy TCP4 192.0.2.1 198.51.100.1 1234 25");
    CHECK(line("") == "unrecognized protocol header: ");
    CHECK(line("PROXY UNKNOWN") == "bad or missing protocol type: PROXY UNKNOWN");
    CHECK(line("PROXY TCP4 999.0.2.1 198.51.100.1 1 25").find("bad or missing client address: ") == 0);
    CHECK(line("PROXY TCP4 2001:db8::1 2001:db8::2 1 25").find("bad or missing client address: ") == 0);
    CHECK(line("PROXY TCP6 192.0.2.1 192.0.2.2 1 25").find("bad or missing client address: ") == 0);
    CHECK(line("PROXY TCP4 192.0.2.1 x 1 25").find("bad or missing server address: ") == 0);
    for (const std::string port : {"70000", "01234", "-1", "x", "", "99999999999999999999"}) {
        CAPTURE(port);
        CHECK(line("PROXY TCP4 192.0.2.1 198.51.100.1 " + port + " x").find("bad or missing client port: ") == 0);
        CHECK(line("PROXY TCP4 192.0.2.1 198.51.100.1 25 " + port).find("bad or missing server port: ") == 0);
    }
    const std::string whole = "PROXY TCP4 192.0.2.1 198.51.100.1 1234 25";
    for (std::size_t cut = 0; cut + 1 < whole.size(); ++cut) {
        CHECK_FALSE(parse_proxy_line(whole.substr(0, cut), kBoth));
    }
}

TEST_CASE("only what is in inet_protocols is announced", "[smtpd]") {
    const std::string four = "PROXY tcp4 192.0.2.1 198.51.100.1 1234 25", six = "PROXY Tcp6 2001:db8::1 2001:db8::2 1234 25";
    const std::string mapped = "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 25";
    CHECK(line(four, kOnly4) == "192.0.2.1:1234 > 198.51.100.1:25");
    CHECK(line(six, kOnly6) == "2001:db8::1:1234 > 2001:db8::2:25");
    CHECK(line(mapped, kOnly6) == "::ffff:192.0.2.1:1 > ::ffff:192.0.2.2:25");
    CHECK(line(mapped, kBoth) == "192.0.2.1:1 > 192.0.2.2:25");
    CHECK(line(four, kOnly6) == "bad or missing protocol type: " + four);
    CHECK(line(six, kOnly4) == "bad or missing protocol type: " + six);
    CHECK(line(mapped, kOnly4) == "bad or missing protocol type: " + mapped);
    const auto second = [](unsigned char protocol, const std::string& body, InetProtocols protocols) {
        const auto client = parse_proxy_header(header(0x21, protocol, body).substr(0, kProxyHead), body, protocols);
        return client ? shown(**client) : client.error().what.substr(0, client.error().what.find(':'));
    };
    CHECK(second(0x11, kBody4, kOnly4) == "192.0.2.9:1234 > 198.51.100.1:25");
    CHECK(second(0x21, kBody6, kOnly6) == "2001:db8::1:1234 > 2001:db8::2:25");
    CHECK(second(0x11, kBody4, kOnly6) == "IPv4 support is disabled");
    CHECK(second(0x21, kBody6, kOnly4) == "IPv6 support is disabled");
    CHECK(InetProtocols::parse("IPv4").ipv4);
    CHECK_FALSE(InetProtocols::parse("ipv4").ipv6);
    CHECK(InetProtocols::parse("ipv4, ipv6").ipv6);
    CHECK(InetProtocols::parse("ALL").ipv6);
}

TEST_CASE("the time is for the whole announcement, not for each of its parts", "[smtpd]") {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    const UniqueFd proxy(ends[0]);
    const std::unique_ptr<Stream> stream = make_socket_stream(UniqueFd(ends[1]));
    const auto announce = [](int fd) -> Task<> {
        const std::string whole = header(0x21, 0x11, kBody4);
        for (const std::string& part : {whole.substr(0, 2), whole.substr(2, kProxyHead - 2), whole.substr(kProxyHead)}) {
            CHECK(::send(fd, part.data(), part.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(part.size()));
            co_await sleep_for(Millis(200));
        }
    };
    spawn(announce(proxy.get()));
    const Result<std::optional<ProxiedClient>> client = Loop::current().run_until(read_proxied_client(*stream, Millis(300), kBoth));
    REQUIRE_FALSE(client);
    CHECK(client.error().code == Errc::timeout);
    Loop::current().run_until(sleep_for(Millis(400)));   // the other side has come to its end
}

TEST_CASE("the header is read and the client's first words are left", "[smtpd]") {
    std::string rest;
    CHECK(heard("PROXY TCP4 192.0.2.1 198.51.100.1 1234 25\r\nEHLO x\r\n", &rest) == "192.0.2.1:1234 > 198.51.100.1:25");
    CHECK(rest == "EHLO x\r\n");
    CHECK(heard("PROXY TCP4 192.0.2.1 198.51.100.1 1234 25\n") == "192.0.2.1:1234 > 198.51.100.1:25");
    CHECK(heard(header(0x21, 0x11, kBody4) + "EHLO x\r\n", &rest) == "192.0.2.9:1234 > 198.51.100.1:25");
    CHECK(rest == "EHLO x\r\n");
    CHECK(heard(header(0x21, 0x21, kBody6)) == "2001:db8::1:1234 > 2001:db8::2:25");
    CHECK(heard(header(0x21, 0x11, kBody4 + std::string("\4\0\1x", 4)) + "EHLO x\r\n", &rest) == "192.0.2.9:1234 > 198.51.100.1:25");
    CHECK(rest == "EHLO x\r\n");
    CHECK(heard(header(0x20, 0x00, "")) == "itself");
    CHECK(heard(header(0x20, 0x11, kBody4)) == "itself");
}

TEST_CASE("a header that is wrong, cut or late is an error", "[smtpd]") {
    CHECK(heard("EHLO x\r\n").find("unrecognized protocol header: EHLO x") == 0);
    CHECK(heard("\r\nEHLO example.org\r\n").find("unrecognized protocol header: ") == 0);
    CHECK(heard("PROXY " + std::string(600, 'x') + "\r\n") == "missing protocol header terminator");
    CHECK(heard(header(0x21, 0x12, kBody4)).find("unsupported network protocol: ") == 0);
    CHECK(heard(header(0x21, 0x31, std::string(216, 'x'))).find("unsupported network protocol: ") == 0);
    CHECK(heard(header(0x21, 0x00, "")).find("unsupported network protocol: ") == 0);
    CHECK(heard(header(0x21, 0x11, kBody4.substr(0, 11))).find("short address field: ") == 0);
    CHECK(heard(header(0x21, 0x21, kBody4)).find("short address field: ") == 0);
    CHECK(heard(header(0x31, 0x11, kBody4)).find("unrecognized protocol version: ") == 0);
    CHECK(heard(header(0x22, 0x11, kBody4)).find("bad command in proxy header: ") == 0);
    CHECK(heard(header(0x21, 0x11, kBody4 + std::string(4090, 'x'))) == "version 2 protocol header of 4118 bytes");
    CHECK_FALSE(parse_proxy_header(header(0x21, 0x11, kBody4).substr(0, kProxyHead), kBody4 + "x", kBoth));
    for (const std::string& whole : {std::string("PROXY TCP4 192.0.2.1 198.51.100.1 1234 25\r\n"), header(0x21, 0x11, kBody4)}) {
        for (std::size_t cut = 0; cut < whole.size() - 1; ++cut) {
            CAPTURE(cut);
            CHECK(heard(whole.substr(0, cut)).find('>') == std::string::npos);
        }
        const std::string late = heard(whole.substr(0, 9), nullptr, true);
        CHECK(late != "still waiting");
        CHECK(late.find('>') == std::string::npos);
    }
}
