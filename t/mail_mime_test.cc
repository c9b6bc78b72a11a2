// The MIME tree: structure, ranges and sizes.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <sstream>

#include "lib/base/strings.h"
#include "lib/mail/header.h"
#include "lib/mail/mime.h"
#include "t/corpus.h"
#include "t/json.h"

using namespace postern;
using namespace postern::test;

namespace {

/// `multipart(leaf,message(leaf))`
std::string skeleton(const MimeTree& tree, std::uint32_t index) {
    const MimePart& part = tree.part(index);
    if (part.is_message) {
        return "message(" + skeleton(tree, part.first_child) + ")";
    }
    if (!part.is_multipart) {
        return "leaf";
    }
    std::string out;
    for (std::uint32_t child = part.first_child; child != MimePart::kNone; child = tree.part(child).next_sibling) {
        out += (out.empty() ? "" : ",") + skeleton(tree, child);
    }
    return "multipart(" + out + ")";
}

std::string structure(std::string_view message) { return skeleton(MimeTree::parse(message), 0); }

/// What every caller relies on.
void check_invariants(const MimeTree& tree) {
    const std::string_view message = tree.message();
    for (const MimePart& part : tree.parts()) {
        REQUIRE(part.header.begin <= part.header.end);
        REQUIRE(part.header.end == part.body.begin);
        REQUIRE(part.body.begin <= part.body.end);
        REQUIRE(part.body.end <= message.size());
        for (const TextRange& range : {part.header, part.body}) {
            const std::string_view text = range.of(message);
            REQUIRE(range.lines == static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n')));
            std::string crlf;
            append_crlf(crlf, text);
            REQUIRE(crlf_octets(text) == crlf.size());
            const bool split_pair = range.begin > 0 && !text.empty() && text[0] == '\n' && message[range.begin - 1] == '\r';
            REQUIRE(range.octets() + (split_pair ? 1 : 0) == crlf.size());
        }
        if (part.parent != MimePart::kNone) {
            const MimePart& parent = tree.part(part.parent);
            REQUIRE(part.header.begin >= parent.body.begin);
            REQUIRE(part.body.end <= parent.body.end);
        }
    }
    REQUIRE(tree.root().header.begin == 0);
    REQUIRE(tree.root().body.end == message.size());
    REQUIRE(tree.octets() == crlf_octets(message));
}

std::string to_crlf(std::string_view text) {
    std::string out;
    append_crlf(out, text);
    return out;
}

}  // namespace

TEST_CASE("a message without MIME is one text part", "[mail]") {
    const MimeTree tree = MimeTree::parse("From: a\n\nbody\n");
    CHECK(tree.parts().size() == 1);
    CHECK(tree.root().type.type == "text");
    CHECK(tree.root().body.octets() == 6);
    CHECK(tree.root().body.lines == 1);
    CHECK(tree.octets() == 17);
    CHECK(MimeTree::parse("").root().body.octets() == 0);
    CHECK(MimeTree::parse("\n").root().header.octets() == 2);
    CHECK(MimeTree::parse("x").root().header.octets() == 1);
}

TEST_CASE("multiparts nest and end as RFC 2046 says", "[mail]") {
    const std::string head = "Content-Type: multipart/mixed; boundary=b\n\n";
    CHECK(structure(head + "--b\n\nx\n--b--\n") == "multipart(leaf)");
    CHECK(structure(head + "pre\n--b\n\nx\n--b \t\n\ny\n--b--\nepilogue\n--b\n") == "multipart(leaf,leaf)");
    CHECK(structure(head + "--b\n\nx\n") == "multipart(leaf)");
    CHECK(structure(head) == "multipart()");
    CHECK(structure(head + "--b\n") == "multipart(leaf)");
    CHECK(structure(head + "--b\nSubject: no empty line\n--b\n--b\n--b--\n") == "multipart(leaf,leaf,leaf)");
    CHECK(structure(head + "--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\n1\n--bb\n\n2\n--bb--\n--b\n\n3\n--b--\n") ==
          "multipart(multipart(leaf,leaf),leaf)");
    // The inner one never ends; the outer boundary ends it.
    CHECK(structure(head + "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n1\n--b\n\n3\n--b--\n") == "multipart(multipart(leaf),leaf)");
    CHECK(structure("Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\ny\n--b--\n") == "multipart(message(leaf))");
    CHECK(structure("Content-Type: message/rfc822\n\nSubject: x\n\ny\n") == "message(leaf)");
    const std::string inner = head + "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n1\n--c--\n--b--\n";
    CHECK(MimeTree::parse(inner).part(1).body.of(inner) == "--c\n\n1\n--c--");
    CHECK(structure("Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n") == "leaf");
    CHECK(structure("Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\nx\n----\n") == "leaf");
}

TEST_CASE("the line end before a boundary belongs to the boundary", "[mail]") {
    for (const bool crlf : {false, true}) {
        const std::string text = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n\n--b\nX: y\n\n--b--\n";
        const std::string message = crlf ? to_crlf(text) : text;
        const MimeTree tree = MimeTree::parse(message);
        REQUIRE(tree.parts().size() == 3);
        CHECK(tree.part(1).body.octets() == 5);
        CHECK(tree.part(1).body.lines == 1);
        CHECK(tree.part(1).header.octets() == 2);
        CHECK(tree.part(2).body.octets() == 0);
        CHECK(tree.part(2).header.octets() == 8);
        check_invariants(tree);
    }
}

TEST_CASE("depth and number of parts are bounded", "[mail]") {
    std::string deep;
    for (int i = 0; i < 5000; ++i) {
        deep += "Content-Type: message/rfc822\n\n";
    }
    const MimeTree tree = MimeTree::parse(deep);
    CHECK(tree.parts().size() == MimeLimits{}.max_depth + 1);
    CHECK(tree.parts().back().type.type == "application");
    check_invariants(tree);

    std::string nested;
    for (int i = 0; i < 5000; ++i) {
        nested += "Content-Type: multipart/mixed; boundary=" + std::to_string(i) + "x\n\n--" + std::to_string(i) + "x\n";
    }
    CHECK(MimeTree::parse(nested).parts().size() == MimeLimits{}.max_depth + 1);

    std::string wide = "Content-Type: multipart/mixed; boundary=b\n\n";
    for (int i = 0; i < 20000; ++i) {
        wide += "--b\n\n";
    }
    const MimeTree many = MimeTree::parse(wide);
    CHECK(many.parts().size() == MimeLimits{}.max_parts);
    check_invariants(many);
}

TEST_CASE("every prefix of a message is a message", "[mail]") {
    const std::string text = "Content-Type: multipart/mixed; boundary=b\n\npre\n--b\nContent-Type: multipart/digest;\n boundary=bb\n\n--bb\n\nFrom: x\n\ny\n"
                             "--bb--\nepi\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: z\n\nw\n--b--\nend\n";
    for (const std::string& message : {text, to_crlf(text)}) {
        for (std::size_t size = 0; size <= message.size(); ++size) {
            const std::string prefix = message.substr(0, size);
            check_invariants(MimeTree::parse(prefix));
        }
    }
}

TEST_CASE("the trees of mail-parser's messages", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    // Where the expectation is one parser's way to recover and not the standard's.  Our result is checked by the
    // invariants above.
    const std::map<std::string, std::string> exceptions = {
        {"legacy/049", "the last line end is left out of a uuencoded body"},
        {"malformed/000", "parts without an empty line are given up there; here each has a header and no body"},
        {"malformed/001", "a boundary in the middle of a line is none (RFC 2046 section 5.1.1)"},
        {"malformed/002", "a multipart without any part stays a multipart"},
        {"malformed/004", "a boundary in the middle of a line"},
        {"malformed/007", "a boundary in the middle of a line"},
        {"malformed/008", "an inner multipart that never ends is ended by the outer boundary, not by the message"},
        {"malformed/009", "the same"},
        {"malformed/011", "the same"},
        {"malformed/012", "the same"},
        {"malformed/013", "an open delimiter at the end begins an empty part"},
        {"malformed/014", "the same"},
        {"malformed/016", "an inner multipart that never ends"},
        {"malformed/019", "the last line end belongs to the body"},
        {"malformed/020", "of two Content-Type fields the first counts, there the second"},
        {"malformed/021", "the same"},
        {"malformed/022", "a header that a boundary ends"},
        {"rfc/008", "the last line end of a base64 body before a boundary's own"},
        {"thirdparty/005", "a boundary in the middle of a line"},
        {"thirdparty/015", "a boundary in a header ends it; there it is text"},
    };
    Tally tally("messages/mail-parser");
    for (const std::string& file : files_below(root + "/messages/mail-parser", ".eml")) {
        for (const bool crlf : {false, true}) {
            const std::string name = file.substr(0, file.size() - 4);
            const std::string expected_text = read_file(name + (crlf ? ".crlf.json" : ".json"));
            if (expected_text.empty()) {
                continue;
            }
            std::string message = read_file(file);
            std::string lf;   // some files have CRLF line ends, and the expected offsets are those of the other form
            for (std::size_t i = 0; i < message.size(); ++i) {
                lf += message[i] == '\r' && i + 1 < message.size() && message[i + 1] == '\n' ? "" : std::string(1, message[i]);
            }
            message = crlf ? to_crlf(lf) : lf;
            const MimeTree tree = MimeTree::parse(message);
            check_invariants(tree);
            const Json expected = parse_json(expected_text);
            // Parts in our order: children of multiparts, with nested messages left out (they are Json of their own).
            const Json& parts = expected["parts"];
            std::string wanted;
            for (const Json& part : parts.items) {
                wanted += std::to_string(part["offset_header"].integer()) + "-" + std::to_string(part["offset_body"].integer()) + "-" +
                          std::to_string(part["offset_end"].integer()) + (part["body"]["Multipart"].is_null() ? "" : "m") + " ";
            }
            std::string got;
            for (std::uint32_t i = 0; i < tree.parts().size(); ++i) {
                const MimePart& part = tree.part(i);
                bool nested = false;
                for (std::uint32_t up = part.parent; up != MimePart::kNone; up = tree.part(up).parent) {
                    nested = nested || tree.part(up).is_message;
                }
                if (!nested) {
                    got += std::to_string(part.header.begin) + "-" + std::to_string(part.body.begin) + "-" + std::to_string(part.body.end) +
                           (part.is_multipart ? "m" : "") + " ";
                }
            }
            CAPTURE(name, crlf);
            const std::string key = name.substr((root + "/messages/mail-parser/").size());
            if (exceptions.count(key) != 0) {
                CHECK((got != wanted || key == "legacy/049"));
                tally.except();
                continue;
            }
            CHECK(got == wanted);
            tally.count(got == wanted);
        }
    }
}

namespace {

/// The same skeleton from mime4j's event stream.
std::string skeleton_of_xml(const std::string& xml) {
    std::string out;
    bool first = true;
    const auto open = [&](const std::string& what) {
        out += (first ? "" : ",") + what;
        first = true;
    };
    std::size_t depth = 0;
    for (std::size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
        const std::string tag = xml.substr(at + 1, xml.find('>', at) - at - 1);
        if (tag == "message" && depth++ > 0) {
            open("message(");
        } else if (tag == "multipart") {
            open("multipart(");
        } else if (tag == "body") {
            open("leaf");
            first = false;
        } else if (tag == "/multipart" || (tag == "/message" && --depth > 0)) {
            out += ")";
            first = false;
        }
    }
    return out;
}

}  // namespace

TEST_CASE("the structures of mime4j and MIME-tools", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const std::map<std::string, std::string> exceptions = {
        // IMAP's structure is that of the stored bytes: a base64 body is not looked into (RFC 2046 section 5.2.1
        // forbids encoding it).
        {"bad-newlines-multiple-parts-base64", "message(leaf)"},
        {"base64encoded-rfc822message-nested", "message(leaf)"},
        {"multi-2gifs-base64", "message(leaf)"},
        // A boundary does not end in white space; what is there was added on the way (RFC 2046 section 5.1.1).
        {"very-long-boundary", "multipart(leaf,leaf,leaf)"},
        {"very-very-long-boundary", "multipart(leaf,leaf,leaf)"},
        {"weird-boundary", "multipart(leaf,leaf,leaf)"},
    };
    Tally tally("messages/mime4j and mimetools");
    for (const char* set : {"mime4j", "mimetools"}) {
        for (const std::string& file : files_below(root + "/messages/" + set, ".msg")) {
            const std::string name = file.substr(0, file.size() - 4);
            const std::string xml = read_file(name + ".xml");
            if (xml.empty()) {
                continue;
            }
            const std::string message = read_file(file);
            const MimeTree tree = MimeTree::parse(message);
            check_invariants(tree);
            const std::string got = skeleton(tree, 0);
            const std::string wanted = skeleton_of_xml(xml);
            const std::string key = name.substr(name.rfind('/') + 1);
            CAPTURE(key);
            const auto exception = exceptions.find(key);
            if (exception != exceptions.end()) {
                CHECK(got == exception->second);
                tally.except();
            } else {
                CHECK(got == wanted);
                tally.count(got == wanted);
            }
        }
    }
}

TEST_CASE("whole messages of all sets keep their invariants", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    int count = 0;
    for (const char* folder : {"/messages", "/bounces"}) {
        for (const std::string& file : files_below(root + folder, "")) {
            const std::string message = read_file(file);
            if (message.size() < (1u << 20)) {
                check_invariants(MimeTree::parse(message));
                ++count;
            }
        }
    }
    std::printf("MIME invariants hold in %d files\n", count);
    CHECK(count > 1000);
}

namespace {

/// First lines of header fields with the kind of entity they belong to, as Postfix's structure walker prints them.
std::vector<std::string> headers_of_reference(const std::string& text) {
    std::vector<std::string> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t bar = line.find("\t|");
        const std::string kind = line.substr(0, 4);
        if (bar != std::string::npos && (kind == "MAIN" || kind == "MULT" || kind == "NEST")) {
            found.push_back(kind + " " + line.substr(bar + 2));
        }
    }
    return found;
}

std::vector<std::string> headers_of_tree(const MimeTree& tree) {
    std::vector<std::string> found;
    for (const MimePart& part : tree.parts()) {
        const std::string kind = part.parent == MimePart::kNone ? "MAIN" : tree.part(part.parent).is_message ? "NEST" : "MULT";
        for (const HeaderField& field : split_header(part.header.of(tree.message()))) {
            std::string_view line = field.whole.substr(0, field.whole.find('\n'));
            found.push_back(kind + " " + std::string(line));
        }
    }
    return found;
}

}  // namespace

