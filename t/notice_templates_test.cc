// bounce_template_file: what it may say, and what becomes of it.
#include <catch2/catch.hpp>

#include "lib/mail/verp.h"
#include "lib/notice/templates.h"

using namespace postern;

namespace {

Config settings() {
    return std::move(*Config::from_text("myhostname = here.example\ndelay_warning_time = 4h\n"));
}

constexpr std::string_view kFile =
    "# a comment\n\n"
    "failure_template = <<EOF\n"
    "charset: utf-8\n"
    "Subject: No way\n"
    "Postmaster-Subject: No way, either\n"
    "\n"
    "# not a comment: $$5 at $myhostname\n"
    "\n"
    "  Gr\xc3\xbc\xc3\x9f" "e\n"
    "EOF\n"
    "delay_template = <<END OF IT\n"
    "\n"
    "more than ${delay_warning_time_hours} h, $delay_warning_time_minutes min, $(maximal_queue_lifetime_weeks) w\n"
    "END OF IT\n";

std::string error_of(std::string_view text) {
    const Result<NoticeTemplates> parsed = NoticeTemplates::parse(text);
    return parsed ? "none" : parsed.error().what;
}

}  // namespace

TEST_CASE("a template file changes what it names and leaves the rest", "[notice]") {
    const Result<NoticeTemplates> parsed = NoticeTemplates::parse(kFile);
    REQUIRE(parsed);
    CHECK(parsed->failure.charset == "utf-8");
    CHECK(parsed->failure.subject == "No way");
    CHECK(parsed->failure.postmaster_subject == "No way, either");
    CHECK_FALSE(parsed->failure.is_ascii());
    CHECK(*expand_notice(settings(), parsed->failure.body) == "# not a comment: $5 at here.example\n\n  Gr\xc3\xbc\xc3\x9f" "e\n");
    CHECK(parsed->delay.subject == "Delayed Mail (still being retried)");
    CHECK(*expand_notice(settings(), parsed->delay.body) == "more than 4 h, 240 min, 0 w\n");
    CHECK(parsed->success.body == NoticeTemplates::builtin().success.body);
}

TEST_CASE("what postconf -t prints can be read again", "[notice]") {
    const Result<NoticeTemplates> parsed = NoticeTemplates::parse(kFile);
    REQUIRE(parsed);
    const std::string text = format_templates(*parsed);
    const Result<NoticeTemplates> again = NoticeTemplates::parse(text);
    REQUIRE(again);
    CHECK(format_templates(*again) == text);
    CHECK(preview_templates(settings(), *parsed)->find("expanded_success_text = <<EOF\nThis is the mail system at host here.example.\n") !=
          std::string::npos);
}

TEST_CASE("errors name the line", "[notice]") {
    CHECK(error_of("") == "none");
    CHECK(error_of("\n\nrubbish\n") == "line 3: want: failure_template, delay_template, success_template or verify_template = <<EOF");
    CHECK(error_of("x_template = <<EOF\n\ntext\nEOF\n") == "line 1: unknown template name: x_template");
    CHECK(error_of("failure_template = <<EOF\nSubject: x\n\ntext\n") == "line 4: missing end of template: EOF");
    CHECK(error_of("failure_template = <<EOF\nSubject: x\n\nEOF\n") == "line 4: missing message text in template");
    CHECK(error_of("failure_template = <<EOF\nX-Other: x\n\ntext\nEOF\n") == "line 2: unknown template header: X-Other");
    CHECK(error_of("success_template = <<EOF\nPostmaster-Subject: x\n\ntext\nEOF\n") == "line 2: unknown template header: Postmaster-Subject");
    CHECK(error_of("failure_template = <<EOF\nSubject: \xc3\xbc\n\ntext\nEOF\n") == "line 2: non-ASCII \"Subject\" header value");
    CHECK(error_of("failure_template = <<EOF\nno header\n\ntext\nEOF\n") == "line 2: malformed template header");
    CHECK(error_of(std::string(kMaxTemplateFile + 1, '#')) == "line 1: the file is too large");
    CHECK_FALSE(expand_notice(settings(), "costs $ 5"));
    CHECK(expand_notice(settings(), "$delay_warning_time_fortnights").error().what ==
          "unrecognized suffix \"fortnights\" in parameter \"delay_warning_time_fortnights\"");
    CHECK_FALSE(expand_notice(settings(), "$maximal_queue_lifetime_"));
}

TEST_CASE("a time of which nothing is left in its unit is warned about", "[notice]") {
    const Result<NoticeTemplates> parsed = NoticeTemplates::parse("delay_template = <<EOF\n\n$delay_warning_time_days $maximal_queue_lifetime_days\nEOF\n");
    REQUIRE(parsed);
    const std::vector<std::string> warnings = doubtful_times(settings(), *parsed, "");
    REQUIRE(warnings.size() == 3);
    CHECK(warnings[0] == "[built-in]: zero result in delay template conversion of parameter \"delay_warning_time_days\"");
    CHECK(warnings[1] == "please reduce time unit \"days\" of \"delay_warning_time_days\" in delay template");
    CHECK(warnings[2] == "for instructions see the bounce(5) manual");
    CHECK(doubtful_times(*Config::from_text("delay_warning_time = 0\n"), *parsed, "x").empty());   // 0 hours are 0 days
}

TEST_CASE("VERP puts the recipient into the sender", "[notice]") {
    CHECK(verp_sender("owner@list.example", "user@site.example", "+=") == "owner+user=site.example@list.example");
    CHECK(verp_sender("owner", "user@a@b", "-=") == "owner-user@a=b");
    CHECK(verp_sender("owner@list.example", "local", "+=") == "owner+local@list.example");
    CHECK(verp_sender("", "user@site.example", "+=").empty());
    CHECK(valid_verp_delimiters("+=", "-=+"));
    for (const char* bad : {"", "+", "+=-", "+x", "ab"}) {
        CAPTURE(bad);
        CHECK_FALSE(valid_verp_delimiters(bad, "-=+"));
    }
}
