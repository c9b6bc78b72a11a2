#include <catch2/catch.hpp>

#include "smtpd/content.h"

using namespace postern::smtpd;

namespace {

struct Decoded {
    std::string content;
    std::string rest;
    bool finished = false;
    bool bare = false;
};

Decoded decode(const std::string& wire, BareNewline policy, std::size_t cut) {
    Decoded out;
    DataDecoder decoder(policy);
    const std::string first = wire.substr(0, cut);
    std::size_t used = decoder.feed(first, out.content);
    std::string rest = first.substr(used) + wire.substr(cut);
    used = decoder.feed(rest, out.content);
    out.rest = rest.substr(used);
    out.finished = decoder.finished();
    out.bare = decoder.saw_bare_newline();
    return out;
}

void check(const std::string& wire, BareNewline policy, const std::string& content, const std::string& rest, bool bare) {
    for (std::size_t cut = 0; cut <= wire.size(); ++cut) {
        CAPTURE(wire, cut);
        const Decoded got = decode(wire, policy, cut);
        CHECK(got.finished);
        CHECK(got.content == content);
        CHECK(got.rest == rest);
        CHECK(got.bare == bare);
    }
}

}  // namespace

TEST_CASE("an ordinary message ends at CRLF.CRLF, and dots are unstuffed", "[smtpd]") {
    check("a\r\nb\r\n.\r\nQUIT\r\n", BareNewline::reject, "a\nb\n", "QUIT\r\n", false);
    check(".\r\n", BareNewline::reject, "", "", false);
    check("..\r\n...\r\n.x\r\n.\r\n", BareNewline::reject, ".\n..\nx\n", "", false);
    check("a\r\n\r\n\r\n.\r\n", BareNewline::reject, "a\n\n\n", "", false);
}

TEST_CASE("a CR that is not part of CRLF is kept", "[smtpd]") {
    check("a\rb\r\r\n.\r\n", BareNewline::reject, "a\rb\r\n", "", false);
    check("\r.\r\n.\r\n", BareNewline::reject, "\r.\n", "", false);
    check(".\rx\r\n.\r\n", BareNewline::reject, "\rx\n", "", false);
    check("a\r.\r\r\n.\r\n", BareNewline::reject, "a\r.\r\n", "", false);
}

TEST_CASE("smuggled ends of data do not end the message", "[smtpd]") {
    for (const BareNewline policy : {BareNewline::reject, BareNewline::normalize}) {
        check("a\n.\nMAIL FROM:<x>\r\n.\r\n", policy, "a\n\nMAIL FROM:<x>\n", "", true);
        check("a\n.\r\nMAIL FROM:<x>\r\n.\r\n", policy, "a\n\nMAIL FROM:<x>\n", "", true);
        check("a\r\n.\nMAIL FROM:<x>\r\n.\r\n", policy, "a\n\nMAIL FROM:<x>\n", "", true);
        check("a\r\n.\r\r\nb\r\n.\r\n", policy, "a\n\r\nb\n", "", false);
        check("a\r.\r\nb\r\n.\r\n", policy, "a\r.\nb\n", "", false);
    }
}

TEST_CASE("trusted clients may end lines and data with LF alone", "[smtpd]") {
    check("a\nb\n.\nQUIT\n", BareNewline::accept, "a\nb\n", "QUIT\n", true);
    check("a\r\n.\nQUIT\n", BareNewline::accept, "a\n", "QUIT\n", true);
}

TEST_CASE("BDAT content keeps every byte but the CR of CRLF, however it is cut", "[smtpd]") {
    const std::string wire("a\r\nb\rc\nd\r\r\n.\r\n\0x\r", 18);
    for (std::size_t cut = 0; cut <= wire.size(); ++cut) {
        std::string content;
        bool pending = false;
        const bool first = unix_lines(wire.substr(0, cut), pending, content);
        const bool second = unix_lines(wire.substr(cut), pending, content);
        CHECK(first == (cut > 6));    // the LF after c has no CR
        CHECK(second == (cut <= 6));
        if (pending) {
            content += '\r';
        }
        CAPTURE(cut);
        CHECK(content == std::string("a\nb\rc\nd\r\n.\n\0x\r", 15));
    }
    const std::string good = "a\r\n\r\nb\rc\r\n";
    for (std::size_t cut = 0; cut <= good.size(); ++cut) {
        std::string content;
        bool pending = false;
        CAPTURE(cut);
        CHECK_FALSE(unix_lines(good.substr(0, cut), pending, content));
        CHECK_FALSE(unix_lines(good.substr(cut), pending, content));
    }
}
