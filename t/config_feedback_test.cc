// How much a delivery changes a destination's concurrency, as main.cf has it.
#include <catch2/catch.hpp>

#include "lib/config/feedback.h"

using namespace postern;

TEST_CASE("feedback settings are parsed as Postfix does", "[config]") {
    CHECK(Feedback::parse("1")->amount(10) == 1);
    CHECK(Feedback::parse("1/8")->amount(10) == 0.125);
    CHECK(Feedback::parse("1/concurrency")->amount(10) == 0.1);
    CHECK(Feedback::parse(" 1 / sqrt_concurrency")->amount(16) == 0.25);
    CHECK(Feedback::parse("0")->amount(10) == 0);
    CHECK(Feedback::parse("0.25")->amount(10) == 0.25);
    CHECK(Feedback::parse("0.5/concurrency")->amount(10) == 0.05);
    CHECK(Feedback::parse("0.5/2.5")->amount(10) == 0.2);
    for (const char* bad : {"", "2", "x", "1/", "1/0", "1/x", "-1", "1/concurrency/2"}) {
        CAPTURE(bad);
        CHECK_FALSE(Feedback::parse(bad));
    }
}
