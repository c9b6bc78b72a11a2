// Content-Type and Content-Disposition with their parameters.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <set>

#include "lib/base/strings.h"
#include "lib/mail/header.h"
#include "lib/mail/parameters.h"
#include "t/corpus.h"
#include "t/json.h"

using namespace postern;
using namespace postern::test;

namespace {

std::string show(const MimeParameters& list) {
    std::string out;
    for (const MimeParameter& parameter : list) {
        out += parameter.name + "=" + parameter.value + ";";
    }
    return out;
}

std::string type(std::string_view value) {
    const ContentType found = parse_content_type(value);
    return found.type + "/" + found.subtype + ";" + show(found.parameters);
}

}  // namespace

TEST_CASE("content types and their parameters", "[mail]") {
    CHECK(type("text/plain; charset=utf-8; Format=Flowed") == "text/plain;charset=utf-8;Format=Flowed;");
    CHECK(type(" TEXT / (c) HTML (x) ; charset = \"a\\\"b\" ") == "TEXT/HTML;charset=a\"b;");
    CHECK(type("multipart/mixed; boundary=\"a\r\n b\"") == "multipart/mixed;boundary=a b;");
    CHECK(type("") == "/;");
    CHECK(type("text") == "text/;");
    CHECK(type("/plain") == "/;");
    CHECK(type("text/plain; name=a b.txt; x=1") == "text/plain;name=a b.txt;x=1;");
    CHECK(type("text/plain charset=x name=\"y z\"") == "text/plain;charset=x;name=y z;");
    CHECK(type("a/b; x=\"unfinished") == "a/b;x=unfinished;");
    CHECK(type("a/b; x=(comment)1") == "a/b;x=1;");
    std::string many = "a/b";
    for (int i = 0; i < 10000; ++i) {
        many += ";x=y";
    }
    CHECK(parse_content_type(many).parameters.size() == kMaxParameters);
    const ContentDisposition disposition = parse_content_disposition("attachment; filename*=utf-8''%C3%A4");
    CHECK(disposition.type == "attachment");
    CHECK(show(decode_parameters(disposition.parameters)) == "filename=\xC3\xA4;");
    CHECK(parse_content_disposition("; x=y").type.empty());
}

TEST_CASE("continued parameters are joined and stay encoded (RFC 2231 section 6)", "[mail]") {
    const auto joined = [](std::string_view text) {
        std::string out;
        for (const MimeParameter& parameter : join_parameters(parse_parameters(text))) {
            out += parameter.name + "=" + parameter.value + ";";
        }
        return out;
    };
    CHECK(joined("URL*0=\"ftp://\"; x=1; URL*1=\"cs.example/a b\"") == "URL=ftp://cs.example/a b;x=1;");
    CHECK(joined("title*1*=%2A%2A; title*0*=us-ascii'en'Even%20more%20; title*2=\"isn't 5% it\"") ==
          "title*=us-ascii'en'Even%20more%20%2A%2Aisn't 5%25 it;");
    CHECK(joined("t*0=a; t*1*=%20b") == "t*=''a%20b;");
    CHECK(joined("t*0=a; t*2=c; u*1=x; t=plain; v*=utf-8''y") == "t=a;t*2=c;u*1=x;t=plain;v*=utf-8''y;");
    CHECK(joined("t*0=a; t*0=b; t*1=c") == "t=ac;");
}

TEST_CASE("every piece of a hostile value gives an answer", "[mail]") {
    const std::string whole = "te(x(y)z\\)xt/p lain;a*0*=utf-8'e'%4;a*2=\"x\\\";b==?q?;c*=' ; ;;=d;e*1*99=f\r\n ;\"g\"=h; i = \"j\"k; l=m n=o (";
    for (std::size_t begin = 0; begin < whole.size(); ++begin) {
        for (std::size_t end = begin; end <= whole.size(); ++end) {
            const ContentType found = parse_content_type(std::string_view(whole).substr(begin, end - begin));
            (void)decode_parameters(found.parameters);
        }
    }
    CHECK(true);
}

