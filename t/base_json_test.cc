#include "lib/base/json.h"

#include <catch2/catch.hpp>

using postern::json_quoted;

TEST_CASE("JSON strings: what must be escaped is, what is not UTF-8 is replaced", "[base]") {
    CHECK(json_quoted("") == "\"\"");
    CHECK(json_quoted("a\"b\\c/d") == R"("a\"b\\c/d")");
    CHECK(json_quoted(std::string_view("\0\n\x1f\x7f", 4)) == R"("\u0000\u000a\u001f\u007f")");
    CHECK(json_quoted("gr\xC3\xBC\xC3\x9F") == "\"gr\xC3\xBC\xC3\x9F\"");
    CHECK(json_quoted("x\xFCy") == "\"x\xEF\xBF\xBDy\"");
    CHECK(json_quoted("\xE2\x82") == "\"\xEF\xBF\xBD\"");
    CHECK(json_quoted("\xED\xA0\x80") == "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}
