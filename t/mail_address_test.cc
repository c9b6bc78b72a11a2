// Addresses: SMTP paths, header lists, domains, extensions.
#include <catch2/catch.hpp>

#include <map>
#include <set>

#include "lib/mail/address.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/header.h"
#include "t/corpus.h"
#include "t/json.h"

using namespace postern;
using namespace postern::test;

namespace {

/// "local|domain|parameters" or the error.
std::string path(std::string_view text, bool strict = false, bool allow_null = false) {
    const Result<SmtpPath> parsed = parse_path(text, {.strict = strict, .allow_null = allow_null});
    if (!parsed) {
        return parsed.error().code == Errc::too_big ? "too big" : "error";
    }
    return parsed->address.local + "|" + parsed->address.domain + "|" + std::string(parsed->parameters);
}

std::string list(std::string_view text) {
    std::string out;
    for (const ListAddress& address : parse_address_list(text)) {
        switch (address.kind) {
            case ListAddress::Kind::group_start: out += "[" + address.local + ":"; break;
            case ListAddress::Kind::group_end: out += "]"; break;
            case ListAddress::Kind::mailbox:
                out += "{" + address.name + "}" + address.local + "@" + address.domain + (address.invalid ? "!" : "") + ";";
        }
    }
    return out;
}

}  // namespace

TEST_CASE("SMTP paths are taken apart", "[mail]") {
    CHECK(path("<a@example.org>") == "a|example.org|");
    CHECK(path("<a@example.org> SIZE=12 BODY=8BITMIME") == "a|example.org|SIZE=12 BODY=8BITMIME");
    CHECK(path(" <a@example.org>  SIZE=12 ") == "a|example.org|SIZE=12");
    CHECK(path("<>", false, true) == "||");
    CHECK(path("<> AUTH=<>", false, true) == "||AUTH=<>");
    CHECK(path("<>") == "error");
    CHECK(path("<postmaster>") == "postmaster||");
    CHECK(path("<\"a b\"@example.org> X") == "a b|example.org|X");
    CHECK(path("<\"a>b\"@example.org>") == "a>b|example.org|");
    CHECK(path("<\"a\\\"b\"@example.org>") == "a\"b|example.org|");
    CHECK(path("<@one.example,@two.example:a@example.org>") == "a|example.org|");
    CHECK(path("<a@[192.0.2.1]>") == "a|[192.0.2.1]|");
    CHECK(path("<a@[IPv6:2001:db8::1]>") == "a|[IPv6:2001:db8::1]|");
    CHECK(path("<a+b=c/d@example.org>") == "a+b=c/d|example.org|");
    CHECK(path("<\\user@example.org> X") == "user|example.org|X");      // as Postfix reads these
    CHECK(path("<\\\\user@example.org>") == "\\user|example.org|");
    CHECK(path("<a\\ b@example.org>") == "a b|example.org|");
    CHECK(path("<a\\@b@example.org>") == "a@b|example.org|");
    CHECK(path("<\\user>") == "user||");
    CHECK(path("<\"\\\\user\"@example.org>") == "\\user|example.org|");
    CHECK(path("<user\\>") == "error");
    CHECK(path("<\\user@>") == "error");
    CHECK(path("<\\user@example.org>", true) == "error");
    CHECK(parse_path("<j\xC3\xBCrgen@example.org>")->utf8);
    CHECK_FALSE(parse_path("<jurgen@example.org>")->utf8);
}

TEST_CASE("paths that are none are refused", "[mail]") {
    for (const char* bad : {"", " ", "<", ">", "<a", "<a@>", "<@a>", "<a b@c>", "<\"a@b>", "<a@[1.2.3.4>", "<(>",
                            "<a@b,c@d>", "<group: a@b;>", "<a\x01@b>", "<a@b\r>", "<a@b>junk", "\"a", "<a@b(c>"}) {
        CAPTURE(bad);
        CHECK(path(bad, true, true) == "error");
        CHECK(path(bad, false, false) == "error");
    }
    CHECK(path(std::string("<a\0b@c>", 7)) == "error");
    CHECK(path("<" + std::string(3000, 'a') + "@b>") == "too big");
}

