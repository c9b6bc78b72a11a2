/// lib/log: line shapes, cleaning, destinations.
#include "lib/log/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <chrono>
#include <ctime>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "lib/config/config.h"
#include "lib/log/capture.h"
#include "lib/log/clean.h"
#include "lib/log/delivery.h"
#include "lib/log/destination.h"

using namespace postern;

namespace {

std::string clean(std::string text) {
    clean_log_text(text.data(), text.size());
    return text;
}

struct Scratch {
    Scratch() {
        char name[] = "/tmp/postern-log-XXXXXX";
        const int fd = ::mkstemp(name);
        ::close(fd);
        path = name;
    }
    ~Scratch() {
        log_open("postern", {});
        ::unlink(path.c_str());
    }
    std::string content() const {
        std::ifstream in(path);
        std::stringstream all;
        all << in.rdbuf();
        return all.str();
    }
    std::string path;
};

}  // namespace

TEST_CASE("nobody can forge a log line with control characters", "[log]") {
    CHECK(clean("a\nb\r\tc\x7f\x1b[0m") == "a?b??c??[0m");
    CHECK(clean(std::string("nul\0nul", 7)) == "nul?nul");
    CHECK(clean("gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x93\xac") == "gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x93\xac");
    CHECK(clean("\xc3") == "?");
    CHECK(clean("\xc0\xaf") == "??");
    CHECK(clean("\xed\xa0\x80") == "???");
    CHECK(clean("\xc2\x85x") == "??x");
    CHECK(clean("\xe2\x80\xa8") == "???");
    CHECK(clean("\xf4\x90\x80\x80") == "????");
    CHECK(clean("\xf0\x9f\x93") == "???");
}

TEST_CASE("a file gets Postfix's line shape", "[log]") {
    const Scratch file;
    REQUIRE(log_open("postfix/smtpd", {.kind = LogDestination::Kind::file, .path = file.path}));
    log_info("connect from {}[{}]", "mail.example", "192.0.2.1");
    log_warning("bad\nthing {}", 7);
    log_error("no");
    const std::regex shape(
        "[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [^ ]+ postfix/smtpd\\[" + std::to_string(::getpid()) +
        "\\]: connect from mail.example\\[192.0.2.1\\]\n[^\n]*: warning: bad\\?thing 7\n[^\n]*: error: no\n");
    INFO(file.content());
    CHECK(std::regex_match(file.content(), shape));
}

TEST_CASE("json lines carry the queue id", "[log]") {
    const Scratch file;
    REQUIRE(log_open("postfix/qmgr", {.kind = LogDestination::Kind::file, .path = file.path, .json = true}));
    log_warning("4A1B2C3D5E: \"quoted\" \\ text");
    log_info("statistics: none");
    std::istringstream lines(file.content());
    std::string first, second;
    std::getline(lines, first);
    std::getline(lines, second);
    INFO(first);
    CHECK(std::regex_match(first, std::regex(R"(\{"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","host":"[^"]+","program":"postfix/qmgr","pid":\d+,"level":"warning","queue_id":"4A1B2C3D5E","message":"warning: 4A1B2C3D5E: \\"quoted\\" \\\\ text"\})")));
    CHECK(second.find("queue_id") == std::string::npos);
    CHECK(second.find("\"message\":\"statistics: none\"}") != std::string::npos);
}

TEST_CASE("a forked child logs its own pid", "[log]") {
    const Scratch file;
    REQUIRE(log_open("postfix/local", {.kind = LogDestination::Kind::file, .path = file.path}));
    const pid_t child = ::fork();
    if (child == 0) {
        log_info("from the child");
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(file.content().find("postfix/local[" + std::to_string(child) + "]: from the child") != std::string::npos);
}

TEST_CASE("fatal ends with status 1 and panic with a core", "[log]") {
    const Scratch file;
    REQUIRE(log_open("postfix/x", {.kind = LogDestination::Kind::file, .path = file.path}));
    int status = 0;
    pid_t child = ::fork();
    if (child == 0) {
        fatal("open {}: no", "/x");
    }
    ::waitpid(child, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 1));
    child = ::fork();
    if (child == 0) {
        ::signal(SIGABRT, SIG_DFL);   // the test framework has its own
        panic("impossible {}", 1);
    }
    ::waitpid(child, &status, 0);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
    CHECK(file.content().find(": fatal: open /x: no\n") != std::string::npos);
    CHECK(file.content().find(": panic: impossible 1\n") != std::string::npos);
}

TEST_CASE("after rotation reopening goes on in the new file", "[log]") {
    const Scratch file;
    REQUIRE(log_open("postfix/x", {.kind = LogDestination::Kind::file, .path = file.path}));
    log_info("old");
    const std::string rotated = file.path + ".1";
    REQUIRE(::rename(file.path.c_str(), rotated.c_str()) == 0);
    log_reopen();
    log_info("new");
    CHECK(file.content().find("new") != std::string::npos);
    CHECK(file.content().find("old") == std::string::npos);
    ::unlink(rotated.c_str());
}

TEST_CASE("a new file has the mode that was asked for, and an old one keeps its own", "[log]") {
    const Scratch file;
    const auto mode = [&file] {
        struct stat info {};
        REQUIRE(::stat(file.path.c_str(), &info) == 0);
        return info.st_mode & 07777;
    };
    REQUIRE(::unlink(file.path.c_str()) == 0);
    const mode_t before = ::umask(077);
    REQUIRE(log_open("postfix/x", {.kind = LogDestination::Kind::file, .path = file.path, .mode = 0644}));
    CHECK(mode() == 0644);
    REQUIRE(log_open("postfix/x", {.kind = LogDestination::Kind::file, .path = file.path, .mode = 0600}));
    CHECK(mode() == 0644);
    REQUIRE(::unlink(file.path.c_str()) == 0);
    log_reopen();
    CHECK(mode() == 0600);
    ::umask(before);
}

TEST_CASE("main.cf says where lines go", "[log]") {
    const auto destination = [](std::string_view text) {
        const Result<Config> config = Config::from_text(text);
        REQUIRE(config);
        return log_destination(*config);
    };
    CHECK(destination("").facility == 2);
    CHECK(destination("").mode == 0600);
    CHECK(destination("syslog_facility = local5\n").facility == 21);
    CHECK(destination("syslog_facility = AUTHPRIV\n").facility == 10);
    CHECK(destination("maillog_file = /var/log/mail\nmaillog_file_permissions = 0640\n").mode == 0640);
    CHECK_FALSE(Config::from_text("syslog_facility = kernel\n"));
    CHECK_FALSE(Config::from_text("maillog_file_permissions = 0666\n"));
    const Result<Config> elsewhere = Config::from_text("myhostname = a.example\nmaillog_file = /variable/log\n");
    REQUIRE_FALSE(elsewhere);
    CHECK(elsewhere.error().what == "main.cf:2: maillog_file = /variable/log: not below a directory of maillog_file_prefixes "
                                    "(/var, /dev/stdout); accepted: a file there, or its directory added to maillog_file_prefixes");
    CHECK(Config::from_text("maillog_file = /variable/log\nmaillog_file_prefixes = /dev/stdout /variable\n"));
    CHECK(Config::from_text("maillog_file = /dev/stdout\n"));
}

TEST_CASE("a file that cannot be opened is reported", "[log]") {
    CHECK_FALSE(log_open("x", {.kind = LogDestination::Kind::file, .path = "/nonexistent/dir/log"}));
    log_open("postern", {});
}

TEST_CASE("threads write whole lines", "[log]") {
    const Scratch file;
    REQUIRE(log_open("postfix/x", {.kind = LogDestination::Kind::file, .path = file.path}));
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([t] {
                for (int i = 0; i < 500; ++i) {
                    log_info("thread {} line {} end", t, i);
                }
            });
        }
    }
    std::istringstream lines(file.content());
    std::string line;
    std::size_t good = 0;
    const std::regex shape(R"(.*\]: thread \d line \d+ end)");
    while (std::getline(lines, line)) {
        good += std::regex_match(line, shape) ? 1 : 0;
    }
    CHECK(good == 2000);
}