TEST_CASE("content types of mail-parser", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    // How the value begins, what we make of it.
    const std::map<std::string, std::string> exceptions = {
        // Letters stay as written.
        {"Message/Partial;", "Message/Partial;id=oc=jpbe0M2Yt4s@thumper.bellcore.com;number=2;total=3"},
        // RFC 2231 section 4.1: only the first section names a charset.
        {"application/pdf\n   filename*0*=iso",
         "application/pdf;filename=\xC3\x91" "and\xC3\xBAiso-8859-1' r\xC3\xA1pidoiso-8859-1' (versi\xC3\xB3n '99 \"oficial\").pdf"},
        // White space between adjacent encoded words is no text (RFC 2047 section 6.2), quoted or not.
        {"image/jpeg;\n   name=\"=?iso", "image/jpeg;name=\xC3\xA1\xC3\xA9\xC3\xAD.jpeg"},
        // Not media types either way.
        {"=\n", "/"},
        {"name=value\n", "name/"},
        // Sections out of order (9999) and names that are only stars stay parameters of their own.
        {"test/encoded; key4*", std::string("test/encoded;*=test;key*9999=ba%;key2=ab%;key3=xyzplop%;key4=foo;key=f\0oobaz", 76)},
        {"malicious/attempt;", "malicious/attempt;*****7*8=e;*5**6=d;*=h;1*2=a;15*x***fff===g;3*=b;4**=c;9*10*11*12*13*14=f"},
    };
    const Json table = parse_json(read_file(root + "/fields/mail-parser/content_type.json"));
    REQUIRE(table.items.size() == 103);
    Tally tally("fields/mail-parser/content_type");
    for (const Json& item : table.items) {
        const std::string& header = item["header"].text();
        CAPTURE(header);
        std::multiset<std::string> expected;
        const Json& value = item["expected"];
        for (const Json& pair : value["attributes"].items) {
            const std::string name = to_lower(pair.items.at(0).text());
            if (name.find("-language") == std::string::npos) {   // RFC 2231 languages: nobody asks for them
                expected.insert(name + "=" + pair.items.at(1).text());
            }
        }
        const std::string text = "X:" + header;
        const std::string_view field = find_field(text, "X").value;
        const ContentType found = parse_content_type(field);
        std::multiset<std::string> parameters;
        for (const MimeParameter& parameter : decode_parameters(found.parameters)) {
            parameters.insert(to_lower(parameter.name) + "=" + parameter.value);
        }
        std::string got = found.type + "/" + found.subtype;
        for (const std::string& parameter : parameters) {
            got += ";" + parameter;
        }
        std::string wanted = value["c_type"].text() + "/" + value["c_subtype"].text();
        for (const std::string& parameter : expected) {
            wanted += ";" + parameter;
        }
        const auto exception = std::find_if(exceptions.begin(), exceptions.end(),
                                            [&](const auto& one) { return header.compare(0, one.first.size(), one.first) == 0; });
        if (exception != exceptions.end()) {
            CHECK(got == exception->second);
            tally.except();
        } else {
            CHECK(got == wanted);
            tally.count(got == wanted);
        }
    }
}

namespace {

/// One case of angus-mail's files: a folded field and `name=value` lines.
struct AngusCase {
    std::string field;
    std::vector<std::string> expected;
};

/// \uXXXX as UTF-8.
std::string unescape(const std::string& text) {
    return parse_json("\"" + text + "\"").text();
}

std::vector<AngusCase> angus_cases(const std::string& path) {
    std::vector<AngusCase> cases;
    std::istringstream lines(read_file(path));
    enum { nowhere, field, expect } where = nowhere;
    for (std::string line; std::getline(lines, line);) {
        if (line.substr(0, 13) == "Content-Type:") {
            cases.push_back({line.substr(13), {}});
            where = field;
        } else if (line.substr(0, 7) == "Expect:") {
            where = expect;
        } else if (!line.empty() && (line[0] == ' ' || line[0] == '\t') && where == field) {
            cases.back().field += "\n" + line;
        } else if (!line.empty() && line[0] == '\t' && where == expect) {
            cases.back().expected.push_back(line.substr(1));
        } else {
            where = nowhere;
        }
    }
    return cases;
}

}  // namespace

TEST_CASE("RFC 2231 parameters of angus-mail", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    Tally tally("fields/angus-mail/paramdata");
    int count = 0;
    for (const char* file : {"paramdata", "paramdatanostrict"}) {
        for (const AngusCase& item : angus_cases(root + "/fields/angus-mail/util/" + file)) {
            CAPTURE(item.field);
            ++count;
            std::multiset<std::string> wanted;
            for (const std::string& line : item.expected) {
                wanted.insert(line.find("\\u") != std::string::npos ? unescape(line) : line);
            }
            std::multiset<std::string> got;
            for (const MimeParameter& parameter : decode_parameters(parse_content_type(item.field).parameters, false)) {
                got.insert(parameter.name + "=" + parameter.value);
            }
            CHECK(got == wanted);
            tally.count(got == wanted);
        }
    }
    CHECK(count == 23);
}