TEST_CASE("without strict_rfc821_envelopes what Postfix forgives is forgiven", "[mail]") {
    CHECK(path("a@example.org") == "a|example.org|");
    CHECK(path("a@example.org SIZE=1") == "a|example.org|SIZE=1");
    CHECK(path("< a@example.org >") == "a|example.org|");
    CHECK(path("<a@example.org(comment)>") == "a|example.org|");
    CHECK(path("<a..b@example.org>") == "a..b|example.org|");
    CHECK(path("a@example.org", true) == "error");
    CHECK(path("< a@example.org >", true) == "error");
    CHECK(path("<a..b@example.org>", true) == "error");
}

TEST_CASE("every prefix of a path gives an answer", "[mail]") {
    const std::string whole = "<@r.example:\"q\\\"x (y)\" . z@[IPv6:::1]> (c (d)) A=B <x>";
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        (void)parse_path(whole.substr(0, size), {.strict = false, .allow_null = true});
        (void)parse_path(whole.substr(size), {.strict = true, .allow_null = true});
        (void)parse_address_list(whole.substr(0, size));
        (void)parse_address_list(whole.substr(size));
    }
    CHECK(true);
}

TEST_CASE("external and internal forms", "[mail]") {
    CHECK(Address{"a b", "c.example"}.external() == "\"a b\"@c.example");
    CHECK(Address{"a b", "c.example"}.internal() == "a b@c.example");
    CHECK(Address{"", ""}.external().empty());
    CHECK(Address{"", "c.example"}.external() == "\"\"@c.example");
    CHECK(external_form("a@b@c") == "\"a@b\"@c");
    CHECK(external_form("postmaster") == "postmaster");
    CHECK(quote_local("a.b") == "a.b");
    CHECK(quote_local("a..b") == "\"a..b\"");
    CHECK(quote_local(".a") == "\".a\"");
    CHECK(quote_local("a\"\\") == "\"a\\\"\\\\\"");
    CHECK(quote_local("j\xC3\xBCrgen") == "j\xC3\xBCrgen");
    CHECK(split_internal("a@b@c") == Address{"a@b", "c"});
    const Result<Address> named = parse_address("Some One <a@b.example>");
    REQUIRE(named);
    CHECK(*named == Address{"a", "b.example"});
    CHECK_FALSE(parse_address("<>"));
    CHECK_FALSE(parse_address("a@b, c@d"));
}

TEST_CASE("host names and address literals", "[mail]") {
    for (const char* good : {"a", "example.org", "a-b.example", "_dmarc.example.org", "3com.com", "1.2.3.a", "xn--bcher-kva.example"}) {
        CAPTURE(good);
        CHECK(valid_hostname(good));
    }
    for (const char* bad : {"", ".", "a.", ".a", "a..b", "-a", "a-.b", "a b", "1.2.3.4", "12", "b\xC3\xBC" "cher.example", "a/b", "[1.2.3.4]"}) {
        CAPTURE(bad);
        CHECK_FALSE(valid_hostname(bad));
    }
    CHECK(valid_hostname("b\xC3\xBC" "cher.example", true));
    CHECK_FALSE(valid_hostname("b\xC3.example", true));
    CHECK(valid_hostname(std::string(63, 'a') + ".b"));
    CHECK_FALSE(valid_hostname(std::string(64, 'a') + ".b"));
    CHECK(valid_address_literal("[192.0.2.1]"));
    CHECK(valid_address_literal("[IPv6:2001:db8::1]"));
    CHECK(valid_address_literal("[ipv6:::1]"));
    for (const char* bad : {"[]", "[192.0.2]", "[192.0.2.256]", "[2001:db8::1]", "[IPv6:192.0.2.1]", "[IPv6:zz::]", "192.0.2.1", "[192.0.2.1"}) {
        CAPTURE(bad);
        CHECK_FALSE(valid_address_literal(bad));
    }
}