TEST_CASE("a line is cheap", "[log]") {
    REQUIRE(log_open("postfix/x", {.kind = LogDestination::Kind::file, .path = "/dev/null"}));
    const std::clock_t start = std::clock();   // whoever else is busy does not count
    constexpr int kLines = 100000;
    for (int i = 0; i < kLines; ++i) {
        log_info("{}: to=<{}>, relay=local, delay={}, status=sent ({})", "4A1B2C3D", "user@example.org", 0.01, "ok");
    }
    const double each = 1e6 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC / kLines;
    log_open("postern", {});
    WARN("one line costs " << each << " us");
    CHECK(each < 50);   // generous: sanitizers and busy machines
}

TEST_CASE("a sink sees every line and its level", "[log]") {
    LogCapture log;
    log_info("one");
    log_warning("two");
    CHECK(log.lines() == std::vector<std::string>{"one", "warning: two"});
    CHECK(log.last() == "warning: two");
    CHECK(log.count("o") == 2);
    log_debug("unseen");
    CHECK(log.lines().size() == 2);
}

TEST_CASE("delays have two significant digits and at most two decimals", "[log]") {
    CHECK(format_delay(0, 2) == "0");
    CHECK(format_delay(-5, 2) == "0");
    CHECK(format_delay(4'000, 2) == "0");
    CHECK(format_delay(6'000, 2) == "0.01");
    CHECK(format_delay(70'000, 2) == "0.07");
    CHECK(format_delay(100'000, 2) == "0.1");
    CHECK(format_delay(123'456, 2) == "0.12");
    CHECK(format_delay(999'999, 2) == "1");
    CHECK(format_delay(1'234'567, 2) == "1.2");
    CHECK(format_delay(12'345'678, 2) == "12");
    CHECK(format_delay(1'200'400'000, 2) == "1200");
    CHECK(format_delay(1'234'567, 0) == "1");
    CHECK(format_delay(499'999, 0) == "0");
    CHECK(format_delay(500'000, 0) == "1");
    CHECK(format_delay(123'456, 1) == "0.1");
    CHECK(format_delay(4'321, 3) == "0.004");
    CHECK(format_delay(4'321, 4) == "0.0043");
    CHECK(format_delay(4'321, 6) == "0.0043");
    CHECK(format_delay(7, 6) == "0.000007");
    CHECK(format_delay(123'456, 6) == "0.12");
}

TEST_CASE("a delivery line is Postfix's", "[log]") {
    const DeliveryTimes times{.arrival = 1'000'000, .active = 1'050'000, .handed = 1'060'000, .connected = 0, .done = 1'070'000};
    const DeliveryLine line{.queue_id = "4A1B2C", .to = "a@b.example", .orig_to = "x@b.example", .relay = "local", .times = times,
                            .dsn = "2.0.0", .status = "sent", .text = "delivered to maildir"};
    CHECK(format_delivery_line(line) == "4A1B2C: to=<a@b.example>, orig_to=<x@b.example>, relay=local, delay=0.07, "
                                        "delays=0.05/0.01/0/0.01, dsn=2.0.0, status=sent (delivered to maildir)");
    DeliveryLine same = line;
    same.orig_to = same.to;
    same.relay = "";
    CHECK(format_delivery_line(same).substr(0, 40) == "4A1B2C: to=<a@b.example>, relay=none, de");
}
