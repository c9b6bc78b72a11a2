// lib/table: every table type, through the same door as the programs.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/capture.h"
#include "lib/table/index_file.h"
#include "lib/table/table.h"
#include "lib/table/text_file.h"

using namespace postern;

namespace {

/// A directory of its own for each test.
struct Scratch {
    std::string path;
    Scratch() {
        char name[] = "/tmp/table-test-XXXXXX";
        path = mkdtemp(name);
    }
    ~Scratch() { CHECK(system(("rm -rf " + path).c_str()) == 0); }
    std::string file(const std::string& name, const std::string& text) const {
        const std::string full = path + "/" + name;
        FILE* out = fopen(full.c_str(), "w");
        REQUIRE(out);
        REQUIRE(fwrite(text.data(), 1, text.size(), out) == text.size());
        REQUIRE(fclose(out) == 0);
        return full;
    }
};

TablePtr opened(const std::string& spec, TableContext context = {}) {
    Result<TablePtr> table = open_table(spec, context);
    INFO(spec << ": " << (table ? "" : table.error().what));
    REQUIRE(table);
    return std::move(*table);
}

std::string open_error(const std::string& spec) {
    const Result<TablePtr> table = open_table(spec, {});
    REQUIRE(!table);
    return table.error().what;
}

/// "value", "-" for not found, "!text" for an error.
std::string ask(Table& table, std::string_view key) {
    const Lookup answer = table.lookup(key);
    if (!answer) {
        return "!" + answer.error().what;
    }
    return answer->value_or("-");
}

std::string ask(const std::string& spec, std::string_view key) {
    return ask(*opened(spec), key);
}

}  // namespace

TEST_CASE("a table that cannot be opened fails lookups until it can, where daemon_table_open_error_is_fatal is off", "[table]") {
    const Scratch scratch;
    const std::string path = scratch.path + "/later", spec = "texthash:" + path;
    TableContext context = table_context(*Config::from_text(""));
    CHECK_FALSE(context.open_error_is_fatal);
    CHECK(table_context(*Config::from_text("daemon_table_open_error_is_fatal = yes\n")).open_error_is_fatal);
    CHECK(command_table_context(*Config::from_text("")).open_error_is_fatal);
    CHECK_FALSE(open_table(spec, {}));
    const LogCapture log;
    const TablePtr table = opened(spec, context);
    REQUIRE(log.lines().size() == 1);
    CHECK(log.last().substr(0, 7) == "error: ");
    CHECK(log.last().find(path) != std::string::npos);
    const Lookup now = table->lookup("Key");
    REQUIRE_FALSE(now);
    CHECK(now.error().code == Errc::temporary);
    CHECK(now.error().what.substr(0, spec.size() + 17) == spec + " is unavailable. ");
    CHECK(table->name() == spec);
    scratch.file("later", "key value\n");
    for (int i = 0; i < 30 && ask(*table, "Key") != "value"; ++i) {
        ::usleep(100 * 1000);
    }
    CHECK(ask(*table, "Key") == "value");
    CHECK(log.lines().size() == 1);
    CHECK(opened("regexp:" + scratch.path + "/none", context)->is_pattern());
    CHECK_FALSE(table->is_pattern());
    CHECK_FALSE(open_table("nosuch:thing", context));                 // mistakes are not put off
    CHECK_FALSE(open_table("inline:{a", context));
}

TEST_CASE("logical lines join continuations and leave out comments and empty lines", "[table]") {
    MapLines lines("# c\n\na b\n  c\n# in between\n\td\n\n \nnext\n#x");
    std::string line;
    REQUIRE(lines.next(line));
    CHECK(line == "a b  c\td");
    CHECK(lines.first_line() == 3);
    CHECK(lines.last_line() == 6);
    REQUIRE(lines.next(line));
    CHECK(line == "next");
    CHECK_FALSE(lines.next(line));
}

TEST_CASE("a first line that begins with white space is a logical line of its own", "[table]") {
    MapLines lines("  a b\nc d");
    std::string line;
    REQUIRE(lines.next(line));
    CHECK(line == "  a b");
    REQUIRE(lines.next(line));
    CHECK(line == "c d");
}

