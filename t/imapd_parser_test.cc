#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "imapd/parse_any.h"
#include "imapd/syntax.h"
#include "lib/store/store.h"

using namespace postern::imapd;

namespace {

std::string set_of(const std::string& text, std::uint32_t largest) {
    Parser parser(text);
    SequenceSet set;
    if (!parser.set(set) || !parser.end()) {
        return "error: " + parser.error();
    }
    std::string out;
    const postern::store::UidSet resolved = set.resolve(largest);
    for (const postern::store::UidRange& range : resolved.ranges()) {
        out += std::to_string(range.first) + "-" + std::to_string(range.last) + " ";
    }
    return out;
}

template <class Arguments>
std::string error_of(bool (*parse)(Parser&, Arguments&), const std::string& text) {
    Parser parser(text);
    Arguments arguments;
    return parse(parser, arguments) ? "" : parser.error();
}

FetchArguments fetch(const std::string& text) {
    Parser parser(text);
    FetchArguments out;
    CAPTURE(text);
    REQUIRE(parse_fetch(parser, out));
    return out;
}

SearchArguments search(const std::string& text) {
    Parser parser(text);
    SearchArguments out;
    CAPTURE(text);
    REQUIRE(parse_search(parser, out));
    return out;
}

}  // namespace

TEST_CASE("sequence sets are ordered, merged and bounded by the largest number", "[imapd]") {
    CHECK(set_of("1", 9) == "1-1 ");
    CHECK(set_of("3:1,2", 9) == "1-3 ");
    CHECK(set_of("1:2,3,7:*", 9) == "1-3 7-9 ");
    CHECK(set_of("*:4", 9) == "4-9 ");
    CHECK(set_of("12:*", 9) == "9-12 ");
    CHECK(set_of("*", 0).empty());
    CHECK(set_of("4294967295,1:4294967295", 9) == "1-4294967295 ");
    CHECK(set_of("0", 9) == "error: Number must not be 0");
    CHECK(set_of("1,", 9) == "error: Number expected");
    CHECK(set_of("4294967296", 9) == "error: Number too large");
    CHECK(set_of("1:2:3", 9) == "error: Unexpected argument");
}

TEST_CASE("strings come as atoms, quoted or literals", "[imapd]") {
    const auto one = [](const std::string& text) {
        Parser parser(text);
        std::string out;
        return parser.astring(out) && parser.end() ? out : "error: " + parser.error();
    };
    CHECK(one("abc]") == "abc]");
    CHECK(one("\"a \\\"b\\\\\"") == "a \"b\\");
    CHECK(one("{3}\r\na\r\n") == "a\r\n");
    CHECK(one("{3+}\r\nabc") == "abc");
    CHECK(one("{0}\r\n").empty());
    CHECK(one("\"a\\x\"") == "error: Invalid escape in a quoted string");
    CHECK(one("\"a") == "error: Missing '\"'");
    CHECK(one(std::string("\"a\rb\"")) == "error: Invalid character in a quoted string");
    CHECK(one("{4}\r\nabc") == "error: Invalid literal");
    CHECK(one("{3}abc") == "error: Invalid literal");
    CHECK(one(std::string("{1}\r\n\0", 6)) == "error: NUL in a literal");
    CHECK(one("{99999999999999999999}\r\n") == "error: Number too large");
    CHECK(one("a b") == "error: Unexpected argument");
    CHECK(one("") == "error: String expected");
    CHECK(one("a\x80") == "error: Unexpected argument");
}

TEST_CASE("announced literals are recognised at the end of a line", "[imapd]") {
    LiteralHeader header;
    CHECK(ends_in_literal("a LOGIN {5}", header));
    CHECK((header.size == 5 && header.waits && !header.binary && header.start == 8));
    CHECK(ends_in_literal("a LOGIN {5+}", header));
    CHECK_FALSE(header.waits);
    CHECK(ends_in_literal("a LOGIN {5-}", header));
    CHECK_FALSE(header.waits);
    CHECK(ends_in_literal("a APPEND x ~{7}", header));
    CHECK((header.binary && header.start == 11));
    CHECK(ends_in_literal("a X {99999999999999999999}", header));
    CHECK(header.overflow);
    for (const char* const text : {"a X {}", "a X {+}", "a X {1+ }", "a X 1}", "", "}", "a X {-1}", "a {1}b"}) {
        CAPTURE(text);
        CHECK_FALSE(ends_in_literal(text, header));
    }
}