TEST_CASE("address lists", "[mail]") {
    CHECK(list("a@b, c@d") == "{}a@b;{}c@d;");
    CHECK(list("Group: a@b, X <c@d>;, e@f") == "[Group:{}a@b;{X}c@d;]{}e@f;");
    CHECK(list("Undisclosed recipients:;") == "[Undisclosed recipients:]");
    CHECK(list("a@b c@d") == "{}a@b;{}c@d;");
    CHECK(list("<a@b> <c@d>") == "{}a@b;{}c@d;");
    CHECK(list("a@b,,\r\n\t,c@d,") == "{}a@b;{}c@d;");
    CHECK(list("a@b (Name)") == "{Name}a@b;");
    CHECK(list("Joe Q. Public <j@p>") == "{Joe Q. Public}j@p;");
    CHECK(list("\"x\\\"y\" <j@p>") == "{x\"y}j@p;");
    CHECK(list("a.b . c @ d . e") == "{}a.b.c@d.e;");
    CHECK(list("group: a@b") == "[group:{}a@b;]");
    CHECK(list("") == "");
    CHECK(list(" , ;") == "");
    CHECK(list(std::string(100000, '(')) == "{}@!;");
    CHECK(parse_address_list(std::string(100000, ':'), {.max_entries = 50, .only_deliverable = false}).size() <= 52);
    CHECK(parse_address_list("Just A Name, <>, a@b", {.max_entries = 100, .only_deliverable = true}).size() == 1);
}

TEST_CASE("address extensions split as in Postfix", "[mail]") {
    const auto split = [](std::string_view local, std::string_view delimiters) {
        const SplitLocal parts = split_extension(local, delimiters);
        return std::string(parts.base) + "|" + (parts.delimiter == 0 ? "" : std::string(1, parts.delimiter)) + "|" + std::string(parts.extension);
    };
    CHECK(split("user+foo", "+") == "user|+|foo");
    CHECK(split("user+foo+bar", "+") == "user|+|foo+bar");
    CHECK(split("user-foo+bar", "+-") == "user|-|foo+bar");
    CHECK(split("user", "+") == "user||");
    CHECK(split("user+", "+") == "user|+|");
    CHECK(split("+user", "+") == "+user||");
    CHECK(split("user+foo", "") == "user+foo||");
    CHECK(split("mailer-daemon", "-") == "mailer-daemon||");
    CHECK(split("Double-Bounce", "-") == "Double-Bounce||");
    CHECK(split("owner-list", "-") == "owner-list||");
    CHECK(split("list-request", "-") == "list-request||");
    CHECK(split("owner-list+x", "+") == "owner-list|+|x");
    CHECK(split("-request", "-") == "-request||");
}

TEST_CASE("single addresses of the facts table", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    Tally tally("addresses/facts");
    const Json table = parse_json(read_file(root + "/addresses/facts/address.json"));
    REQUIRE(table["cases"].items.size() == 48);
    for (const Json& item : table["cases"].items) {
        CAPTURE(item["input"].text());
        const std::vector<ListAddress> found = parse_address_list(item["input"].text());
        const ListAddress address = found.empty() ? ListAddress{} : found.front();
        const Json& parsed = item["parsed"];
        CHECK(found.size() <= 1);
        CHECK(address.name == parsed["name"].text());
        CHECK(address.route == parsed["route"].text());
        CHECK(address.local == parsed["mailbox"].text());
        CHECK(address.domain == parsed["domain"].text());
        CHECK((found.empty() || address.invalid) == parsed["invalid"].boolean);
        CHECK(format_list_address(address) == item["written_back"].text());
        tally.count(true);
    }
}