TEST_CASE("a map line is cut at the first white space outside quotes", "[table]") {
    Result<MapEntry> entry = parse_map_line("  key   a value  ");
    REQUIRE(entry);
    CHECK(entry->key == "key");
    CHECK(entry->value == "a value");
    entry = parse_map_line(R"("a b\" c"@x.example   v)");
    REQUIRE(entry);
    CHECK(entry->key == R"("a b\" c"@x.example)");
    CHECK_FALSE(parse_map_line("lonely"));
    CHECK_FALSE(parse_map_line("\"open value"));
}

TEST_CASE("an alias line is cut at its colon and its items are joined by commas", "[table]") {
    Result<MapEntry> entry = parse_alias_line("root: a,b , \"c d\"@x, :include:/x y,|\"/bin/cat foo, bar\"");
    REQUIRE(entry);
    CHECK(entry->key == "root");
    CHECK(entry->value == "a, b, \"c d\"@x, :include:/x y, |\"/bin/cat foo, bar\"");
    entry = parse_alias_line("\"a b\": c");
    REQUIRE(entry);
    CHECK(entry->key == "a b");
    CHECK(parse_alias_line("x@y: z").error().what == "name must be local");
    CHECK(parse_alias_line("nocolon value").error().what == "need name:value pair");
    CHECK(parse_alias_line("empty:").error().what == "need name:value pair");
}

TEST_CASE("fixed-string tables fold the case of keys unless told otherwise", "[table]") {
    CHECK(ask("inline:{ A=1, {b = two words} }", "a") == "1");
    CHECK(ask("inline:{ A=1, {b = two words} }", "B") == "two words");
    CHECK(ask("inline:{a=1}", "c") == "-");
    TableContext exact;
    exact.fold_case = false;
    CHECK(ask(*opened("inline:{A=1}", exact), "a") == "-");
    CHECK(ask(*opened("inline:{A=1}", exact), "A") == "1");
}

TEST_CASE("static, environ, fail and randmap", "[table]") {
    CHECK(ask("static:all", "x") == "all");
    CHECK(ask("static:{ a b }", "x") == "a b");
    REQUIRE(setenv("table_test", "here", 1) == 0);
    CHECK(ask("environ:", "table_test") == "here");
    CHECK(ask("fail:now", "x") == "!fail:now: lookup error");
    CHECK(ask("internal:x", "x") == "-");
    TablePtr table = opened("randmap:{r, r}");
    CHECK(ask(*table, "x") == "r");
    CHECK(table->is_pattern());
}

TEST_CASE("unionmap joins, pipemap passes on, debug is transparent", "[table]") {
    CHECK(ask("unionmap:{static:one, inline:{k=two}}", "k") == "one,two");
    CHECK(ask("unionmap:{static:one, inline:{k=two}}", "z") == "one");
    CHECK(ask("unionmap:{inline:{k=two}, fail:x}", "k") == "!fail:x: lookup error");
    CHECK(ask("pipemap:{inline:{a=b}, inline:{b=c}}", "a") == "c");
    CHECK(ask("pipemap:{inline:{a=b}, inline:{x=c}}", "a") == "-");
    CHECK(ask("debug:inline:{a=b}", "a") == "b");
}

TEST_CASE("unix tables give passwd and group lines", "[table]") {
    CHECK(starts_with_ignoring_case(ask("unix:passwd.byname", "root"), "root:"));
    CHECK(ask("unix:passwd.byname", "no-such-user-here") == "-");
    CHECK(starts_with_ignoring_case(ask("unix:group.byname", "root"), "root:"));
    CHECK(open_error("unix:shadow").find("passwd.byname") != std::string::npos);
}

TEST_CASE("a line of a texthash file that is not an entry is left out with a warning", "[table]") {
    const Scratch scratch;
    LogCapture log;
    TablePtr table = opened("texthash:" + scratch.file("t", "lonely\nkey value\n"));
    CHECK(ask(*table, "key") == "value");
    CHECK(ask(*table, "lonely") == "-");
    REQUIRE(log.lines().size() == 1);
    CHECK(log.lines()[0].find("t, line 1: expected format: key whitespace value -- ignoring this line") != std::string::npos);
}

