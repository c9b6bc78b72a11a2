/// lib/log: line shapes, cleaning, destinations.
#include "lib/log/log.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <chrono>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "lib/log/capture.h"
#include "lib/log/clean.h"
#include "lib/log/delivery.h"

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
    const auto start = std::chrono::steady_clock::now();
    constexpr int kLines = 100000;
    for (int i = 0; i < kLines; ++i) {
        log_info("{}: to=<{}>, relay=local, delay={}, status=sent ({})", "4A1B2C3D", "user@example.org", 0.01, "ok");
    }
    const double each = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / kLines;
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
    CHECK(format_delay(0) == "0");
    CHECK(format_delay(-5) == "0");
    CHECK(format_delay(4'000) == "0");
    CHECK(format_delay(6'000) == "0.01");
    CHECK(format_delay(70'000) == "0.07");
    CHECK(format_delay(100'000) == "0.1");
    CHECK(format_delay(123'456) == "0.12");
    CHECK(format_delay(999'999) == "1");
    CHECK(format_delay(1'234'567) == "1.2");
    CHECK(format_delay(12'345'678) == "12");
    CHECK(format_delay(1'200'400'000) == "1200");
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
