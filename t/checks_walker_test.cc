// The structure of a message that streams by: what is a field of which header, what is body, and that no byte is lost.
#include <catch2/catch.hpp>

#include <algorithm>

#include "lib/checks/filter.h"
#include "lib/checks/mime_walker.h"
#include "lib/log/capture.h"

using namespace postern;

namespace {

constexpr std::string_view kMail =
    "Subject: outer\n"
    "Content-Type: multipart/mixed;\n\tboundary=\"b 1\"\n"
    "\n"
    "preamble\n"
    "--b 1\n"
    "Content-Type: text/plain\n"
    "X-Part: one\n"
    " folded\n"
    "\n"
    "text\n"
    "--b 1\n"
    "Content-Type: message/rfc822\n"
    "\n"
    "Subject: inner\n"
    "Content-Type: multipart/alternative; boundary=b2\n"
    "\n"
    "--b2\n"
    "\n"
    "inner text\n"
    "--b2--\n"
    "--b 1--\n"
    "epilogue\n";

/// "H", "M", "N", "B" and the text, for each piece.
std::vector<std::string> walk(std::string_view mail, std::size_t cut, MimeWalker::Limits limits = {}) {
    MimeWalker walker(limits);
    std::vector<std::string> out;
    const auto take = [&] {
        for (const MimeWalker::Piece& piece : walker.take_pieces()) {
            out.push_back((piece.rest ? std::string("R") : std::string(1, "HMNB"[static_cast<int>(piece.kind)])) + piece.text);
        }
    };
    for (std::size_t at = 0; at < mail.size(); at += cut) {
        walker.feed(mail.substr(at, cut));
        take();
    }
    walker.finish();
    take();
    return out;
}

std::string joined(const std::vector<std::string>& pieces) {
    std::string out;
    for (const std::string& piece : pieces) {
        out += piece.substr(1);
    }
    return out;
}

std::string filtered(const char* settings, std::string_view mail, std::string* log = nullptr, std::uint64_t body_limit = 51200) {
    const Config config = std::move(*Config::from_text(settings));
    auto checks = ContentChecks::open(config, table_context(config));
    REQUIRE(checks);
    CheckFilter filter(**checks, MimeWalker::Limits{}, body_limit,
                       [log](const char* action, const char* what, std::string_view line, std::string_view text) {
                           if (log != nullptr) {
                               *log += std::string(action) + " " + what + " " + std::string(line) + "|" + std::string(text) + "\n";
                           }
                       });
    std::string out;
    for (std::size_t at = 0; at < mail.size(); at += 7) {
        REQUIRE(filter.feed(mail.substr(at, 7), out));
    }
    REQUIRE(filter.finish(out));
    return out;
}

}  // namespace

TEST_CASE("fields are told by the header they are in", "[checks]") {
    const std::vector<std::string> expected = {
        "HSubject: outer\n", "MContent-Type: multipart/mixed;\n\tboundary=\"b 1\"\n", "B\n", "Bpreamble\n", "B--b 1\n",
        "MContent-Type: text/plain\n", "MX-Part: one\n folded\n", "B\n", "Btext\n", "B--b 1\n", "MContent-Type: message/rfc822\n", "B\n",
        "NSubject: inner\n", "MContent-Type: multipart/alternative; boundary=b2\n", "B\n", "B--b2\n", "B\n", "Binner text\n", "B--b2--\n",
        "B--b 1--\n", "Bepilogue\n"};
    CHECK(walk(kMail, kMail.size()) == expected);
}

TEST_CASE("pieces do not depend on how the bytes are cut, and are all there is", "[checks]") {
    const std::vector<std::string> whole = walk(kMail, kMail.size());
    for (std::size_t cut = 1; cut < kMail.size(); ++cut) {
        CAPTURE(cut);
        CHECK(walk(kMail, cut) == whole);
    }
    for (std::size_t end = 0; end <= kMail.size(); ++end) {
        CAPTURE(end);
        CHECK(joined(walk(kMail.substr(0, end), 5)) == kMail.substr(0, end));
    }
}

TEST_CASE("what is encoded, too deep, or switched off is body", "[checks]") {
    const std::string encoded = "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nSubject: x\n\n";
    CHECK(walk(encoded, 9).back() == "B\n");
    CHECK(walk(encoded, 9)[3] == "BSubject: x\n");
    MimeWalker::Limits limits;
    limits.mime = false;
    CHECK(walk(kMail, 9, limits)[5] == "BContent-Type: text/plain\n");
    limits = {};
    limits.nesting = 1;
    const std::vector<std::string> shallow = walk(kMail, 9, limits);
    CHECK(std::find(shallow.begin(), shallow.end(), "NSubject: inner\n") == shallow.end());
    CHECK(joined(shallow) == kMail);
}

TEST_CASE("long lines and long fields come in pieces", "[checks]") {
    MimeWalker::Limits limits;
    limits.line = 8;
    limits.field = 20;
    const std::string mail = "X: 123456789012345678901234567890\n abc\nY: z\n\n0123456789abcdef\n";
    const std::vector<std::string> pieces = walk(mail, 3, limits);
    CHECK(joined(pieces) == mail);
    CHECK(pieces[0] == "HX: 1234567890123");
    CHECK(pieces[1][0] == 'R');
    CHECK(std::find(pieces.begin(), pieces.end(), "HY: z\n") != pieces.end());
}