TEST_CASE("texthash reads a postmap source and notices changes", "[table]") {
    const Scratch scratch;
    const std::string path = scratch.file("t", "Key value\nother a b\n");
    TablePtr table = opened("texthash:" + path);
    CHECK(ask(*table, "KEY") == "value");
    CHECK(ask(*table, "other") == "a b");
    scratch.file("t", "key new\n");
    usleep(1100 * 1000);
    CHECK(ask(*table, "key") == "new");
    scratch.file("t", "broken\n");
    usleep(1100 * 1000);
    CHECK(ask(*table, "key") == "new");
}

TEST_CASE("pattern tables notice changes, but those without a file have none", "[table]") {
    const Scratch scratch;
    scratch.file("cidr", "192.0.2.0/24 old\n");
    scratch.file("regexp", "/^192/ old\n");
    scratch.file("pcre", "/^192/ old\n");
    TablePtr kept = opened("cidr:{ { 192.0.2.0/24 kept } }");
    std::vector<TablePtr> tables;
    for (const std::string type : {"cidr", "regexp", "pcre"}) {
        tables.push_back(opened(type + ":" + scratch.path + "/" + type));
        CHECK(ask(*tables.back(), "192.0.2.1") == "old");
        scratch.file(type, type == "cidr" ? "192.0.2.1 new\n" : "/^192/ new\n");
    }
    usleep(1100 * 1000);
    for (const TablePtr& table : tables) {
        CAPTURE(table->name());
        CHECK(ask(*table, "192.0.2.1") == "new");
    }
    CHECK(ask(*kept, "192.0.2.1") == "kept");
}

TEST_CASE("regexp and pcre tables substitute, negate, nest and take flags", "[table]") {
    const Scratch scratch;
    const std::string text =
        "# comment\n"
        "/^(.*)-outgoing@(.*)$/  550 Use ${1}@$(2) $$5\n"
        "if /@example\\.com$/\n"
        "!/^(a|b)@/ not a or b\n"
        "if !/^a/\n"
        "/^B@/ is b\n"
        "endif\n"
        "endif\n"
        "/^Exact$/i exact\n"
        "|x\\|y| pipe\n";
    const std::string path = scratch.file("p", text);
    for (const std::string type : {"regexp:", "pcre:"}) {
        CAPTURE(type);
        TablePtr table = opened(type + path);
        CHECK(table->is_pattern());
        CHECK(ask(*table, "list-OUTGOING@x.y") == "550 Use list@x.y $5");
        CHECK(ask(*table, "c@example.com") == "not a or b");
        CHECK(ask(*table, "b@example.com") == "is b");
        CHECK(ask(*table, "a@example.com") == "-");
        CHECK(ask(*table, "exact") == "-");
        CHECK(ask(*table, "Exact") == "exact");
        CHECK(ask(*table, "") == "-");
        CHECK(ask(*table, std::string("Exact\0", 6)) == "-");
    }
    CHECK(ask("pcre:" + path, "x|y") == "pipe");
}

TEST_CASE("a wrong rule of a pattern file is skipped with file and line, and the others hold", "[table]") {
    const Scratch scratch;
    const auto warning = [&](const std::string& type, const std::string& text) {
        const std::string path = scratch.file("bad", text + "/good/ found\n");
        LogCapture log;
        TablePtr table = opened(type + ":" + path);
        CHECK(ask(*table, "good") == "found");
        REQUIRE(log.lines().size() == 1);
        const std::string what = log.lines()[0];
        const std::string prefix = "warning: " + type + ":" + path + ", ";
        REQUIRE(what.substr(0, prefix.size()) == prefix);
        return what.substr(prefix.size());
    };
    for (const std::string type : {"regexp", "pcre"}) {
        CAPTURE(type);
        CHECK(warning(type, "/a/ ok\n/b c\n") == "line 2: no closing delimiter '/': skipping this rule");
        CHECK(warning(type, "/a(/ x\n").substr(0, 14) == "line 1: error ");
        CHECK(warning(type, "/a/ $1\n") == "line 1: out of range replacement index \"1\": skipping this rule");
        CHECK(warning(type, "!/(a)/ $1\n") == "line 1: $number is not possible with a negated pattern: skipping this rule");
        CHECK(warning(type, "/a/Q x\n") == "line 1: unknown " + type + " option \"Q\": skipping this rule");
        CHECK(warning(type, "if /g/\n/b/ x\n") == "line 1: if without endif: it reaches to the end of the table");
        CHECK(warning(type, "if /(/\n/good/ wrong\nendif\n").find(": skipping the rules up to its endif") != std::string::npos);
        CHECK(warning(type, "endif\n") == "line 1: endif without if: skipping this line");
        CHECK(warning(type, "/a/\n") == "line 1: no result text after the pattern: using an empty string");
        CHECK(warning(type, "/(a)/ ${1\n").substr(0, 32) == "line 1: bad substitution syntax ");
    }
}