TEST_CASE("dates", "[imapd]") {
    const auto day = [](const std::string& text) {
        Parser parser(text);
        std::int64_t out = -1;
        return parser.date(out) && parser.end() ? out : -1;
    };
    CHECK(day("1-Jan-1970") == 0);
    CHECK(day("\"01-feb-1994\"") == 8797);
    CHECK(day("29-Feb-2000") == 11016);
    CHECK(day("29-Feb-1900") == -1);
    CHECK(day("31-Apr-2000") == -1);
    CHECK(day("0-Apr-2000") == -1);
    CHECK(day("1-Foo-2000") == -1);
    CHECK(day("1-Jan-200") == -1);
    CHECK(day("\"1-Jan-2000") == -1);
    const auto moment = [](const std::string& text) {
        Parser parser(text);
        std::int64_t seconds = -1;
        int zone = 0;
        return parser.date_time(seconds, zone) && parser.end() ? seconds : -1;
    };
    CHECK(moment("\"17-Jul-1996 02:44:25 -0700\"") == 837596665);
    CHECK(moment("\" 1-Jan-1970 00:00:01 +0000\"") == 1);
    CHECK(moment("\"1-Jan-1970 00:00:01 +0000\"") == -1);
    CHECK(moment("\"01-Jan-1970 24:00:01 +0000\"") == -1);
    CHECK(moment("\"01-Jan-1970 00:00:01 0000\"") == -1);
    CHECK(moment("01-Jan-1970") == -1);
}

TEST_CASE("FETCH items", "[imapd]") {
    using Kind = FetchItem::Kind;
    CHECK(fetch("1 ALL").items.size() == 4);
    CHECK(fetch("1 fast").items.size() == 3);
    CHECK(fetch("1 FULL").items.back().kind == Kind::body);
    const FetchArguments list = fetch("1:* (FLAGS UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY MODSEQ)");
    CHECK(list.items.size() == 7);
    CHECK(list.items[4].kind == Kind::body_structure);
    const FetchArguments section = fetch("1 BODY[1.2.HEADER.FIELDS (Subject \"To\")]<5.100>");
    REQUIRE(section.items.size() == 1);
    const FetchItem& item = section.items[0];
    CHECK((item.kind == Kind::section && !item.peek));
    CHECK(item.section.part == std::vector<std::uint32_t>{1, 2});
    CHECK(item.section.text == SectionText::header_fields);
    CHECK(item.section.fields == std::vector<std::string>{"Subject", "To"});
    CHECK((item.partial && item.partial->offset == 5 && item.partial->length == 100));
    CHECK(fetch("1 BODY.PEEK[]").items[0].section.text == SectionText::whole);
    CHECK(fetch("1 BODY[3.MIME]").items[0].section.text == SectionText::mime);
    CHECK(fetch("1 (BINARY.PEEK[1] BINARY.SIZE[2])").items[1].kind == Kind::binary_size);
    CHECK(fetch("1 FLAGS (CHANGEDSINCE 12345)").changed_since == 12345U);
    CHECK_FALSE(fetch("1 RFC822").items[0].peek);
    CHECK(fetch("1 RFC822.HEADER").items[0].peek);
    for (const char* const bad :
         {"", "1", "1 ", "1 FOO", "1 (FLAGS", "1 FLAGS)", "1 BODY[MIME]", "1 BODY[0]", "1 BODY[1.]", "1 BODY[1.2",
          "1 BODY[HEADER.FIELDS]", "1 BODY[HEADER.FIELDS ()]", "1 BODY[]<0>", "1 BODY[]<0.0>", "1 (ALL)",
          "1 FLAGS (CHANGEDSINCE)", "1 FLAGS (FOO 1)", "1 BINARY[HEADER]", "1 BODY[1HEADER]", "x FLAGS", "1 ()"}) {
        CAPTURE(bad);
        CHECK_FALSE(error_of(parse_fetch, bad).empty());
    }
    std::string deep = "1 BODY[1";
    for (int i = 0; i < 200; ++i) {
        deep += ".1";
    }
    CHECK(error_of(parse_fetch, deep + "]") == "Section too deep");
}

