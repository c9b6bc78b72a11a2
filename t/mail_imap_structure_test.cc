// ENVELOPE, BODY, BODYSTRUCTURE and section numbers.
#include <catch2/catch.hpp>

#include <chrono>
#include <map>

#include "lib/mail/imap_structure.h"
#include "t/corpus.h"
#include "t/json.h"

using namespace postern;
using namespace postern::test;

namespace {

std::string section(const MimeTree& tree, std::string_view numbers, Section::What what) {
    const std::optional<Section> found = find_section(tree, numbers, what);
    return found ? std::string(found->range.of(tree.message())) : "none";
}

/// True when parentheses and strings balance as a client's parser needs it.
bool balanced(std::string_view text) {
    int depth = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '"') {
            for (++i; i < text.size() && text[i] != '"'; ++i) {
                i += text[i] == '\\' ? 1 : 0;
                if (i < text.size() && (text[i] == '\n' || text[i] == '\r')) {
                    return false;
                }
            }
        } else if (text[i] == '{') {
            const std::size_t size = std::strtoul(std::string(text.substr(i + 1, 12)).c_str(), nullptr, 10);
            i = text.find('}', i) + 2 + size;
        } else {
            depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
        }
        if (depth < 0) {
            return false;
        }
    }
    return depth == 0;
}

}  // namespace

TEST_CASE("strings are quoted when they can be", "[mail]") {
    const auto string = [](std::string_view text) {
        std::string out;
        append_imap_string(out, text);
        return out;
    };
    CHECK(string("") == "\"\"");
    CHECK(string("a\"b\\") == "\"a\\\"b\\\\\"");
    CHECK(string("a\r\nb") == "{4}\r\na\r\nb");
    CHECK(string("\xC3\xA4") == "{2}\r\n\xC3\xA4");
    CHECK(string(std::string_view("a\0b", 3)) == "{3}\r\na\x80" "b");
    CHECK(string(std::string(2000, 'x')).substr(0, 6) == "{2000}");
}

TEST_CASE("what an address lacks is not NIL, which would make it a group", "[mail]") {
    CHECK(imap_envelope("From: user\nTo: @d\n\n") ==
          "(NIL NIL ((NIL NIL \"user\" \"MISSING_DOMAIN\")) ((NIL NIL \"user\" \"MISSING_DOMAIN\")) "
          "((NIL NIL \"user\" \"MISSING_DOMAIN\")) ((NIL NIL \"MISSING_MAILBOX\" \"d\")) NIL NIL NIL NIL)");
    CHECK(imap_envelope("") == "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    CHECK(imap_envelope("Subject: a\n b\n\tc\nsubject: second\nTo: a@b\nTO: c@d\n") ==
          "(NIL \"a b\tc\" NIL NIL NIL ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) NIL NIL NIL NIL)");
}

TEST_CASE("a field that is there and empty is not NIL in an envelope (RFC 3501 section 7.4.2)", "[mail]") {
    CHECK(imap_envelope("Date:\nSubject: \nIn-Reply-To:\n \nMessage-ID:\nFrom:\n\n") ==
          "(\"\" \"\" NIL NIL NIL NIL NIL NIL \"\" \"\")");
}

TEST_CASE("sections are numbered as RFC 3501 section 6.4.5 says", "[mail]") {
    using What = Section::What;
    const std::string text =
        "Subject: top\nContent-Type: multipart/mixed; boundary=b\n\n--b\nX: 1\n\none\n--b\nContent-Type: message/rfc822\n\n"
        "Subject: inner\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nA\n--c\nY: 2\n\nB\n--c--\n--b\n"
        "Content-Type: message/rfc822\n\nSubject: plain\n\nP\n--b--\n";
    const MimeTree tree = MimeTree::parse(text);
    CHECK(section(tree, "", What::whole) == text);
    CHECK(section(tree, "", What::header) == "Subject: top\nContent-Type: multipart/mixed; boundary=b\n\n");
    CHECK(section(tree, "1", What::whole) == "one");
    CHECK(section(tree, "1", What::mime) == "X: 1\n\n");
    CHECK(section(tree, "1", What::header) == "none");
    CHECK(section(tree, "1.1", What::whole) == "none");
    CHECK(section(tree, "2", What::mime) == "Content-Type: message/rfc822\n\n");
    CHECK(section(tree, "2", What::header) == "Subject: inner\nContent-Type: multipart/alternative; boundary=c\n\n");
    CHECK(section(tree, "2", What::text) == "--c\n\nA\n--c\nY: 2\n\nB\n--c--");
    CHECK(section(tree, "2.1", What::whole) == "A");
    CHECK(section(tree, "2.2", What::whole) == "B");
    CHECK(section(tree, "2.2", What::mime) == "Y: 2\n\n");
    CHECK(section(tree, "2.3", What::whole) == "none");
    CHECK(section(tree, "3.1", What::whole) == "P");
    CHECK(section(tree, "3.1", What::mime) == "Subject: plain\n\n");
    CHECK(section(tree, "3.2", What::whole) == "none");
    CHECK(section(tree, "4", What::whole) == "none");
    for (const char* bad : {"0", ".", "1.", "x", "1..1", "99999999999999999999", "-1"}) {
        CHECK(section(tree, bad, What::whole) == "none");
    }
    const MimeTree simple = MimeTree::parse("A: b\n\nbody\n");
    CHECK(section(simple, "1", What::whole) == "body\n");
    CHECK(section(simple, "1", What::mime) == "A: b\n\n");
    CHECK(section(simple, "1.1", What::whole) == "none");
    CHECK(section(simple, "2", What::whole) == "none");
    CHECK(section(simple, "", What::text) == "body\n");
    CHECK(section(simple, "", What::mime) == "none");
}