TEST_CASE("where $1 is not allowed, rules with it are skipped, also below a wrapper", "[table]") {
    const TableContext strict = TableContext().without_substitution();
    for (const std::string type : {"regexp", "pcre"}) {
        const std::string rules = type + ":{{/^(a+)$/ got-$1}, {/^(b)$/ plain}, {/^c$/ cost $$1}}";
        for (const std::string& name : {rules, "unionmap:{" + rules + "}"}) {
            CAPTURE(name);
            LogCapture log;
            const Result<TablePtr> table = open_table(name, strict);
            REQUIRE(table);
            CHECK(ask(**table, "aa") == "-");
            CHECK(ask(**table, "b") == "plain");
            CHECK(ask(**table, "c") == "cost $1");
            REQUIRE(log.lines().size() == 1);
            CHECK(log.lines()[0] == "warning: " + rules + ", line 1: regular expression substitution is not allowed: skipping this rule");
            CHECK(ask(name, "aa") == "got-aa");
        }
    }
}

TEST_CASE("tables in memory can be listed, others say that they cannot", "[table]") {
    const Scratch scratch;
    const auto listing = [](const std::string& name) {
        std::string text;
        const Result<void> done = opened(name)->for_each(
            [&](std::string_view key, std::string_view value) { text += std::string(key) + "=" + std::string(value) + ";"; });
        return done ? text : done.error().what;
    };
    CHECK(listing("texthash:" + scratch.file("list", "b 2\nA  x y\n# c 3\n")) == "a=x y;b=2;");
    CHECK(listing("inline:{k=v, {b = w}}") == "b=w;k=v;");
    CHECK(listing("static:x") == "table static:x: sequence operation is not supported");
}

TEST_CASE("cidr tables match networks of both families, negated and nested", "[table]") {
    const Scratch scratch;
    const std::string path = scratch.file("c",
                                          "192.0.2.1 host\n"
                                          "192.0.2.0/24 net\n"
                                          "if 2001:db8::/32\n"
                                          "!2001:db8:1::/48 other\n"
                                          "[2001:db8:1::1]/128 one\n"
                                          "endif\n"
                                          "if !198.51.100.0/24\n"
                                          "0.0.0.0/0 world\n"
                                          "endif\n");
    TablePtr table = opened("cidr:" + path);
    CHECK(ask(*table, "192.0.2.1") == "host");
    CHECK(ask(*table, "192.0.2.200") == "net");
    CHECK(ask(*table, "2001:db8:1::1") == "one");
    CHECK(ask(*table, "2001:db8:1::2") == "-");
    CHECK(ask(*table, "2001:db8:2::2") == "other");
    CHECK(ask(*table, "198.51.100.7") == "-");
    CHECK(ask(*table, "10.0.0.1") == "world");
    CHECK(ask(*table, "example.com") == "-");
    LogCapture log;
    TablePtr partly = opened("cidr:" + scratch.file("bad", "192.0.2.1/24 x\nif 192.0.2.0/33\n192.0.2.1 y\nendif\n192.0.2.1 z\n"));
    CHECK(ask(*partly, "192.0.2.1") == "z");
    REQUIRE(log.lines().size() == 2);
    CHECK(log.lines()[0].find("line 1: non-null host address bits in") != std::string::npos);
    CHECK(log.lines()[0].find("192.0.2.0/24\" instead: skipping this rule") != std::string::npos);
    CHECK(log.lines()[1].find(": skipping the rules up to its endif") != std::string::npos);
}