TEST_CASE("STORE", "[imapd]") {
    Parser parser("2:4 (UNCHANGEDSINCE 7) -FLAGS.SILENT (\\Deleted $Junk $junk)");
    StoreArguments out;
    REQUIRE(parse_store(parser, out));
    CHECK(out.mode == StoreArguments::Mode::remove);
    CHECK(out.silent);
    CHECK(out.unchanged_since == 7U);
    CHECK(out.flags.system == postern::store::kDeleted);
    CHECK(out.flags.keywords == std::vector<std::string>{"$Junk"});
    CHECK(error_of(parse_store, "1 FLAGS \\Seen NIL").empty());
    CHECK(error_of(parse_store, "1 FLAGS ()").empty());
    CHECK(error_of(parse_store, "1 FLAGS \\Recent") == "Invalid system flag");
    CHECK_FALSE(error_of(parse_store, "1 FLAGS").empty());
    CHECK_FALSE(error_of(parse_store, "1 FLAGS (a b").empty());
    CHECK_FALSE(error_of(parse_store, "1 *FLAGS (a)").empty());
}

TEST_CASE("SEARCH keys", "[imapd]") {
    using Kind = SearchKey::Kind;
    const SearchArguments plain = search("CHARSET utf-8 SEEN FROM \"x\" NOT (DELETED OR 1:3 UID 5)");
    CHECK(plain.charset == "UTF-8");
    REQUIRE(plain.root.children.size() == 3);
    CHECK(plain.root.children[0].flags == postern::store::kSeen);
    CHECK(plain.root.children[1].field == "From");
    CHECK(plain.root.children[2].kind == Kind::negate);
    CHECK(mentions(plain.root, Kind::uid));
    CHECK_FALSE(mentions(plain.root, Kind::body));
    const SearchArguments ret = search("RETURN (MIN COUNT) ALL");
    CHECK((ret.extended && ret.min && ret.count && !ret.all));
    CHECK(search("RETURN () ALL").all);
    CHECK_FALSE(search("RETURN (SAVE) ALL").all);
    CHECK(search("MODSEQ \"/flags/\\\\draft\" all 620162338").root.children[0].number == 620162338U);
    CHECK(search("HEADER X-Foo \"\"").root.children[0].field == "X-Foo");
    CHECK(search("YOUNGER 3600 LARGER 12").root.children.size() == 2);
    for (const char* const bad :
         {"", "FOO", "NOT", "OR 1", "(1", "1)", "ON", "ON 1-2-3", "LARGER x", "HEADER a", "KEYWORD \"a\"",
          "RETURN (FOO) ALL", "RETURN (ALL)", "CHARSET UTF-8", "YOUNGER 0", "MODSEQ x", "()", "SEEN  SEEN"}) {
        CAPTURE(bad);
        CHECK_FALSE(error_of(parse_search, bad).empty());
    }
    CHECK(error_of(parse_search, std::string(5000, '(') + "ALL") == "Search too deeply nested");
    std::string nots;
    for (int i = 0; i < 1000; ++i) {
        nots += "NOT ";
    }
    CHECK(error_of(parse_search, nots + "ALL") == "Search too deeply nested");
    std::string ors;
    for (int i = 0; i < 1000; ++i) {
        ors += "OR HEADER Message-ID <" + std::to_string(i) + "@x> ";
    }
    CHECK(search(ors + "SEEN").root.children[0].children.size() == 1001);   // a list, however it is written
    CHECK(search("OR OR 1 2 OR 3 4").root.children[0].children.size() == 3);
    CHECK_FALSE(error_of(parse_search, "OR 1 ORX").empty());
    CHECK_FALSE(error_of(parse_search, "OR 1 OR 2").empty());
}