TEST_CASE("address lists of mail-parser", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    // Where we differ on purpose: input, what we give.
    const std::map<std::string, std::string> exceptions = {
        // Comments inside an address are no part of the name (RFC 5322 section 3.2.2).
        {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>\n", "Pete <pete@silly.test>;"},
        {"Pete(A nice \n \\\n ) chap) <pete(his\n account)@silly\n .test(his host)>\n", "Pete chap) <pete@silly.test>;"},
        {"A Group(Some people)\n        :Chris Jones <c@(Chris's host.)public.example>,\n            joe@example.org,\n     John <jdoe@one.test> (my dear friend); (the end of the group)\n",
         "A Group:Chris Jones <c@public.example>; <joe@example.org>;John <jdoe@one.test>;"},
        {"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;\n", "Hidden recipients:"},
        {"John Doe <jdoe@machine(comment).  example>\n", "John Doe <jdoe@machine.example>;"},
        {"Nathaniel Borenstein <nsb@thumper.bellcore.com>\n    (=?iso-8859-8?b?7eXs+SDv4SDp7Oj08A==?=)\n", "Nathaniel Borenstein <nsb@thumper.bellcore.com>;"},
        {"Name (comment) =?utf-8?q?Doe?= <a@b.com>\n", "Name Doe <a@b.com>;"},
        // The route is kept apart, white space in a domain means nothing, empty elements neither.
        {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example\n", "Mary Smith <mary@example.net>; <jdoe@test.example>;"},
        // Not a field: the second line has no white space before it.  We take what there is.
        {"test@test.com\ninvalid@address.com\n", " <test@test.com>; <invalid@address.com>;"},
        // What comes before a list's URL or alone: a comment is a name only after the address.
        {"(Use this command to join the list)\n   <mailto:list-manager@host.com?body=subscribe%20list>\n", " <mailto:list-manager@host.com?body=subscribe%20list>;"},
        {"(Use this command to get off the list)\n     <mailto:list-manager@host.com?body=unsubscribe%20list>\n", " <mailto:list-manager@host.com?body=unsubscribe%20list>;"},
        // White space between a quoted string and an encoded word separates two words.
        {"=?ISO-8859-1?Q?a?= \"=?ISO-8859-2?Q?_b?=\" <test@test.com>\n", "a b <test@test.com>;"},
        {"\"=?ISO-8859-1?Q =?ISO-8859-1?Q?a?= \\\" =?ISO-8859-1?Q?b?=\" <last@address.com>\n\nbody@content.com", "=?ISO-8859-1?Q a \" b <last@address.com>; <body@content.com>;"},
    };
    Tally tally("fields/mail-parser/address");
    const Json table = parse_json(read_file(root + "/fields/mail-parser/address.json"));
    REQUIRE(table.items.size() == 60);
    for (const Json& item : table.items) {
        const std::string& header = item["header"].text();
        CAPTURE(header);
        const auto member = [](const Json& one) {
            return one["name"].text() + " <" + one["address"].text() + ">;";
        };
        std::string expected;
        for (const Json& one : item["expected"]["List"].items) {
            expected += member(one);
        }
        for (const Json& group : item["expected"]["Group"].items) {
            expected += group["name"].is_null() ? "" : group["name"].text() + ":";
            for (const Json& one : group["addresses"].items) {
                expected += member(one);
            }
        }
        std::string found;
        for (const ListAddress& one : parse_address_list(header)) {
            if (one.kind == ListAddress::Kind::group_start) {
                found += decode_encoded_words(one.local) + ":";
            } else if (one.kind == ListAddress::Kind::mailbox) {
                found += decode_encoded_words(one.name) + " <" + one.address().internal() + ">;";
            }
        }
        const auto exception = exceptions.find(header);
        if (exception != exceptions.end()) {
            CHECK(found == exception->second);
            tally.except();
        } else {
            CHECK(found == expected);
            tally.count(found == expected);
        }
    }
}

namespace {

/// The contents of `<tag>...</tag>` in a piece of XML, entities decoded; U+2400..U+243F stand for control characters.
std::string element(const std::string& xml, const std::string& tag) {
    const std::size_t begin = xml.find("<" + tag + ">");
    const std::size_t end = xml.find("</" + tag + ">");
    if (begin == std::string::npos || end == std::string::npos) {
        return {};
    }
    const std::string text = xml.substr(begin + tag.size() + 2, end - begin - tag.size() - 2);
    const std::map<std::string, std::string> names = {{"lt", "<"}, {"gt", ">"}, {"amp", "&"}, {"quot", "\""}, {"apos", "'"}};
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::size_t semicolon = text[i] == '&' ? text.find(';', i) : std::string::npos;
        if (semicolon == std::string::npos) {
            out += text[i];
            continue;
        }
        const std::string name = text.substr(i + 1, semicolon - i - 1);
        if (name.substr(0, 2) == "#x") {
            const unsigned long code = std::strtoul(name.c_str() + 2, nullptr, 16);
            append_utf8(out, static_cast<char32_t>(code >= 0x2400 && code < 0x2440 ? code - 0x2400 : code));
        } else {
            out += names.count(name) != 0 ? names.at(name) : "?";
        }
        i = semicolon;
    }
    return out;
}

}  // namespace

TEST_CASE("isemail agrees on what is an RFC 5321 mailbox", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    // Test numbers in tests.xml, with the reason.
    const std::map<int, std::string> exceptions = {
        {24, "an all-numeric domain is no host name (Postfix)"},
        {60, "64 octets are counted in its shortest spelling, without needless backslashes"},
        {71, "inet_pton takes :: for a single group, deprecated or not"},
        {159, "RFC 6531 section 3.3: a quoted pair may be UTF-8"},
    };
    Tally tally("addresses/isemail");
    const std::string xml = read_file(root + "/addresses/isemail/tests.xml");
    int number = 0;
    for (std::size_t at = xml.find("<test id="); at != std::string::npos; at = xml.find("<test id=", at + 1)) {
        ++number;
        const std::string test = xml.substr(at, xml.find("</test>", at) - at);
        const std::string address = element(test, "address");
        const std::string category = element(test, "category");
        const std::string diagnosis = element(test, "diagnosis");
        const bool valid = category == "ISEMAIL_VALID_CATEGORY" || category == "ISEMAIL_DNSWARN" || category == "ISEMAIL_RFC5321";
        const Result<SmtpPath> found = parse_path("<" + address + ">", {.strict = true, .allow_null = false});
        const bool accepted = found.ok() && quote_local(found->address.local).size() <= kMaxLocalPart &&
                              found->address.external().size() <= 254 && valid_mail_domain(found->address.domain);
        CAPTURE(number, address, category, diagnosis);
        if (exceptions.count(number) != 0) {
            CHECK(accepted != valid);
            tally.except();
        } else {
            CHECK(accepted == valid);
            tally.count(accepted == valid);
        }
    }
    CHECK(number == 164);
}

TEST_CASE("quoting agrees with Postfix", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    Tally tally("smtp/postfix/quote_822_local");
    std::istringstream lines(read_file(root + "/smtp/postfix/quote_822_local.ref"));
    for (std::string line; std::getline(lines, line);) {
        CAPTURE(line);
        const bool quoted = line.find("' quoted '") != std::string::npos;
        const std::size_t middle = line.find(quoted ? "' quoted '" : "' unquoted '");
        if (middle == std::string::npos || line == "'' quoted '\"\"'") {
            tally.except();   // flags we do not have; the null address, which only a caller can tell from an empty name
            continue;
        }
        const std::string from = line.substr(1, middle - 1);
        const std::size_t begin = middle + (quoted ? 10 : 12);
        const std::string expected = line.substr(begin, line.size() - begin - 1);
        const std::string found = quoted ? external_form(from) : parse_address(from)->internal();
        CHECK(found == expected);
        tally.count(found == expected);
    }
}
