/// main.cf: its syntax, and the settings made of it.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <thread>

#include "lib/config/config.h"
#include "lib/config/main_cf.h"
#include "lib/config/values.h"

using namespace postern;

namespace {

Config config_of(std::string_view text, const Config::Overrides& overrides = {}) {
    Result<Config> config = Config::from_text(text, overrides);
    if (!config) {
        FAIL(config.error().what);
    }
    return *std::move(config);
}

std::string refusal_of(std::string_view text) {
    const Result<Config> config = Config::from_text(text);
    return config ? "accepted" : config.error().what;
}

}  // namespace

TEST_CASE("lines continue over comments and empty lines", "[config]") {
    const Result<MainCf> file = parse_main_cf(
        "# comment\n  # indented comment\nnotify_classes=a # kept\n  # gone\n b\n#c\n\td\n\n e\nbiff =\n", "main.cf");
    REQUIRE(file);
    REQUIRE(file->settings.size() == 2);
    CHECK(file->settings[0].name == "notify_classes");
    CHECK(file->settings[0].value == "a # kept b\td e");
    CHECK(file->settings[0].where == "main.cf:3");
    CHECK(file->settings[1].value.empty());
    CHECK(file->settings[1].where == "main.cf:10");
    CHECK(file->notices.empty());
}

TEST_CASE("values keep what Postfix keeps", "[config]") {
    const Result<MainCf> file = parse_main_cf("a==b\nc = x  y \r\n z\r\nd = { p = q,\n   r }\nlast = no line end", "m");
    REQUIRE(file);
    REQUIRE(file->settings.size() == 4);
    CHECK(file->settings[0].value == "=b");
    CHECK(file->settings[1].value == "x  y z");
    CHECK(file->settings[2].value == "{ p = q,   r }");
    CHECK(file->settings[3].value == "no line end");
}

TEST_CASE("the last of two definitions counts and is reported", "[config]") {
    const Config config = config_of("biff = yes\nmyhostname = a.example\nbiff = no\n");
    CHECK_FALSE(config.biff());
    REQUIRE(config.notices().size() == 1);
    CHECK(config.notices()[0] == "main.cf:3: overriding earlier entry: biff = yes (main.cf:1)");
    CHECK(config.value_line("biff") == "main.cf:3");
    CHECK(config.value_line("myhostname") == "main.cf:2");
    CHECK(config.value_line("smtpd_timeout").empty());
}

TEST_CASE("bad syntax is refused with file and line", "[config]") {
    CHECK(refusal_of("biff = no\nnotify_classes a\n") == "main.cf:2: missing '=' after parameter name: \"notify_classes a\"");
    CHECK(refusal_of("notify classes = a\n") == "main.cf:1: missing '=' after parameter name: \"notify classes = a\"");
    CHECK(refusal_of("= a\n") == "main.cf:1: missing parameter name: \"= a\"");
    CHECK(refusal_of("\n biff = no\n").find("main.cf:2: a line that begins with white space") == 0);
    CHECK(refusal_of(std::string("biff = no\0\n", 11)).find("main.cf:1: the line has a NUL byte") == 0);
    CHECK(parse_main_cf(std::string(kMaxConfigFile + 1, '#'), "m").error().code == Errc::too_big);
}

TEST_CASE("bad values are refused with file, line, name and what is accepted", "[config]") {
    CHECK(refusal_of("\nbiff = maybe\n") == "main.cf:2: biff = maybe: accepted: yes or no");
    CHECK(refusal_of("smtpd_timeout = 5x\n") ==
          "main.cf:1: smtpd_timeout = 5x: accepted: a time of at least 1s, with s, m, h, d or w (s without one)");
    CHECK(refusal_of("smtpd_hard_error_limit = 0\n") == "main.cf:1: smtpd_hard_error_limit = 0: accepted: a number of at least 1");
    CHECK(refusal_of("in_flow_delay = 11\n") ==
          "main.cf:1: in_flow_delay = 11: accepted: a time of at most 10s, with s, m, h, d or w (s without one)");
    CHECK(refusal_of("default_process_limit = ten\n").find("accepted: a number of at least 1") != std::string::npos);
    CHECK(refusal_of("default_process_limit =\n").find("accepted: a number") != std::string::npos);
    CHECK(refusal_of("my_own = ${\n") == "main.cf:1: my_own = ${: no end of \"${\"");
    CHECK(refusal_of("a = b\nbiff = $a\n") == "main.cf:2: biff = $a (which is \"b\"): accepted: yes or no");
    CHECK(refusal_of("relay_destination_rate_delay = x\n").find("main.cf:1: relay_destination_rate_delay = x: accepted: a time") == 0);
    CHECK(refusal_of("stress = x\nmynetworks_style = all\n") ==
          "main.cf:2: mynetworks_style = all: accepted: one of class, subnet, host");
    CHECK(refusal_of("default_process_limit = 7\n") == "accepted");   // below postscreen_pre_queue_limit's minimum, not in force
    CHECK(refusal_of("smtpd_use_tls = perhaps\npostscreen_access_list = x\n").find("smtpd_use_tls") != std::string::npos);
    CHECK(Config::from_text("biff = no\n", {{"biff", "x"}}).error().what == "-o: biff = x: accepted: yes or no");
}

