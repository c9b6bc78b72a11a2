// Replies, features, next hops and content of the SMTP client.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <cstdlib>

#include "smtp/content.h"
#include "smtp/ledger.h"
#include "smtp/next_hop.h"
#include "smtp/reply.h"
#include "smtp/seven_bit.h"
#include "smtp/session.h"

using namespace postern;
using namespace postern::smtp;

namespace {

Reply parse(std::initializer_list<std::string_view> lines) {
    ReplyParser parser;
    for (const std::string_view line : lines) {
        if (parser.feed(line) == ReplyParser::State::done) {
            return parser.take();
        }
    }
    return Reply();
}

std::string encoded(std::string_view text, const DotEncoder::Form& form, std::size_t cut = 0) {
    DotEncoder encoder(form);
    std::string out;
    encoder.add(text.substr(0, cut), out);
    encoder.add(text.substr(cut), out);
    encoder.finish(out);
    return out;
}

std::string encoded(std::string_view text, std::size_t limit = 998, std::size_t cut = 0) {
    return encoded(text, DotEncoder::Form{limit}, cut);
}

}  // namespace

TEST_CASE("A reply has a code, an enhanced code when it fits, and its text", "[smtp]") {
    const Reply one = parse({"550 5.1.1 no such user"});
    CHECK(one.code == 550);
    CHECK(one.dsn == "5.1.1");
    CHECK(one.text == "550 5.1.1 no such user");
    CHECK(parse({"250"}).dsn == "2.0.0");
    CHECK(parse({"450 5.1.1 odd"}).dsn == "4.0.0");
    CHECK(parse({"450 4.1.1x"}).dsn == "4.0.0");
    CHECK(parse({"450 4.1111.1 x"}).dsn == "4.0.0");
    CHECK(parse({"250-first", "250-2.1.0 second", "250 2.6.0 third"}).dsn == "2.6.0");
    CHECK(parse({"250-first", "250 third"}).one_line() == "250-first 250 third");
}

TEST_CASE("Content goes out the same wherever it is cut, and no stray CR with it", "[smtp]") {
    constexpr std::string_view kBytes = "\r\n.a";
    constexpr std::size_t kLength = 6;
    for (std::size_t number = 0; number < 4096; ++number) {   // every text of six of these
        std::string text;
        for (std::size_t at = 0, rest = number; at < kLength; ++at, rest /= 4) {
            text += kBytes[rest % 4];
        }
        for (const std::size_t limit : {0, 2, 3}) {
            for (const bool dots : {true, false}) {
                const std::string whole = encoded(text, {limit, dots, true});
                const std::string kept = encoded(text, {limit, dots, false});
                bool good = whole.size() == kept.size() && (whole.empty() || whole.substr(whole.size() - 2) == "\r\n");
                for (std::size_t at = 0; at < whole.size() && good; ++at) {
                    const bool ends_line = at + 1 < whole.size() && whole[at + 1] == '\n';
                    good = (whole[at] != '\r' || ends_line) && (whole[at] == kept[at] || (whole[at] == ' ' && kept[at] == '\r'));
                }
                for (std::size_t cut = 1; cut <= kLength && good; ++cut) {
                    good = encoded(text, {limit, dots, true}, cut) == whole && encoded(text, {limit, dots, false}, cut) == kept;
                }
                if (!good) {
                    CAPTURE(number, limit, dots);
                    FAIL("cut, or a CR");
                }
            }
        }
    }
}

TEST_CASE("What is no reply line is garbage", "[smtp]") {
    ReplyParser parser;
    for (const std::string_view line : {"", "2", "25", "25x hello", "250x", "150 hello", "650 hello", "2500 hello", "hello"}) {
        CAPTURE(line);
        CHECK(parser.feed(line) == ReplyParser::State::garbage);
    }
}

TEST_CASE("A reply without end keeps its bound", "[smtp]") {
    ReplyParser parser;
    const std::string line = "250-" + std::string(1000, 'x');
    for (int i = 0; i < 1000; ++i) {
        CHECK(parser.feed(line) == ReplyParser::State::more);
    }
    CHECK(parser.feed("250 end") == ReplyParser::State::done);
    CHECK(parser.reply().text.size() < 2 * ReplyParser::kMaxText);
}