TEST_CASE("Postfix finds the same headers in the same places", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const std::map<std::string, std::string> exceptions = {
        {"mime_test", "unfolding removes line ends only (RFC 5322 section 2.2.3), so that boundary has two spaces"},
        {"mime_garb1", "message/rfc822 is looked into whatever its encoding, for BODYSTRUCTURE has to say what is in it"},
        {"mime_garb2", "a line that is no field ends a header in cleanup(8), not for clients, which see the stored bytes"},
        {"mime_garb3", "the same"},
    };
    Tally tally("smtp/postfix MIME headers");
    for (const char* name : {"mime_test", "mime_nest", "mime_trunc", "mime_dom", "mime_garb1", "mime_garb2", "mime_garb3", "mime_garb4", "mime_8bit"}) {
        CAPTURE(name);
        const std::string message = read_file(root + "/smtp/postfix/" + name + ".in");
        const MimeTree tree = MimeTree::parse(message, {.max_depth = 100, .max_parts = 5000});
        check_invariants(tree);
        const std::vector<std::string> wanted = headers_of_reference(read_file(root + "/smtp/postfix/" + name + ".ref"));
        const std::vector<std::string> got = headers_of_tree(tree);
        REQUIRE(!wanted.empty());
        if (exceptions.count(name) != 0) {
            CHECK(got != wanted);
            tally.except();
        } else {
            CHECK(got == wanted);
            tally.count(got == wanted);
        }
    }
}