TEST_CASE("lmdb and cdb files are written whole and found again", "[table]") {
    const Scratch scratch;
    for (const IndexType type : {IndexType::lmdb, IndexType::cdb}) {
        const std::string suffix(index_suffix(type));
        CAPTURE(suffix);
        const std::string spec = suffix.substr(1) + ":" + scratch.path + "/t";
        CHECK(open_error(spec).find("run \"postmap " + spec + "\"") != std::string::npos);
        for (const std::optional<bool> with_nul : {std::optional<bool>(), std::optional(true), std::optional(false)}) {
            IndexOptions options;
            options.type = type;
            options.with_nul = with_nul;
            Result<std::unique_ptr<IndexWriter>> writer = open_index_writer(scratch.path + "/t" + suffix, options);
            REQUIRE(writer);
            REQUIRE((*writer)->put("key", "value"));
            REQUIRE((*writer)->put("two", "a b"));
            CHECK((*writer)->put("key", "again").error().code == Errc::exists);
            REQUIRE((*writer)->commit());
            CHECK(ask(spec, "KEY") == "value");
            CHECK(ask(spec, "two") == "a b");
            CHECK(ask(spec, "none") == "-");
            CHECK(ask(spec, std::string(5000, 'k')) == "-");
        }
        CHECK(ask("hash:" + scratch.path + "/t", "key") == "value");
        int entries = 0;
        REQUIRE(for_each_in_index(scratch.path + "/t" + suffix, type,
                                  [&](std::string_view key, std::string_view) { entries += key.size() == 3; }));
        CHECK(entries == 2);
        REQUIRE(unlink((scratch.path + "/t" + suffix).c_str()) == 0);
    }
}

TEST_CASE("an index writer that is not committed leaves the old table and no file", "[table]") {
    const Scratch scratch;
    const std::string path = scratch.path + "/t.lmdb";
    for (const bool commit : {true, false}) {
        Result<std::unique_ptr<IndexWriter>> writer = open_index_writer(path, {});
        REQUIRE(writer);
        REQUIRE((*writer)->put("key", commit ? "old" : "new"));
        if (commit) {
            REQUIRE((*writer)->commit());
        }
    }
    CHECK(ask("lmdb:" + scratch.path + "/t", "key") == "old");
    CHECK(system(("test $(ls " + scratch.path + " | wc -l) = 1").c_str()) == 0);
}

TEST_CASE("an open lmdb table sees changes in place and a replaced file", "[table]") {
    const Scratch scratch;
    const std::string path = scratch.path + "/t.lmdb";
    const auto write = [&](bool incremental, Duplicates duplicates, std::string_view value) {
        IndexOptions options;
        options.incremental = incremental;
        options.duplicates = duplicates;
        Result<std::unique_ptr<IndexWriter>> writer = open_index_writer(path, options);
        REQUIRE(writer);
        REQUIRE((*writer)->put("key", value));
        REQUIRE((*writer)->put("more" + std::string(value), value));
        REQUIRE((*writer)->commit());
    };
    write(false, Duplicates::warn, "1");
    TablePtr table = opened("lmdb:" + scratch.path + "/t");
    CHECK(ask(*table, "key") == "1");
    write(true, Duplicates::replace, "2");
    CHECK(ask(*table, "key") == "2");
    CHECK(ask(*table, "more1") == "1");
    write(true, Duplicates::ignore, "3");
    CHECK(ask(*table, "key") == "2");
    write(false, Duplicates::warn, "4");
    usleep(1100 * 1000);
    CHECK(ask(*table, "key") == "4");
    CHECK(ask(*table, "more1") == "-");
    const Result<bool> removed = remove_from_index(path, IndexType::lmdb, "key");
    REQUIRE(removed);
    CHECK(*removed);
    CHECK(ask(*table, "key") == "-");
    CHECK_FALSE(*remove_from_index(path, IndexType::lmdb, "key"));
}

