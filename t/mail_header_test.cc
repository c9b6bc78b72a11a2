// Splitting and streaming of headers.
#include <catch2/catch.hpp>

#include "lib/mail/header.h"
#include "t/corpus.h"

using namespace postern;
using namespace postern::test;

namespace {

/// Fields, what becomes of the body, and how the header ended.
struct Scanned {
    std::string fields;
    std::string body;
    bool missing = false;
    bool truncated = false;
};

Scanned scan(std::string_view message, std::size_t piece, HeaderLimits limits = {}) {
    HeaderScanner scanner(limits);
    Scanned out;
    std::string rest;
    while (!message.empty()) {
        const std::string_view part = message.substr(0, piece);
        message.remove_prefix(part.size());
        rest += scanner.feed(part);
    }
    scanner.finish();
    for (const std::string& field : scanner.take_fields()) {
        out.fields += field + "|";
    }
    out.body = scanner.body_start() + rest;
    out.missing = scanner.missing_separator();
    out.truncated = scanner.truncated();
    return out;
}

}  // namespace

TEST_CASE("a header is split into fields as they stand", "[mail]") {
    const std::string text = "A: 1\r\nb :2\n c\r\n\td\nno field\n: empty name\nE:\n\nbody";
    const std::vector<HeaderField> fields = split_header(text);
    REQUIRE(fields.size() == 5);
    CHECK(fields[0].name == "A");
    CHECK(fields[0].value == " 1");
    CHECK(fields[1].name == "b");
    CHECK(fields[1].value == "2\n c\r\n\td");
    CHECK(fields[1].whole == "b :2\n c\r\n\td");
    CHECK(fields[2].name.empty());
    CHECK(fields[2].value == "no field");
    CHECK(fields[3].name.empty());
    CHECK(fields[4].name == "E");
    CHECK(fields[4].value.empty());
    CHECK(find_field(text, "e").whole == "E:");
    CHECK(find_field(text, "zz").whole.empty());
    CHECK(split_message(text).body == "body");
    CHECK(split_message(text).has_separator);
    CHECK_FALSE(split_message("A: 1\n").has_separator);
    CHECK(split_header("From joe Mon\nA: 1\n").size() == 1);
    CHECK(split_header("A: 1\nB: 2\nC: 3\n", 2).size() == 2);
}

TEST_CASE("unfolding and comments", "[mail]") {
    CHECK(unfold(" a\r\n b\n\tc ") == "a b\tc");
    CHECK(unfold("a\rb") == "a\rb");
    CHECK(unfold("") == "");
    CHECK(strip_comments(" a (x (y) \\) ) b \"(z)\" ") == "a b \"(z)\"");
    CHECK(header_name_length("Subject: x") == 7);
    CHECK(header_name_length("Subject \t: x") == 7);
    CHECK(header_name_length("Sub ject: x") == 0);
    CHECK(header_name_length(": x") == 0);
    CHECK(header_name_length("From x") == 0);
}

TEST_CASE("a header is found however the message is cut", "[mail]") {
    struct Case {
        const char* message;
        const char* fields;
        const char* body;
        bool missing;
    };
    for (const Case& one : {Case{"A: 1\nB: 2\n c\n\nbody\n\nx", "A: 1|B: 2\n c|", "body\n\nx", false},
                            Case{"A: 1\r\nB: 2\r\n c\r\n\r\nbody\r\n", "A: 1|B: 2\n c|", "body\r\n", false},
                            Case{"A: 1\nbody line\nB: 2\n", "A: 1|", "body line\nB: 2\n", true},
                            Case{"body only", "", "body only", true},
                            Case{" body\n", "", " body\n", true},
                            Case{"\nbody\n", "", "body\n", false},
                            Case{"A: 1", "A: 1|", "", true},
                            Case{"A: 1\n", "A: 1|", "", true},
                            Case{"", "", "", true},
                            Case{"From joe\nA: 1\n\nx", "A: 1|", "x", false},
                            Case{">From joe\nA: 1\n\nx", "A: 1|", "x", false},
                            Case{"A: 1\nFrom joe\n\nx", "A: 1|", "From joe\n\nx", true},
                            Case{"A: 1\r\nx\ry\r\n", "A: 1|", "x\ry\r\n", true}}) {
        const std::string message = one.message;
        for (std::size_t piece = 1; piece <= message.size() + 1; ++piece) {
            CAPTURE(message, piece);
            const Scanned found = scan(message, piece);
            CHECK(found.fields == one.fields);
            CHECK(found.body == one.body);
            CHECK(found.missing == one.missing);
        }
    }
}

TEST_CASE("long headers are cut, long bodies are not", "[mail]") {
    const HeaderLimits limits{.max_field_bytes = 20, .max_header_bytes = 1000, .max_fields = 5};
    for (const std::size_t piece : {1, 7, 100000}) {
        CAPTURE(piece);
        Scanned found = scan("A: " + std::string(100, 'x') + "\nB: 2\n\nbody", piece, limits);
        CHECK(found.fields == "A: " + std::string(17, 'x') + "|B: 2|");
        CHECK(found.truncated);
        CHECK(found.body == "body");
        found = scan("A: 1\n " + std::string(100, 'x') + "\n " + std::string(100, 'y') + "\nB: 2\n\nbody", piece, limits);
        CHECK(found.fields == "A: 1\n " + std::string(14, 'x') + "|B: 2|");
        CHECK(found.body == "body");
        const std::string line(5000, 'x');
        found = scan("A: 1\n" + line + "\nend\n", piece, limits);
        CHECK(found.fields == "A: 1|");
        CHECK(found.body == line + "\nend\n");
        CHECK(scan(line, piece, limits).body == line);
        found = scan("A: 1\nA: 2\nA: 3\nA: 4\nA: 5\nA: 6\n\nbody", piece, limits);
        CHECK(found.fields == "A: 1|A: 2|A: 3|A: 4|A: 5|");
        CHECK(found.body == "A: 6\n\nbody");
    }
}

TEST_CASE("no byte of a message is lost between header and body", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    int count = 0;
    for (const std::string& file : files_below(root + "/messages", "")) {
        const std::string message = read_file(file);
        if (message.empty() || message.size() > (1u << 20)) {
            continue;
        }
        CAPTURE(file);
        HeaderScanner scanner;
        std::string body;
        std::string again;
        for (std::size_t at = 0; at < message.size(); at += 4096) {
            body += scanner.feed(std::string_view(message).substr(at, 4096));
        }
        scanner.finish();
        again = scanner.mbox_from().empty() ? "" : scanner.mbox_from() + "\n";
        for (const std::string& field : scanner.take_fields()) {
            again += field + "\n";
        }
        again += scanner.missing_separator() ? "" : "\n";
        again += scanner.body_start() + body;
        std::string wanted;   // but for the CRs of the header
        const std::size_t header = message.size() - scanner.body_start().size() - body.size();
        for (std::size_t i = 0; i < message.size(); ++i) {
            const bool dropped = i < header && message[i] == '\r' && i + 1 < message.size() && message[i + 1] == '\n';
            wanted += dropped ? "" : std::string(1, message[i]);
        }
        if (body.empty() && scanner.body_start().empty() && again == wanted + "\n") {
            wanted += "\n";   // the last field's missing line end
        }
        CHECK(again == wanted);
        ++count;
    }
    CHECK(count > 500);
}