TEST_CASE("Features come from the lines behind the first", "[smtp]") {
    const Reply reply = parse({"250-mx.example SIZE 1", "250-PIPELINING", "250-SIZE 1000", "250-AUTH=LOGIN", "250-AUTH PLAIN LOGIN",
                               "250-XFORWARD NAME ADDR", "250 8bitmime"});
    const Features features = parse_features(reply.text, {});
    CHECK(features.pipelining);
    CHECK(features.size_limit == 1000);
    CHECK(features.eight_bit);
    CHECK(features.auth == "PLAIN LOGIN");
    CHECK(features.xforward == "NAME ADDR");
    CHECK_FALSE(features.dsn);
    CHECK_FALSE(parse_features(reply.text, {"pipelining"}).pipelining);
    CHECK_FALSE(parse_features("250 PIPELINING", {}).pipelining);
}

TEST_CASE("Lines end in CRLF and dots are doubled, however the text is cut", "[smtp]") {
    const std::string text = "a\n.\n..b\r\n\n.c\rd\n\r\n.end";
    const std::string wanted = "a\r\n..\r\n...b\r\n\r\n..c\rd\r\n\r\n..end\r\n";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        CAPTURE(cut);
        CHECK(encoded(text, 998, cut) == wanted);
    }
}

TEST_CASE("A stray CR goes out as a space where it could be taken for a line end", "[smtp]") {
    const std::string text = "a\r.\r\rb\n\r.\r\n\r\r\nend\r";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        CAPTURE(cut);
        CHECK(encoded(text, {998, true, true}, cut) == "a .  b\r\n .\r\n \r\nend\r\n");
        CHECK(encoded(text, {998, true, false}, cut) == "a\r.\r\rb\r\n\r.\r\n\r\r\nend\r\n");
    }
    CHECK(encoded("ab\rcd\ref\n", {3, true, true}) == "ab \r\n cd\r\n  e\r\n f\r\n");
}

TEST_CASE("Long lines are folded, and no folded line smuggles a dot", "[smtp]") {
    const std::string line(25, 'x');
    for (std::size_t cut = 0; cut <= line.size(); ++cut) {
        CAPTURE(cut);
        CHECK(encoded(line + "\n", 10, cut) == "xxxxxxxxxx\r\n xxxxxxxxx\r\n xxxxxx\r\n");
    }
    CHECK(encoded(std::string(10, 'x') + "\n", 10) == "xxxxxxxxxx\r\n");
    CHECK(encoded(std::string(10, 'x') + ".\n", 10) == "xxxxxxxxxx\r\n .\r\n");
    CHECK(encoded("." + std::string(9, 'x') + "\n", 10) == "..xxxxxxxxx\r\n");
    CHECK(encoded(std::string(3000, 'x') + "\n", 0) == std::string(3000, 'x') + "\r\n");
}

TEST_CASE("Content is headers, then body, from any file layout", "[smtp]") {
    char name[] = "/tmp/postern-content-XXXXXX";
    UniqueFd file(mkstemp(name));
    REQUIRE(file);
    unlink(name);
    const std::string headers = "Subject: x\n";
    for (const std::size_t size : {std::size_t(0), std::size_t(10), std::size_t(300000)}) {
        CAPTURE(size);
        const std::string body = size == 0 ? "" : "\n" + std::string(size, 'b');
        REQUIRE(ftruncate(file.get(), 0) == 0);
        REQUIRE(pwrite(file.get(), body.data(), body.size(), 128) == static_cast<ssize_t>(body.size()));
        REQUIRE(pwrite(file.get(), headers.data(), headers.size(), static_cast<off_t>(128 + body.size())) > 0);
        queue::Deliver request;
        request.message = UniqueFd(dup(file.get()));
        request.body = {128, body.size()};
        request.headers = {128 + body.size(), headers.size()};
        Content content;
        REQUIRE(content.open(request).ok());
        for (int round = 0; round < 2; ++round) {
            std::string all;
            for (;;) {
                const Result<std::string_view> piece = content.next();
                REQUIRE(piece.ok());
                if (piece->empty()) {
                    break;
                }
                all += *piece;
            }
            CHECK(all == headers + body);
            content.rewind();
        }
        request.headers.length += 1;
        Content torn;
        CHECK_FALSE(torn.open(request).ok());
    }
}

