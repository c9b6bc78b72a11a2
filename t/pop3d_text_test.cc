// The pieces of POP3 that need no mail store: command lines, dot-stuffing, unique ids, the last log line.
#include <catch2/catch.hpp>

#include "pop3d/command.h"
#include "pop3d/dot_writer.h"
#include "pop3d/logout_format.h"
#include "pop3d/uidl_format.h"

using namespace postern;
using namespace postern::pop3d;

namespace {

/// The message cut into pieces of `piece` bytes.
std::string sent(std::string_view message, std::size_t piece, DotOptions options = {}) {
    DotWriter writer(options);
    std::string out;
    bool wanted = true;
    for (std::size_t at = 0; wanted && at < message.size(); at += piece) {
        wanted = writer.write(message.substr(at, piece), out);
    }
    writer.finish(out);
    return out;
}

std::string uidl(std::string_view format) {
    const Result<UidlFormat> parsed = UidlFormat::parse(format);
    if (!parsed) {
        return "error";
    }
    UidlValues values;
    values.uid = 0x1A;
    values.uidvalidity = 1000000000;
    values.name = "1700000000.M1P2.Host";
    values.header_md5 = "0123456789abcdef0123456789abcdef";
    std::string out = "x";
    const Result<void> appended = parsed->append(out, values);
    return appended ? out.substr(1) : "error";
}

}  // namespace

TEST_CASE("command lines are taken apart", "[pop3d]") {
    CHECK(split_command("retr 1").verb == "RETR");
    CHECK(split_command("PASS  a b ").argument == " a b ");
    CHECK(split_command("QUIT").argument.empty());
    CHECK(split_command("").verb.empty());
    CHECK(words(" 1 \t 2  ") == std::vector<std::string_view>{"1", "2"});
    CHECK(words("1 2 3 4 5").size() == 3);
    CHECK(*parse_message_number("007", 10) == 7);
    for (const char* bad : {"", "x", "-1", "+1", "1x", "0", "11", "99999999999999999999999", "1.0"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_message_number(bad, 10));
    }
    CHECK(parse_line_count("0") == 0u);
    CHECK(parse_line_count("99999999999999999999999"));
    CHECK_FALSE(parse_line_count("-1"));
    CHECK_FALSE(parse_line_count(""));
}

TEST_CASE("a message is dot-stuffed however it is cut", "[pop3d]") {
    struct Case {
        std::string_view message, sent;
    };
    for (const Case& one : {Case{"", ".\r\n"}, Case{"a\n", "a\r\n.\r\n"}, Case{"a", "a\r\n.\r\n"}, Case{"a\r\nb\n", "a\r\nb\r\n.\r\n"},
                            Case{".\n..\n.a\nb.\n", "..\r\n...\r\n..a\r\nb.\r\n.\r\n"}, Case{".", "..\r\n.\r\n"},
                            Case{"a\r", "a\r\r\n.\r\n"}, Case{"a\rb\r\r\n", "a\rb\r\r\n.\r\n"}, Case{"\n\n", "\r\n\r\n.\r\n"},
                            Case{"\r\n.\r\n", "\r\n..\r\n.\r\n"}}) {
        for (std::size_t piece = 1; piece <= one.message.size() + 1; ++piece) {
            CAPTURE(one.message, piece);
            CHECK(sent(one.message, piece) == one.sent);
        }
    }
}

TEST_CASE("TOP sends the header and as many lines as asked for", "[pop3d]") {
    const std::string_view message = "A: 1\n b\n\none\ntwo\nthree\n";
    for (std::size_t piece = 1; piece <= message.size(); ++piece) {
        CHECK(sent(message, piece, {.body_lines = 0}) == "A: 1\r\n b\r\n\r\n.\r\n");
        CHECK(sent(message, piece, {.body_lines = 2}) == "A: 1\r\n b\r\n\r\none\r\ntwo\r\n.\r\n");
        CHECK(sent(message, piece, {.body_lines = 9}) == "A: 1\r\n b\r\n\r\none\r\ntwo\r\nthree\r\n.\r\n");
        CHECK(sent("A: 1\r\n\r\none\r\n", piece, {.body_lines = 0}) == "A: 1\r\n\r\n.\r\n");
        CHECK(sent("A: 1\n", piece, {.body_lines = 0}) == "A: 1\r\n.\r\n");
    }
}

TEST_CASE("client workarounds", "[pop3d]") {
    CHECK(sent(std::string_view("a\0b\n", 4), 10, {.replace_nuls = true}) == "a\x80" "b\r\n.\r\n");
    CHECK(sent("A: 1\n", 10, {.end_header = true}) == "A: 1\r\n\r\n.\r\n");
    CHECK(sent("A: 1\n\n", 10, {.end_header = true}) == "A: 1\r\n\r\n.\r\n");
}

TEST_CASE("unique ids in Dovecot's formats", "[pop3d]") {
    CHECK(uidl("%08Xu%08Xv") == "0000001a3b9aca00");
    CHECK(uidl("%{uid | hex(8)}%{uidvalidity|hex(8)}") == "0000001a3b9aca00");
    CHECK(uidl("%v-%u") == "1000000000-26");
    CHECK(uidl("%v.%u") == "1000000000.26");
    CHECK(uidl("%f") == "1700000000.M1P2.Host");
    CHECK(uidl("%Lg") == "1700000000.m1p2.host");
    CHECK(uidl("%UXu") == "1A");
    CHECK(uidl("%m") == "0123456789abcdef0123456789abcdef");
    CHECK(uidl("%m%m%m").size() == kMaxUidl);
    CHECK(uidl("%5u") == "26");                   // these as Dovecot makes them
    CHECK(uidl("%3v") == "100");
    CHECK(uidl("%05u") == "00026");
    CHECK(uidl("%Mf") == "fde68cf260bddef67f2f860f6b9e4cd3");
    CHECK(uidl("%MUf") == "FDE68CF260BDDEF67F2F860F6B9E4CD3");
    CHECK(uidl("%12Mf") == "fde68cf260bd");
    CHECK(uidl("%UMf") != uidl("%Mf"));
    CHECK(uidl("a b%%") == "a_b%");
    CHECK(uidl("%099999999999999999999u").size() == kMaxUidl);
    for (const char* bad : {"", "%", "%q", "%08", "%{uid", "%{nothing}", "%{uid|oct}", "%{uid|hex(x)}", "%{uid|hex(8}"}) {
        CAPTURE(bad);
        CHECK(uidl(bad) == "error");
    }
}

TEST_CASE("the last log line says what the session did", "[pop3d]") {
    LogoutFacts facts;
    facts.top_count = 1;
    facts.top_bytes = 2;
    facts.retr_count = 3;
    facts.retr_bytes = 4;
    facts.deleted_count = 5;
    facts.deleted_bytes = 6;
    facts.message_count = 7;
    facts.message_bytes = 8;
    facts.input = 9;
    facts.output = 10;
    CHECK(logout_text("top=%t/%p, retr=%r/%b, del=%d/%m, size=%s", facts) == "top=1/2, retr=3/4, del=5/7, size=8");
    CHECK(logout_text("%{deleted_bytes} %{top_count} %i%o 100%% %x %{y} %", facts) == "6 1 910 100% %x %{y} %");
}
