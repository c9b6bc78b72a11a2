/// Expansion of $names.  The expected values are what postconf -x of Postfix 3.7.11 printed for the same text.
#include <catch2/catch.hpp>

#include <map>

#include "lib/config/expand.h"

using postern::Errc;
using postern::Result;

namespace {

struct Names : postern::NameSource {
    std::map<std::string, Value, std::less<>> values{
        {"one", {"one", false}},      {"empty", {"", false}},      {"nested", {"<$one>", false}},
        {"literal", {"$one", true}},  {"self", {"$self", false}},  {"level", {"3.8", false}},
        {"bad", {"${", false}},
    };
    std::optional<Value> find(std::string_view name) const override {
        const auto at = values.find(name);
        return at == values.end() ? std::nullopt : std::optional(at->second);
    }
};

std::string expanded(std::string_view text) {
    const Result<std::string> result = postern::expand(text, Names());
    return result ? *result : "error: " + result.error().what;
}

bool refused(std::string_view text) {
    const Result<std::string> result = postern::expand(text, Names());
    return !result && result.error().code == Errc::syntax;
}

}  // namespace

TEST_CASE("names are replaced by their values", "[config]") {
    CHECK(expanded("plain") == "plain");
    CHECK(expanded("$one") == "one");
    CHECK(expanded("${one}$(one)$one") == "oneoneone");
    CHECK(expanded("${ one }") == "one");
    CHECK(expanded("$one.foo $one_bar|") == "one.foo |");
    CHECK(expanded("$undefined|$1x $9") == "| ");
    CHECK(expanded("$nested") == "<one>");
    CHECK(expanded("$literal") == "$one");
    CHECK(expanded("a$$b$$$one") == "a$b$one");
    CHECK(expanded("$undefined?y") == "?y");
}

TEST_CASE("a name chooses between texts", "[config]") {
    CHECK(expanded("${one?yes}") == "yes");
    CHECK(expanded("${empty?yes}|") == "|");
    CHECK(expanded("${empty:no}") == "no");
    CHECK(expanded("${one:no}|") == "|");
    CHECK(expanded("${undefined:a}") == "a");
    CHECK(expanded("${one?{a}:{b}}${empty?{a}:{b}}") == "ab");
    CHECK(expanded("${one ? { a } : { b }}") == "a");
    CHECK(expanded("${empty?{a}:b}") == "b");
    CHECK(expanded("${one?a:b}") == "a:b");
    CHECK(expanded("${one?{a{b}c}}") == "a{b}c");
    CHECK(expanded("${one?}|") == "|");
    CHECK(expanded("${one?{$empty}:{$one}}|") == "|");
    CHECK(expanded("${one?{${empty:{deep}}}:{no}}") == "deep");
    CHECK(expanded("$(one?{x}:{y})$(one?x)") == "xx");
    CHECK(expanded("${one?{a} : {b} }") == "a");
}

TEST_CASE("comparisons are of numbers when both sides are numbers", "[config]") {
    CHECK(expanded("${{1} < {2} ? {x} : {y}}") == "x");
    CHECK(expanded("${{ 10 } < { 9 } ? {x} : {y}}") == "y");
    CHECK(expanded("${{a10} < {a9} ? {x} : {y}}") == "x");
    CHECK(expanded("${{-1} < {1} ? {x} : {y}}") == "x");
    CHECK(expanded("${{01} == {1} ? {x} : {y}}") == "x");
    CHECK(expanded("${{$one} == {one} ? {x} : {y}}") == "x");
    CHECK(expanded("${{$empty} == {} ? {x} : {y}}") == "x");
    CHECK(expanded("${{ab} != {ac}?{t}:{f}}") == "t");
    CHECK(expanded("${{1} >= {1} ? {x} : {y}}${{1} > {1} ? {x} : {y}}${{1} <= {1} ? {x} : {y}}") == "xyx");
    CHECK(expanded("${{1} == {1}?x}") == "x");
    CHECK(expanded("${{1} == {2}:x}") == "x");
    CHECK(expanded("${{1} == {1}}") == "true");
    CHECK(expanded("${{1} == {2}}|") == "|");
    CHECK(expanded("${{abc}=={abc}?x:y}") == "x:y");
}

TEST_CASE("levels are compared part by part", "[config]") {
    CHECK(expanded("${{3.10} <level {3.9} ? {x} : {y}}") == "y");
    CHECK(expanded("${{$level} <level {3.11} ? {x} : {y}}") == "x");
    CHECK(expanded("${{3} ==level {3.0.0} ? {x} : {y}}") == "x");
    CHECK(refused("${{3.x} <level {3.9} ? {x} : {y}}"));
    CHECK(refused("${{1.2.3.4} <level {3.9} ? {x} : {y}}"));
    CHECK(refused("${{} <level {3.9} ? {x} : {y}}"));
}

TEST_CASE("malformed references are refused", "[config]") {
    for (const char* text :
         {"end $", "$ x", "{$}", "${unfinished", "$(one", "${}", "${one!x}", "${a-b}", "${one?{a}{b}}", "${one?{a}:{b}:{c}}",
          "${one:{a}?{b}}", "${{1} = {1} ? {x} : {y}}", "${{a} == {a} ? {x} : {y} z}", "${{a} == {a} ? {x} {y}}",
          "${{abc}==abc?x:y}", "${one?{a)}", "${{99999999999999999999} > {1} ? {x} : {y}}", "$bad", "${{a}", "${{a} ==}"}) {
        CAPTURE(text);
        CHECK(refused(text));
    }
}

TEST_CASE("expansion is bounded", "[config]") {
    const Result<std::string> self = postern::expand("$self", Names());
    REQUIRE(!self);
    CHECK(self.error().code == Errc::too_big);

    Names bomb;   // each level doubles: without a bound 2^60 look-ups
    bomb.values["x0"] = {"", false};
    for (int i = 1; i <= 60; ++i) {
        const std::string below = "$x" + std::to_string(i - 1);
        bomb.values["x" + std::to_string(i)] = {below + below, false};
    }
    const Result<std::string> empty_bomb = postern::expand("$x60", bomb);
    REQUIRE(!empty_bomb);
    CHECK(empty_bomb.error().code == Errc::too_big);
    bomb.values["x0"] = {std::string(100'000, 'a'), false};
    CHECK(!postern::expand("$x60", bomb));
}

TEST_CASE("functions leave ASCII domains alone", "[config]") {
    CHECK(expanded("${domain_to_ascii{$one.example}}") == "one.example");
    CHECK(expanded("${domain_to_utf8{one}}") == "one");
    CHECK(refused("${no_such_function{x}}"));
    CHECK(!postern::expand("${domain_to_ascii{\xc3\xa9}}", Names()));
}