TEST_CASE("Next hops are read as Postfix reads them", "[smtp]") {
    const Config config = Config::defaults();
    const Settings smtp(config, Protocol::smtp), lmtp(config, Protocol::lmtp);
    const Services services;
    struct Case {
        const char* text;
        const char* domain;
        bool literal;
        int port;
    };
    for (const Case& want : {Case{"example.com", "example.com", false, 25}, Case{"example.com:26", "example.com", false, 26},
                             Case{"[mail.example.com]", "mail.example.com", true, 25},
                             Case{"[mail.example.com]:submission", "mail.example.com", true, 587},
                             Case{"[192.0.2.1]:2525", "192.0.2.1", true, 2525}, Case{"[2001:db8::1]:25", "2001:db8::1", true, 25},
                             Case{"[IPv6:2001:db8::1]", "2001:db8::1", true, 25}}) {
        CAPTURE(want.text);
        const Result<NextHop> hop = parse_next_hop(want.text, smtp, services);
        REQUIRE(hop.ok());
        CHECK(hop->domain == want.domain);
        CHECK(hop->literal_host == want.literal);
        CHECK(hop->port == want.port);
    }
    for (const char* bad : {"", "[x", "[]", "[x]25", "x:", ":25", "x:0", "x:99999", "x:no-such-service"}) {
        CAPTURE(bad);
        CHECK((parse_next_hop(bad, smtp, services).ok()) == (std::string_view(bad) == "x:"));   // an empty port is the default
    }
    CHECK(parse_next_hop("unix:private/x", lmtp, services)->socket_path == "private/x");
    CHECK(parse_next_hop("inet:host:24", lmtp, services)->port == 24);
    CHECK(parse_next_hop("inet:[::1]", lmtp, services)->domain == "::1");
    CHECK_FALSE(parse_next_hop("unix:", lmtp, services).ok());
    CHECK(next_hop_list("[a]:1, b  c") == std::vector<std::string>{"[a]:1", "b", "c"});
}

TEST_CASE("8-bit text becomes quoted-printable, other content base64, and 7-bit parts stay", "[smtp]") {
    CHECK(to_seven_bit("Subject: x\nContent-Transfer-Encoding: 8bit\n\nd\xc3\xb6n\n") ==
          "Subject: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\nd=C3=B6n\n");
    const std::string mixed = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n"
                              "preamble\n--b\nContent-Type: text/plain\n\nseven = 7\n--b\n\nd\xc3\xb6n\n--b\n"
                              "Content-Type: application/x\nContent-Transfer-Encoding: binary\n\n\xff\n--b--\nafter\n";
    CHECK(to_seven_bit(mixed) ==
          "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\n\n"
          "preamble\n--b\nContent-Type: text/plain\n\nseven = 7\n--b\nContent-Transfer-Encoding: quoted-printable\n\nd=C3=B6n\n--b\n"
          "Content-Type: application/x\nContent-Transfer-Encoding: base64\n\n/w==\n--b--\nafter\n");
    const std::string broken = "Content-Transfer-Encoding: base64\n\n\xff\n";
    CHECK(to_seven_bit(broken) == broken);
    CHECK(to_seven_bit("A: b\n\nplain\n") == "A: b\n\nplain\n");
}

TEST_CASE("The ledger keeps final fates until the queue manager is known to have them", "[smtp]") {
    Ledger ledger;
    const Ledger::Key key{"4A1B", 17};
    queue::RecipientDone done;
    done.index = 3;
    done.outcome = queue::kDelivered;
    done.reason = "250 ok";
    ledger.remember(key, done);
    CHECK(ledger.find(key, 3)->reason == "250 ok");
    CHECK_FALSE(ledger.find(key, 2));
    CHECK_FALSE(ledger.find({"4A1B", 18}, 3));   // another message with the same queue id
    ledger.forget(key);
    CHECK_FALSE(ledger.find(key, 3));
    for (std::int64_t i = 0; i < 3 * static_cast<std::int64_t>(Ledger::kMaxMessages); ++i) {
        ledger.remember({"x", i}, done);
    }
    CHECK(ledger.size() <= Ledger::kMaxMessages);
}

namespace {

Task<> take_turn(Ledger& ledger, Ledger::Key key, std::vector<std::uint32_t> indices, bool& mine) {
    co_await ledger.begin(key, indices);
    mine = true;
}

}  // namespace

TEST_CASE("A recipient that is being worked on is left alone", "[smtp]") {
    Ledger ledger;
    const Ledger::Key key{"4A1B", 17};
    bool first = false, second = false, other = false;
    spawn(take_turn(ledger, key, {1, 2}, first));
    spawn(take_turn(ledger, key, {2, 3}, second));
    spawn(take_turn(ledger, key, {4}, other));
    CHECK(first);
    CHECK_FALSE(second);
    CHECK(other);
    ledger.end(key, {1, 2});
    Loop::current().run_ready();
    CHECK(second);
}