TEST_CASE("BODYSTRUCTURE and BODY of the facts table", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const Json table = parse_json(read_file(root + "/imap/facts/bodystructure.json"));
    REQUIRE(table["cases"].items.size() == 8);
    Tally tally("imap/facts/bodystructure");
    for (const Json& item : table["cases"].items) {
        for (const bool crlf : {false, true}) {
            std::string message;
            crlf ? append_crlf(message, item["message"].text()) : void(message = item["message"].text());
            const MimeTree tree = MimeTree::parse(message);
            const std::string structure = imap_bodystructure(tree);
            CHECK(structure == "(" + item["bodystructure"].text() + ")");
            CHECK(imap_body(tree) == "(" + item["body"].text() + ")");
            CHECK(body_from_bodystructure(structure) == imap_body(tree));
            tally.count(structure == "(" + item["bodystructure"].text() + ")");
        }
    }
}

TEST_CASE("ENVELOPE of the facts table", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const Json table = parse_json(read_file(root + "/imap/facts/envelope.json"));
    REQUIRE(table["cases"].items.size() == 6);
    Tally tally("imap/facts/envelope");
    for (const Json& item : table["cases"].items) {
        const std::string found = imap_envelope(item["message"].text());
        CHECK(found == "(" + item["envelope"].text() + ")");
        tally.count(found == "(" + item["envelope"].text() + ")");
    }
}

TEST_CASE("structures of all messages are well-formed and BODY follows from BODYSTRUCTURE", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    int count = 0;
    for (const std::string& file : files_below(root + "/messages", "")) {
        const std::string message = read_file(file);
        if (message.size() > (1u << 20)) {
            continue;
        }
        CAPTURE(file);
        const MimeTree tree = MimeTree::parse(message);
        const std::string structure = imap_bodystructure(tree);
        REQUIRE(balanced(structure));
        REQUIRE(balanced(imap_envelope(tree.root().header.of(message))));
        REQUIRE(body_from_bodystructure(structure) == imap_body(tree));
        ++count;
    }
    std::printf("structures of %d messages are well-formed\n", count);
    CHECK(count > 500);
}

TEST_CASE("a damaged stored BODYSTRUCTURE is noticed or harmless", "[mail]") {
    const MimeTree tree = MimeTree::parse("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\nContent-Description: \xC3\xA4\n\nSubject: x\n\ny\n--b--\n");
    const std::string good = imap_bodystructure(tree);
    REQUIRE(body_from_bodystructure(good));
    for (std::size_t i = 0; i < good.size(); ++i) {
        CHECK_FALSE(body_from_bodystructure(good.substr(0, i)));
        for (const char c : {'(', ')', '"', '{', ' ', 'x', '\\', '9'}) {
            std::string bad = good;
            bad[i] = c;
            (void)body_from_bodystructure(bad);
        }
    }
}

TEST_CASE("a 15 KB message costs tens of microseconds", "[mail][speed]") {
    std::string message = "From: A <a@example.org>\nTo: b@example.org\nSubject: x\nDate: Thu, 1 Jan 2015 00:00:00 +0000\nMessage-Id: <x@y>\n"
                          "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n";
    for (int i = 0; i < 200; ++i) {
        message += std::string(70, 'x') + "\n";
    }
    message += "--b\nContent-Type: text/html; charset=utf-8\n\n<p>\n--b--\n";
    const auto begin = std::chrono::steady_clock::now();
    std::size_t size = 0;
    constexpr int kRounds = 2000;
    for (int i = 0; i < kRounds; ++i) {
        const MimeTree tree = MimeTree::parse(message);
        size += imap_bodystructure(tree).size() + imap_envelope(tree.root().header.of(message)).size();
    }
    const auto spent = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin).count();
    std::printf("ENVELOPE and BODYSTRUCTURE of %zu bytes: %.1f us\n", message.size(), static_cast<double>(spent) / kRounds / 1000);
    CHECK(size > 0);
}
