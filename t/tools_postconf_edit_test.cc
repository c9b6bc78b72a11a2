/// postconf -e, -# and -X: what happens to the file.
#include <catch2/catch.hpp>

#include "tools/postconf.h"

using namespace postern;
using namespace postern::postconf;

namespace {

constexpr auto kSet = Request::Action::set;
constexpr auto kComment = Request::Action::comment_out;
constexpr auto kRemove = Request::Action::remove;

std::string main_cf(std::string_view text, Request::Action action, const std::vector<Change>& changes) {
    const Result<std::string> result = edited(text, false, action, changes);
    return result ? *result : "error: " + result.error().what;
}

constexpr std::string_view kFile =
    "# first\n"
    "a = 1\n"
    "# about b\n"
    "b = 2\n"
    "# inside b\n"
    "   more b\n"
    "\n"
    "# about c\n"
    "c = 3\n"
    "a = again\n"
    "# last";

}  // namespace

TEST_CASE("a set value takes the place of the first definition", "[tools]") {
    CHECK(main_cf(kFile, kSet, {{"a", "a = new"}, {"d", "d = added"}}) ==
          "# first\na = new\n# about b\nb = 2\n# inside b\n   more b\n\n# about c\nc = 3\n# last\nd = added\n");
    CHECK(main_cf(kFile, kSet, {{"b", "b = new"}}) ==
          "# first\na = 1\n# about b\n# inside b\nb = new\n\n# about c\nc = 3\na = again\n# last\n");
    CHECK(main_cf("", kSet, {{"a", "a = 1"}, {"a", "a = 1"}}) == "a = 1\n");
    CHECK(main_cf("a=1", kSet, {{"b", "b = 2"}}) == "a=1\nb = 2\n");
}

TEST_CASE("definitions are commented out or removed with all their lines", "[tools]") {
    CHECK(main_cf(kFile, kComment, {{"b", ""}}) ==
          "# first\na = 1\n# about b\n#b = 2\n# inside b\n#   more b\n\n# about c\nc = 3\na = again\n# last\n");
    CHECK(main_cf(kFile, kRemove, {{"a", ""}, {"c", ""}}) ==
          "# first\n# about b\nb = 2\n# inside b\n   more b\n\n# about c\n# last\n");
    CHECK(main_cf(kFile, kRemove, {{"nothing", ""}}) == std::string(kFile) + "\n");
}

TEST_CASE("services are known by name and type", "[tools]") {
    constexpr std::string_view file = "smtp inet n - y - - smtpd\n  -o a=b\nsmtp unix - - y - - smtp\n";
    CHECK(*edited(file, true, kSet, {{"smtp/inet", "new line"}}) == "new line\nsmtp unix - - y - - smtp\n");
    CHECK(*edited(file, true, kComment, {{"smtp/inet", ""}}) == "#smtp inet n - y - - smtpd\n#  -o a=b\nsmtp unix - - y - - smtp\n");
    CHECK(*edited(file, true, kRemove, {{"smtp/unix", ""}}) == "smtp inet n - y - - smtpd\n  -o a=b\n");
    CHECK_FALSE(edited(file, true, kRemove, {{"smtp/fifo", ""}}));
}

TEST_CASE("lines are folded where Postfix folds them", "[tools]") {
    CHECK(folded("a  b\tc", true) == "a b c");
    CHECK(folded("forward_path = $home/.forward${recipient_delimiter}${extension}, $home/.forward", true) ==
          "forward_path = $home/.forward${recipient_delimiter}${extension}, $home/.forward");
    CHECK(folded("lmtp_per_request_deadline = ${lmtp_per_record_deadline?{$lmtp_per_record_deadline}:{no}}", true) ==
          "lmtp_per_request_deadline =\n    ${lmtp_per_record_deadline?{$lmtp_per_record_deadline}:{no}}");
    CHECK(folded("x", false) == "x");
    CHECK(folded("", true).empty());
}