TEST_CASE("LIST, CREATE, SELECT, STATUS and ID arguments", "[imapd]") {
    Parser parser("(SUBSCRIBED RECURSIVEMATCH) \"\" (\"a%\" INBOX) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))");
    ListArguments list;
    REQUIRE(parse_list(parser, list));
    CHECK(list.patterns == std::vector<std::string>{"a%", "INBOX"});
    CHECK((list.extended && list.select_subscribed && list.select_recursive && list.return_children));
    CHECK(list.status_items == (kStatusMessages | kStatusUnseen));
    CHECK(error_of(parse_list, "\"\" \"\"").empty());
    CHECK(error_of(parse_list, "() \"\" %").empty());
    for (const char* const bad : {"(imaptest) \"\" \"\"", "(recursivematch) \"\" \"\"", "\"\" \"\" return (imaptest)",
                                  "(recursivematch remote) \"\" \"\"", "\"\"", "\"\" ()", "\"\" (a", "\"\" a FOO ()"}) {
        CAPTURE(bad);
        CHECK_FALSE(error_of(parse_list, bad).empty());
    }
    CHECK(error_of(parse_create, "x (USE (\\Drafts \\Sent))").empty());
    CHECK_FALSE(error_of(parse_create, "x (USE (Drafts))").empty());
    CHECK(error_of(parse_select, "INBOX (CONDSTORE)").empty());
    CHECK(error_of(parse_select, "INBOX (QRESYNC)") == "Unknown SELECT parameter");
    CHECK(error_of(parse_status, "x ()") == "Name expected");
    CHECK(error_of(parse_status, "x (FOO)") == "Unknown STATUS item");
    CHECK(error_of(parse_id, "(\"name\" NIL \"version\" \"1\")").empty());
    CHECK(error_of(parse_id, "NIL").empty());
    CHECK_FALSE(error_of(parse_id, "(\"name\")").empty());
}

TEST_CASE("no prefix and no single changed byte of a command upsets the parser", "[imapd]") {
    const std::vector<std::string> commands = {
        "a1 LOGIN {4}\r\nfred \"secret\"",
        "a2 FETCH 1:*,3 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS.NOT (Subject To)]<0.100> BINARY[1]) (CHANGEDSINCE 5)",
        "a3 UID SEARCH RETURN (MIN MAX) CHARSET UTF-8 OR (NOT SEEN SENTSINCE 1-Feb-1994) KEYWORD x",
        "a4 STORE 1:4 (UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Seen $Junk)",
        "a5 LIST (SUBSCRIBED) \"\" (\"INBOX\" a%) RETURN (CHILDREN STATUS (MESSAGES SIZE))",
        "a6 APPEND INBOX (\\Seen) \" 7-Jul-1996 02:44:25 -0700\" {310}",
        "a7 CREATE x (USE (\\Drafts))",
    };
    for (const std::string& command : commands) {
        CAPTURE(command);
        CHECK(parse_any(command));
        for (std::size_t cut = 0; cut < command.size(); ++cut) {
            parse_any(command.substr(0, cut));
            for (const char c : {'\0', '(', '"', '{', ' ', '\xFF'}) {
                std::string changed = command;
                changed[cut] = c;
                parse_any(changed);
            }
        }
    }
}

TEST_CASE("the command lines of other servers' fuzz seeds get an answer", "[imapd][corpus]") {
    const char* const set = std::getenv("POSTERN_CORPUS");
    std::ifstream file(std::string(set != nullptr ? set : "../shared/corpus") + "/imap/mox/fuzzseed.txt");
    if (!file) {
        std::cout << "skipped: no corpus\n";
        return;
    }
    std::string line;
    std::size_t lines = 0;
    std::size_t bad = 0;
    while (std::getline(file, line)) {
        bad += parse_any(line) ? 0 : 1;
        ++lines;
    }
    CHECK(lines > 1000);
    CHECK(bad > 900);                          // most are a server's answers
}