TEST_CASE("a scan finds the part that says 8bit as a walk does", "[checks]") {
    const auto scan = [](const std::string& mail, std::size_t cut) {
        MimeWalker scanner(MimeWalker::Limits{}), walker(MimeWalker::Limits{});
        for (std::size_t at = 0; at < mail.size(); at += cut) {
            scanner.scan(std::string_view(mail).substr(at, cut));
            walker.feed(std::string_view(mail).substr(at, cut));
        }
        scanner.finish();
        walker.finish();
        CHECK(scanner.declares_eight_bit() == walker.declares_eight_bit());
        return scanner.declares_eight_bit();
    };
    const std::string multipart = "Content-Type: multipart/mixed; boundary=b\n\n", part = "text\n--no\n- -b\n\n--b\nA: b\n";
    const std::string says = "Content-Transfer-Encoding: ";
    const std::string nested = "Content-Type: message/rfc822\n\n", inner = "Content-Type: multipart/mixed; boundary=c\n\n--c\n";
    for (std::size_t cut = 1; cut < 60; ++cut) {
        CAPTURE(cut);
        CHECK(scan(multipart + part + says + "8bit\n\nx\n--b--\n", cut));
        CHECK(scan(multipart + part + says + "\n\tBINARY\n\nx\n--b--\n", cut));
        CHECK(scan(multipart + part + says + "8bit", cut));
        CHECK(scan(multipart + part + inner + "B: c\n" + says + "8bit\n\n--c--\n--b--\n", cut));
        CHECK(scan(multipart + part + nested + says + "8bit\n\nx\n", cut));
        CHECK(scan(nested + says + "8bit\n\nx\n", cut));
        CHECK_FALSE(scan(multipart + part + says + "8bit (x)\n\nx\n--b--\n", cut));
        CHECK_FALSE(scan(multipart + part + says + "8bit \n\nx\n--b--\n", cut));
        CHECK_FALSE(scan(multipart + part + says + "7bit\n\nx\n--b--\n", cut));
        CHECK_FALSE(scan(multipart + part + "\n" + says + "8bit\n\nx\n--b--\n", cut));
        CHECK_FALSE(scan("Content-Type: text/plain\n\n--b\n" + says + "8bit\n\n", cut));
    }
    CHECK_FALSE(scan(multipart + std::string(5000, 'x') + "--b\n" + says + "8bit\n", 4096));
    CHECK(scan(multipart + std::string(5000, 'x') + "\n--b\n" + says + "8bit\n", 4096));
}

TEST_CASE("offsets begin again in each part", "[checks]") {
    MimeWalker walker(MimeWalker::Limits{});
    walker.feed(kMail);
    walker.finish();
    for (const MimeWalker::Piece& piece : walker.take_pieces()) {
        if (piece.text == "text\n" || piece.text == "inner text\n") {
            CHECK(piece.offset == 1);   // after the empty line
        }
    }
}

TEST_CASE("a filter changes what the tables say, and nothing else", "[checks]") {
    std::string log;
    CHECK(filtered("", kMail) == kMail);
    const std::string out = filtered("header_checks = inline:{ { Subject: outer = REPLACE Subject: changed } }\n"
                                     "mime_header_checks = inline:{ { Content-Type: text/plain = PREPEND X-Seen: yes } }\n"
                                     "nested_header_checks = inline:{ { Subject: inner = IGNORE } }\n"
                                     "body_checks = inline:{ { text = WARN found } { inner text = STRIP } }\n",
                                     kMail, &log);
    std::string expected(kMail);
    const auto swap = [&expected](std::string_view from, std::string_view to) { expected.replace(expected.find(from), from.size(), to); };
    swap("Subject: outer", "Subject: changed");
    swap("Content-Type: text/plain", "X-Seen: yes\nContent-Type: text/plain");
    swap("Subject: inner\n", "");
    swap("inner text\n", "");
    CHECK(out == expected);
    CHECK(log == "replace header Subject: outer|Subject: changed\nprepend header Content-Type: text/plain|X-Seen: yes\n"
                 "warning body text|found\nstrip body inner text|\n");
    CHECK(filtered("body_checks = inline:{ { text = IGNORE } }\n", kMail, nullptr, 1) == kMail);   // beyond the limit
}

TEST_CASE("actions that decide about a message are cleanup's", "[checks]") {
    LogCapture log;
    using Kind = CheckAction::Kind;
    CHECK(parse_check_action("REJECT no", "smtp_header_checks", CheckActions::changes_only).kind == Kind::none);
    CHECK(log.last() == "warning: unknown command in smtp_header_checks map: REJECT no");
    CHECK(parse_check_action("reject no", "header_checks").kind == Kind::reject);
    CHECK(parse_check_action("STRIP x", "smtp_header_checks", CheckActions::changes_only).kind == Kind::strip);
    CHECK(parse_check_action("REPLACE", "header_checks").kind == Kind::none);
}
