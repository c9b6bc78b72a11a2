// Match lists and address lookups.
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>

#include "lib/table/address_lookup.h"
#include "lib/table/match_list.h"

using namespace postern;

namespace {

MatchList list_of(std::string_view patterns, MatchKind kind, bool parents = false) {
    Result<MatchList> list = MatchList::open("test_list", patterns, kind, parents, {});
    INFO(patterns << ": " << (list ? "" : list.error().what));
    REQUIRE(list);
    return std::move(*list);
}

bool text_in(std::string_view patterns, std::string_view text, MatchKind kind = MatchKind::string, bool parents = false) {
    const Result<bool> hit = list_of(patterns, kind, parents).matches(text);
    REQUIRE(hit);
    return *hit;
}

bool client_in(std::string_view patterns, std::string_view name, std::string_view address,
               MatchKind kind = MatchKind::name_and_address, bool parents = false) {
    const Result<bool> hit = list_of(patterns, kind, parents).matches(name, address);
    REQUIRE(hit);
    return *hit;
}

std::string list_error(std::string_view patterns, MatchKind kind) {
    const Result<MatchList> list = MatchList::open("test_list", patterns, kind, false, {});
    REQUIRE(!list);
    return list.error().what;
}

/// "key>value+extension", "-", or "!error".
std::string find(const std::string& maps, AddressQuery query) {
    Result<TableList> tables = TableList::open("maps", maps, {});
    REQUIRE(tables);
    const Result<std::optional<AddressHit>> hit = lookup_address(*tables, query);
    if (!hit) {
        return "!" + hit.error().what;
    }
    return *hit ? (*hit)->key + ">" + (*hit)->value + (*hit)->extension : "-";
}

}  // namespace

TEST_CASE("string lists match whole strings, the first element decides", "[match]") {
    CHECK(text_in("a.example, B.example", "A.EXAMPLE"));
    CHECK(text_in("a.example, B.example", "b.example"));
    CHECK_FALSE(text_in("a.example", "sub.a.example"));
    CHECK_FALSE(text_in("!a.example a.example", "a.example"));
    CHECK(text_in("!a.example static:x", "b.example"));
    CHECK(text_in("inline:{c.example=x}", "C.example"));
    CHECK_FALSE(text_in("", "a"));
}

TEST_CASE("domain lists match parents as told", "[match]") {
    CHECK(text_in("example.com", "a.b.example.com", MatchKind::domain, true));
    CHECK_FALSE(text_in("example.com", "a.example.com", MatchKind::domain, false));
    CHECK(text_in(".example.com", "a.example.com", MatchKind::domain, false));
    CHECK_FALSE(text_in(".example.com", "example.com", MatchKind::domain, false));
    CHECK_FALSE(text_in("example.com", "badexample.com", MatchKind::domain, true));
    CHECK(text_in("inline:{example.com=x}", "a.example.com", MatchKind::domain, true));
    CHECK(text_in("inline:{.example.com=x}", "a.b.example.com", MatchKind::domain, false));
    CHECK_FALSE(text_in("inline:{example.com=x}", "a.example.com", MatchKind::domain, false));
}

TEST_CASE("lists may come from files", "[match]") {
    char path[] = "/tmp/match-test-XXXXXX";
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    FILE* file = fdopen(fd, "w");
    REQUIRE(file);
    fputs("# comment\na.example, b.example\nc.example\n", file);
    fclose(file);
    CHECK(text_in(path, "c.example"));
    CHECK_FALSE(text_in(std::string("!") + path + " static:x", "b.example"));
    CHECK(text_in(std::string("!") + path + " static:x", "d.example"));
    remove(path);
    CHECK(list_error("/no/such/file", MatchKind::string).find("/no/such/file") != std::string::npos);
}

TEST_CASE("address lists know networks of both families", "[match]") {
    const auto in = [](std::string_view patterns, std::string_view address) {
        return client_in(patterns, "", address, MatchKind::address);
    };
    CHECK(in("127.0.0.0/8 [::1]/128", "127.9.9.9"));
    CHECK(in("127.0.0.0/8 [::1]/128", "::1"));
    CHECK(in("127.0.0.0/8", "::ffff:127.0.0.1"));
    CHECK(in("[2001:db8::]/32", "2001:DB8:5::1"));
    CHECK_FALSE(in("[2001:db8::]/32", "2001:db9::"));
    CHECK_FALSE(in("!192.0.2.1 192.0.2.0/24", "192.0.2.1"));
    CHECK(in("!192.0.2.1 192.0.2.0/24", "192.0.2.2"));
    CHECK(in("0.0.0.0/0", "8.8.8.8"));
    CHECK_FALSE(in("0.0.0.0/0", "::5"));
    CHECK(in("inline:{10.0.0.1=x}", "10.0.0.1"));
    CHECK_FALSE(in("10.0.0.0/8", "unknown"));
    CHECK(list_error("192.0.2.1/24", MatchKind::address) ==
          "test_list: non-null host address bits in \"192.0.2.1/24\", perhaps you should use \"192.0.2.0/24\" instead");
    CHECK(list_error("localhost", MatchKind::address) == "test_list: bad address or network \"localhost\"");
    CHECK_FALSE(list_error("10.0.0.0/33", MatchKind::address).empty());
    CHECK_FALSE(list_error("10.0.0.0/", MatchKind::address).empty());
}

