/// master.cf: its syntax.  What is accepted and how it is printed was compared with postconf -M of Postfix 3.7.11.
#include <catch2/catch.hpp>

#include "lib/config/master_cf.h"

using namespace postern;

namespace {

MasterEntry entry_of(std::string_view text) {
    Result<MasterCf> file = parse_master_cf(text, "master.cf");
    if (!file || file->entries.size() != 1) {
        FAIL((file ? "not one entry" : file.error().what));
    }
    return std::move(file->entries[0]);
}

std::string refusal_of(std::string_view text) {
    const Result<MasterCf> file = parse_master_cf(text, "master.cf");
    return file ? "accepted" : file.error().what;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("columns have defaults", "[config]") {
    const MasterEntry entry = entry_of("# comment\ncleanup unix - - - - - cleanup\n");
    CHECK(entry.name == "cleanup");
    CHECK(entry.type == ServiceType::unix_stream);
    CHECK(entry.is_private);
    CHECK(entry.unprivileged);
    CHECK_FALSE(entry.chroot);
    CHECK(entry.wakeup_seconds == 0);
    CHECK(entry.process_limit == -1);
    CHECK(entry.command == "cleanup");
    CHECK(entry.arguments.empty());
    CHECK(entry.where == "master.cf:2");
    CHECK(entry.label() == "cleanup/unix");
}

TEST_CASE("columns are read", "[config]") {
    const MasterEntry entry = entry_of("flush\tunix  n n y 1000? 0 flush");
    CHECK_FALSE(entry.is_private);
    CHECK_FALSE(entry.unprivileged);
    CHECK(entry.chroot);
    CHECK(entry.wakeup_seconds == 1000);
    CHECK(entry.wakeup_if_used);
    CHECK(entry.process_limit == 0);
    CHECK(entry_of("postlog unix-dgram n - n - 1 postlogd").type == ServiceType::unix_dgram);
    CHECK(entry_of("pickup fifo n - n 60 1 pickup").type == ServiceType::fifo);
    CHECK(entry_of("smtpd pass - - n - - smtpd").type == ServiceType::pass);
}

TEST_CASE("an option may stand in braces whole", "[config]") {
    const Result<MasterEntry> entry = parse_master_entry("a unix n - y - - c {-o} {x = y z} {-oq = r s}");
    REQUIRE(entry);
    CHECK(entry->arguments == Words{"-o", "x=y z", "-o", "q=r s"});
}

TEST_CASE("options may stand in braces", "[config]") {
    const MasterEntry entry = entry_of(
        "smtp inet n - y - - smtpd\n  -o a=b -oc=d\n# x\n  -o { e = f g } -v -S\n -o {h={ i }} -vv { k l } -o m=n\n");
    CHECK(entry.arguments == Words{"-o", "a=b", "-o", "c=d", "-o", "e=f g", "-v", "-S", "-o", "h={ i }", "-vv", "k l", "-o", "m=n"});
    const std::vector<std::pair<std::string, std::string>> expected{{"a", "b"}, {"c", "d"}, {"e", "f g"}, {"h", "{ i }"}};
    CHECK(entry.overrides() == expected);
    CHECK(entry.verbosity() == 3);
    CHECK(entry.other_arguments() == Words{"-S", "k l", "-o", "m=n"});
    CHECK(to_text(entry) ==
          "smtp       inet  n       -       y       -       -       smtpd -o a=b -o c=d -o {e=f g} -v -S -o {h={ i }} -vv {k l} -o m=n");
}

TEST_CASE("a pipe's command keeps its words", "[config]") {
    const MasterEntry entry = entry_of("uucp unix - n n - - pipe flags=Fqhu user=uucp argv=uux -r -v -o {${x y}} {a b}");
    CHECK(entry.overrides().empty());
    CHECK(entry.verbosity() == 0);
    CHECK(entry.other_arguments() == Words{"flags=Fqhu", "user=uucp", "argv=uux", "-r", "-v", "-o", "${x y}", "a b"});
    CHECK(to_text(entry) == "uucp       unix  -       n       n       -       -       pipe flags=Fqhu user=uucp argv=uux -r -v -o {${x y}} {a b}");
}

TEST_CASE("what is printed is read back the same", "[config]") {
    for (const char* line : {"smtp inet n - y - - smtpd -o { a = b c } { } {{x}} y{ z }", "x unix - n n 1 0 pipe { a  b } -o a}b{c d}"}) {
        CAPTURE(line);
        const MasterEntry entry = entry_of(line);
        for (const bool fold : {false, true}) {
            const MasterEntry again = entry_of(to_text(entry, fold) + "\n");
            CHECK(again.arguments == entry.arguments);
            CHECK(again.columns == entry.columns);
        }
    }
}

TEST_CASE("mistakes are refused with file and line", "[config]") {
    CHECK(refusal_of("\nsmtp inet n - y -\n") == "master.cf:2: bad field count: 6 of 8 columns in \"smtp inet n - y -\"");
    CHECK(refusal_of("smtp inetx n - y - - smtpd") ==
          "master.cf:1: invalid type field \"inetx\"; accepted: inet, unix, unix-dgram, fifo or pass");
    CHECK(refusal_of("smtp inet x - y - - smtpd") == "master.cf:1: invalid private field \"x\"; accepted: y, n, or - for the default");
    CHECK(refusal_of("smtp inet n yes y - - smtpd").find("invalid unpriv field") != std::string::npos);
    CHECK(refusal_of("smtp inet n - Y - - smtpd").find("invalid chroot field") != std::string::npos);
    for (const char* wakeup : {"1x", "?", "-1", "5??", "99999999999"}) {
        CAPTURE(wakeup);
        CHECK(refusal_of(std::string("a unix n - y ") + wakeup + " - b").find("invalid wakeup field") != std::string::npos);
    }
    for (const char* limit : {"-1", "a", "1?", "99999999999"}) {
        CAPTURE(limit);
        CHECK(refusal_of(std::string("a unix n - y - ") + limit + " b").find("invalid maxproc field") != std::string::npos);
    }
    CHECK(refusal_of("a/b unix n - y - - c").find("invalid name field") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - ../c").find("invalid command field") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - c { x").find("missing '}'") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - c {-o }").find("-o needs name=value") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - c {x}y").find("text after '}'") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - c -o").find("-o needs name=value") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - c -o x").find("missing '='") != std::string::npos);
    CHECK(refusal_of("a unix n - y - - c -o a = b").find("missing '='") != std::string::npos);
    CHECK(refusal_of("  a unix n - y - - c").find("master.cf:1: a line that begins with white space") == 0);
}

TEST_CASE("a service given twice is reported and the last one counts", "[config]") {
    const Result<MasterCf> file = parse_master_cf("a unix - - - - - b\na fifo - - - - - b\na unix - - - - - c\n", "m");
    REQUIRE(file);
    CHECK(file->entries.size() == 3);
    REQUIRE(file->notices.size() == 1);
    CHECK(file->notices[0] == "m:3: overriding earlier entry: a/unix (m:1)");
}

TEST_CASE("inet names are host and port", "[config]") {
    CHECK(parse_inet_name("smtp")->port == "smtp");
    CHECK(parse_inet_name("smtp")->host.empty());
    CHECK(parse_inet_name("127.0.0.1:10025")->host == "127.0.0.1");
    CHECK(parse_inet_name("[::1]:25")->host == "::1");
    CHECK(parse_inet_name("[::1]:25")->port == "25");
    CHECK(parse_inet_name(":25")->host.empty());
    for (const char* name : {"", "host:", "0", "70000", "[::1]", "[::1", "::1:25", "a:b/c"}) {
        CAPTURE(name);
        CHECK_FALSE(parse_inet_name(name));
    }
}
