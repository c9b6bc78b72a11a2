// Dates of RFC 5322 and IMAP.
#include <catch2/catch.hpp>

#include <set>

#include "lib/mail/date.h"
#include "t/corpus.h"
#include "t/json.h"

using namespace postern;
using namespace postern::test;

namespace {

std::string read(std::string_view text) {
    const std::optional<DateTime> date = parse_rfc5322_date(text);
    return date ? format_rfc5322_date(*date) : "none";
}

}  // namespace

TEST_CASE("RFC 5322 dates in all their forms", "[mail]") {
    CHECK(read("Fri, 21 Nov 1997 09:55:06 -0600") == "Fri, 21 Nov 1997 09:55:06 -0600");
    CHECK(read("21 Nov 97 09:55 GMT") == "Fri, 21 Nov 1997 09:55:00 +0000");
    CHECK(read("21 Nov 49 00:00:00 UT") == "Sun, 21 Nov 2049 00:00:00 +0000");
    CHECK(read("21 Nov 103 00:00:00 Z") == "Fri, 21 Nov 2003 00:00:00 +0000");
    CHECK(read("Thu, 13\r\n Feb 1969 23 : 32 -0330 (Newfoundland (x) Time)") == "Thu, 13 Feb 1969 23:32:00 -0330");
    CHECK(read("Mon, 17-Jul-1996 02:44:25 PDT") == "Wed, 17 Jul 1996 02:44:25 -0700");
    CHECK(read("29 Feb 2000 00:00:00 +0000") == "Tue, 29 Feb 2000 00:00:00 +0000");
    CHECK(read("Sat, 1 Jan 2000 00:00:00 +01:00") == "Sat, 1 Jan 2000 00:00:00 +0100");
    for (const char* bad : {"", "x", "29 Feb 1900 00:00:00 +0000", "31 Apr 2000 00:00:00", "1 Jan 2000 24:00:00", "1 Jan 2000 00:60:00",
                            "1 Jan 2000", "1 Foo 2000 00:00:00", "0 Jan 2000 00:00:00", "1 Jan 99999 00:00:00", "1 Jan 2000 0x:00",
                            "(unfinished 1 Jan 2000 00:00:00 +0000", "111 Jan 2000 00:00:00"}) {
        CAPTURE(bad);
        CHECK(read(bad) == "none");
    }
}

TEST_CASE("IMAP dates", "[mail]") {
    for (const char* same : {"17-Jul-1996 02:44:25 -0700", "01-Jan-1970 00:00:00 +0000", "31-Dec-2099 23:59:59 +1345"}) {
        const std::optional<DateTime> date = parse_imap_date_time(same);
        REQUIRE(date);
        CHECK(format_imap_date_time(*date) == same);
    }
    CHECK(format_imap_date_time(*parse_imap_date_time(" 7-Jul-1996 02:44:25 -0700")) == "07-Jul-1996 02:44:25 -0700");
    for (const char* bad : {"", "17-Jul-1996", "17-Jul-1996 02:44:25", "17-Jul-1996 02:44:25 0700", "17-Jul-96 02:44:25 -0700",
                            "17-Jul-1996 02:44:25 -07:00", "32-Jul-1996 02:44:25 -0700", "17-Jul-1996 02:44:25 -0700 "}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_imap_date_time(bad));
    }
    CHECK(parse_imap_date("1-Feb-1994") == 760060800);
    CHECK(parse_imap_date("\"01-Feb-1994\"") == 760060800);
    CHECK_FALSE(parse_imap_date("1-Feb-1994 "));
    CHECK_FALSE(parse_imap_date("30-Feb-1994"));
}

TEST_CASE("dates format and parse back over the whole range", "[mail]") {
    for (std::int64_t at = -2208988800; at < 7258118400; at += 86400 * 13 + 7919) {
        const DateTime date{at, static_cast<int>(at % 13) * 45};
        REQUIRE(parse_rfc5322_date(format_rfc5322_date(date)) == date);
        REQUIRE(parse_imap_date_time(format_imap_date_time(date)) == date);
    }
}

TEST_CASE("dates of the facts table", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const Json table = parse_json(read_file(root + "/fields/facts/date.json"));
    REQUIRE(table["cases"].items.size() == 15);
    Tally tally("fields/facts/date");
    for (const Json& item : table["cases"].items) {
        CAPTURE(item["input"].text());
        const std::optional<DateTime> date = parse_rfc5322_date(item["input"].text());
        REQUIRE(date.has_value() == item["ok"].boolean);
        if (date) {
            CHECK(date->unix_time == item["unix"].integer());
            CHECK(date->zone_minutes == item["tz_minutes"].integer());
        }
        tally.count(true);
    }
}

TEST_CASE("dates of mail-parser", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const std::set<std::string> exceptions = {
        // The month as a number and no commas or colons at all: not a date.
        "20 11 (some \n 44 comments(more comments\n )) 79 05:34:27 -0300",
        " 4 8 15 16 23 42, 4 8 15 16 23 42, 4 8 15 16 23 42, ",
        // A Received field: its date is behind the semicolon, which is the caller's to find.
        "by 2002:aa7:cd10:0:b0:45c:2c83:1208 with SMTP id b16-20020aa7cd10000000b0045c2c831208mr4220805edw.81.1665423075119;\n\tMon, 10 Oct 2022 10:31:15 -0700 (PDT)",
        // Not folded: the field ends in the middle of a comment there; as one text it is a date with a comment.
        "Tue, 1 Jul 2003 ((invalid)\ncomment) 10:52:37 +0200",
    };
    const Json table = parse_json(read_file(root + "/fields/mail-parser/date.json"));
    REQUIRE(table.items.size() == 40);
    Tally tally("fields/mail-parser/date");
    for (const Json& item : table.items) {
        CAPTURE(item["header"].text());
        const std::optional<DateTime> date = parse_rfc5322_date(item["header"].text());
        if (exceptions.count(item["header"].text()) != 0) {
            CHECK(date.has_value() == item["expected"].is_null());
            tally.except();
            continue;
        }
        const Json& expected = item["expected"];
        REQUIRE(date.has_value() == !expected.is_null());
        if (date) {
            const long zone = (expected["tz_hour"].integer() * 60 + expected["tz_minute"].integer()) * (expected["tz_before_gmt"].boolean ? -1 : 1);
            const std::int64_t local = days_from_civil(expected["year"].integer(), static_cast<int>(expected["month"].integer()),
                                                       static_cast<int>(expected["day"].integer())) * 86400 +
                                       expected["hour"].integer() * 3600 + expected["minute"].integer() * 60 + expected["second"].integer();
            CHECK(date->zone_minutes == zone);
            CHECK(date->unix_time == local - zone * 60);
        }
        tally.count(true);
    }
}