TEST_CASE("defaults follow what was set", "[config]") {
    const Config config = config_of("myhostname = mx.example.org\nsmtpd_timeout = ${stress?{10}:{2m}}\n");
    CHECK(config.mydomain() == "example.org");
    CHECK(config.myorigin() == "mx.example.org");
    CHECK(config.mydestination() == "mx.example.org, localhost.example.org, localhost");
    CHECK(config.smtpd_banner() == "mx.example.org ESMTP Postern");
    CHECK(config.smtpd_timeout() == Seconds(120));
    CHECK(config.smtpd_starttls_timeout() == Seconds(300));
    CHECK(config.bounce_queue_lifetime() == std::chrono::hours(120));
    CHECK(config.alias_maps() == "lmdb:/etc/aliases");
    CHECK(config.smtpd_relay_restrictions() == "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination");
    CHECK(config.smtputf8_enable());
    CHECK(config._2bounce_notice_recipient() == "postmaster");
    CHECK(config_of("stress = yes\n").smtpd_hard_error_limit() == 1);
    CHECK(config_of("mydomain = d.example\n").myhostname().find(".d.example") != std::string::npos);
    CHECK(config.forward_path() == "$home/.forward${recipient_delimiter}${extension}, $home/.forward");
    CHECK(config_of("mynetworks_style = host\ninet_interfaces = loopback-only\ninet_protocols = ipv4\n").mynetworks() == "127.0.0.1/32");
}

TEST_CASE("units are the parameter's own", "[config]") {
    const Config config = config_of("maximal_queue_lifetime = 3\ndelay_warning_time = 4\nminimal_backoff_time = 5\nqueue_run_delay = 1W\n");
    CHECK(config.maximal_queue_lifetime() == std::chrono::hours(72));
    CHECK(config.delay_warning_time() == std::chrono::hours(4));
    CHECK(config.minimal_backoff_time() == Seconds(5));
    CHECK(config.queue_run_delay() == Seconds(604800));
}

TEST_CASE("transports have settings of their own", "[config]") {
    const Config config = config_of(
        "default_destination_concurrency_limit = 7\nrelay_destination_rate_delay = 2m\nuucp_recipient_limit = $seven\nseven = 7\n");
    CHECK(config.lookup("smtp_destination_concurrency_limit") == "7");
    CHECK(config.lookup_number("smtp_destination_concurrency_limit") == 7);
    CHECK(config.lookup_number("local_destination_concurrency_limit") == 2);
    CHECK(config.lookup_time("relay_destination_rate_delay") == Seconds(120));
    CHECK(config.lookup_time("x_destination_rate_delay") == Seconds(0));
    CHECK(config.lookup_time("policy_time_limit") == Seconds(1000));
    CHECK(config.lookup("uucp_recipient_limit") == "7");
    CHECK(config.lookup("seven") == "7");
    CHECK_FALSE(config.lookup("eight"));
    CHECK_FALSE(config.lookup_number("myhostname"));
}

TEST_CASE("overrides win and the process has a name", "[config]") {
    Config config = config_of("biff = yes\nsyslog_name = x/$process_name/$service_name\n", {{"biff", "no"}, {"mine", "$biff"}});
    config.set_process("smtpd", "submission");
    CHECK_FALSE(config.biff());
    CHECK(config.lookup("mine") == "no");
    CHECK(config.value_line("biff") == "-o");
    CHECK(config.syslog_name() == "x/smtpd/submission");
    CHECK(config.process_id() == std::to_string(::getpid()));
}

TEST_CASE("values can be read from several threads at once", "[config]") {
    const Config config = config_of("myhostname = mx.example.org\n");
    std::vector<std::thread> threads;
    std::vector<const std::string*> seen(8);
    for (std::size_t i = 0; i < seen.size(); ++i) {
        threads.emplace_back([&config, &seen, i] { seen[i] = &config.smtpd_banner(); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (const std::string* one : seen) {
        CHECK(one == seen[0]);
    }
    CHECK(*seen[0] == "mx.example.org ESMTP Postern");
}

TEST_CASE("times and numbers are read as Postfix reads them", "[config]") {
    CHECK(*parse_time("10", 'm') == 600);
    CHECK(*parse_time("1D", 's') == 86400);
    CHECK(*parse_time("+5s", 's') == 5);
    for (const char* text : {"", "s", "-1", "1x", "1ss", "1 s", "99999999999", "4000w", "+-1"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_time(text, 's'));
    }
    CHECK(*parse_integer("-1") == -1);
    for (const char* text : {"", "10k", "1 ", "0x10", "99999999999999999999"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_integer(text));
    }
    CHECK(*parse_yes_no("YES"));
    CHECK_FALSE(parse_yes_no("true"));
}

TEST_CASE("every default in the table is a good value", "[config]") {
    const Config config = Config::defaults();
    for (std::size_t i = 0; i < kParameterCount; ++i) {
        const ParameterInfo& info = parameter_info(static_cast<Parameter>(i));
        CAPTURE(info.name, info.default_value);
        CHECK(find_parameter(info.name) == static_cast<Parameter>(i));
        if (info.kind != ParameterKind::raw && info.kind != ParameterKind::read_only) {
            const Result<std::string> value = config.expand(*config.raw_value(info.name));
            REQUIRE(value);
            CHECK(parse_value(info, *value));
        }
    }
    CHECK_FALSE(find_parameter("smtpd_timeou"));
    CHECK_FALSE(find_parameter(""));
}