TEST_CASE("client lists match names and addresses", "[match]") {
    CHECK(client_in("example.com 10.0.0.0/8", "mx.example.com", "192.0.2.1", MatchKind::name_and_address, true));
    CHECK(client_in("example.com 10.0.0.0/8", "other", "10.1.1.1"));
    CHECK_FALSE(client_in("!10.1.1.1 10.0.0.0/8", "other", "10.1.1.1"));
    CHECK_FALSE(client_in("example.com", "unknown", "192.0.2.1"));
}

TEST_CASE("a table that fails makes the list fail", "[match]") {
    MatchList list = list_of("a.example fail:x", MatchKind::string);
    CHECK(*list.matches("a.example"));
    CHECK(list.matches("b.example").error().code == Errc::temporary);
}

TEST_CASE("addresses are looked up part by part in Postfix's order", "[match]") {
    AddressQuery query;
    query.address = "User+ext@Example.com";
    query.delimiters = "+-";
    CHECK(find("inline:{user+ext@example.com=1,user@example.com=2}", query) == "User+ext@Example.com>1");
    CHECK(find("inline:{user@example.com=2,@example.com=3}", query) == "User@Example.com>2+ext");
    CHECK(find("inline:{user=4,@example.com=3}", query) == "@Example.com>3");
    query.domain_is_local = true;
    CHECK(find("inline:{user=4,@example.com=3}", query) == "User>4+ext");
    CHECK(find("inline:{user+ext=5,user=4}", query) == "User+ext>5");
    CHECK(find("fail:x", query).substr(0, 1) == "!");
    query.delimiters = "";
    CHECK(find("inline:{user@example.com=2}", query) == "-");
}

TEST_CASE("pattern tables see only the whole address", "[match]") {
    char path[] = "/tmp/match-test-XXXXXX";
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    FILE* file = fdopen(fd, "w");
    REQUIRE(file);
    fputs("/^@/ partial\n/^user@/ stripped\n/^user\\+/ whole\n", file);
    fclose(file);
    AddressQuery query;
    query.address = "user+x@example.com";
    query.delimiters = "+";
    CHECK(find(std::string("regexp:") + path, query) == "user+x@example.com>whole");
    query.address = "a@example.com";
    CHECK(find(std::string("regexp:") + path, query) == "-");
    remove(path);
}

TEST_CASE("access keys try domains and their parents, then local parts", "[match]") {
    AddressQuery query;
    query.address = "u+e@a.b.example";
    query.delimiters = "+";
    query.keys = kKeysAccess;
    CHECK(find("inline:{.b.example=1,u@=2}", query) == ".b.example>1");
    CHECK(find("inline:{b.example=1,u@=2}", query) == "u@>2+e");
    query.parent_domains = true;
    CHECK(find("inline:{b.example=1,u@=2}", query) == "b.example>1");
}

TEST_CASE("quoted local parts are found in external form", "[match]") {
    AddressQuery query;
    query.address = "a b@example.com";
    char path[] = "/tmp/match-test-XXXXXX";
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    FILE* file = fdopen(fd, "w");
    REQUIRE(file);
    fputs("\"a b\"@example.com  quoted\n", file);
    fclose(file);
    CHECK(find(std::string("texthash:") + path, query) == "\"a b\"@example.com>quoted");
    remove(path);
}

TEST_CASE("extensions begin at the first delimiter, with exceptions", "[match]") {
    CHECK(extension_start("user+a-b", "+-") == 4);
    CHECK(extension_start("+user", "+") == std::string_view::npos);
    CHECK(extension_start("Postmaster+x", "+") == 10);
    CHECK(extension_start("double-bounce", "-") == std::string_view::npos);
    CHECK(extension_start("owner-list", "-") == std::string_view::npos);
    CHECK(extension_start("owner-list", "-", false) == 5);
    CHECK(extension_start("list-request", "-") == std::string_view::npos);
    CHECK(extension_start("user", "") == std::string_view::npos);
}