TEST_CASE("a large table fits", "[table]") {
    const Scratch scratch;
    IndexOptions options;
    const std::size_t count = 200000;
    options.expected_bytes = count * 40;
    Result<std::unique_ptr<IndexWriter>> writer = open_index_writer(scratch.path + "/t.lmdb", options);
    REQUIRE(writer);
    bool ok = true;
    for (std::size_t i = 0; i < count; ++i) {
        const std::string number = std::to_string(i * 7919 % count);
        ok = ok && (*writer)->put("user" + number + "@example.com", "box" + number).ok();
    }
    REQUIRE(ok);
    REQUIRE((*writer)->commit());
    CHECK(ask("lmdb:" + scratch.path + "/t", "user123456@example.com") == "box123456");
}

TEST_CASE("damaged and foreign index files are refused", "[table]") {
    const Scratch scratch;
    scratch.file("t.lmdb", "this is not a database, not at all");
    CHECK_FALSE(open_error("lmdb:" + scratch.path + "/t").empty());
    scratch.file("t.cdb", "short");
    CHECK_FALSE(open_error("cdb:" + scratch.path + "/t").empty());
}

TEST_CASE("unknown and unsupported types are refused by name", "[table]") {
    CHECK(open_error("dbm:/x").find("use lmdb") != std::string::npos);
    CHECK(open_error("what:/x").find("unknown type \"what\"") != std::string::npos);
    CHECK(open_error("texthash:/no/such/file") == "texthash:/no/such/file: open /no/such/file: No such file or directory");
    CHECK(open_error("inline:x").find("in braces") != std::string::npos);
    CHECK(open_error("hash:").find("type:name") != std::string::npos);
}

TEST_CASE("a table list gives the first hit and refuses empty results", "[table]") {
    Result<TableList> list = TableList::open("test_maps", "inline:{a=1}, inline:{a=2,b=3} {inline:{c={}}}", {});
    REQUIRE(list);
    REQUIRE(list->tables().size() == 3);
    std::string from;
    CHECK(**list->lookup("a") == "1");
    CHECK(**list->lookup("B", false, &from) == "3");
    CHECK(from == "inline:{a=2,b=3}");
    CHECK_FALSE(list->lookup("x")->has_value());
    CHECK_FALSE(list->lookup("")->has_value());
    Result<TableList> failing = TableList::open("test_maps", "inline:{a=1} fail:y", {});
    CHECK(**failing->lookup("a") == "1");
    CHECK(failing->lookup("b").error().what == "test_maps: fail:y: lookup error");
    Result<TableList> empty = TableList::open("test_maps", "inline:{{a=}}", {});
    CHECK(empty->lookup("a").error().code == Errc::temporary);
    CHECK(TableList::open("test_maps", "what:x", {}).error().what.substr(0, 11) == "test_maps: ");
}

TEST_CASE("rules of pattern and network tables can stand in the table's name", "[table]") {
    for (const std::string type : {"regexp:", "pcre:"}) {
        CAPTURE(type);
        Result<TablePtr> table = open_table(type + "{ {/^[^A-Z]/ Bogus}, {/^x(.)/ got $1} }", {});
        INFO((table ? "" : table.error().what));
        REQUIRE(table);
        CHECK(**(*table)->lookup("1") == "Bogus");
        CHECK_FALSE((*table)->lookup("GET")->has_value());
        CHECK(**(*table)->lookup("Xy") == "got y");
        CHECK(ask(type + "{ {/(/ Bogus}, {/x/ good} }", "x") == "good");
    }
    Result<TablePtr> networks = open_table("cidr:{{192.0.2.0/24 ours}, {::/0 six}}", {});
    REQUIRE(networks);
    CHECK(**(*networks)->lookup("192.0.2.9") == "ours");
    CHECK(**(*networks)->lookup("2001:db8::1") == "six");
    CHECK_FALSE((*networks)->lookup("198.51.100.1")->has_value());
    CHECK(ask("cidr:{{192.0.2.1/24 bad}, {192.0.2.1 good}}", "192.0.2.1") == "good");
}
