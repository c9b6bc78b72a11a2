// tlsrpt: where reports go, the counts on disk, the report itself, and when it is sent.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <csignal>

#include "json.h"
#include "lib/base/strings.h"
#include "store_helpers.h"
#include "tlspolicy/sealed.h"
#include "tlspolicy/tlsrpt_server.h"

using namespace postern;
using namespace postern::tlspolicy;

namespace {

constexpr std::int64_t kNoon = 1'795'305'600 + 43'200;   // 2026-11-22 12:00 UTC
std::int64_t now_is = 0;
std::int64_t the_clock() { return now_is; }

TlsrptOutcome outcome(TlsrptResult result, const std::string& domain = "example.com", const std::string& host = "mx.example.com") {
    TlsrptOutcome out;
    out.domain = domain;
    out.policy = static_cast<std::uint8_t>(TlsrptPolicy::sts);
    out.policy_strings = {"version: STSv1", "mode: testing"};
    out.mx_patterns = {"*.example.com"};
    out.result = static_cast<std::uint8_t>(result);
    out.sending_ip = "192.0.2.1";
    out.receiving_host = host;
    out.receiving_ip = "2001:db8::1";
    out.reason = "it said \"no\"\n\x01";
    return out;
}

class FakeDns final : public Dns {
public:
    std::vector<std::string> texts{"v=TLSRPTv1; rua=mailto:tls@example.com"};
    bool broken = false;
    std::vector<std::string> asked;
    Task<Result<DnsAnswer>> query(std::string name, DnsType, Millis) override {
        asked.push_back(name);
        if (broken) {
            co_return Error(Errc::temporary, "SERVFAIL");
        }
        DnsAnswer answer;
        for (const std::string& text : texts) {
            answer.records.push_back({text, 0});
        }
        co_return answer;
    }
};

class FakeWeb final : public Https {
public:
    long status = 201;
    std::vector<HttpsRequest> asked;
    Task<Result<HttpsAnswer>> perform(HttpsRequest request) override {
        asked.push_back(std::move(request));
        HttpsAnswer answer;
        answer.status = status;
        co_return answer;
    }
};

class FakeMailer final : public ReportMailer {
public:
    struct Mail {
        std::string sender, recipient, content;
    };
    std::vector<Mail> sent;
    bool broken = false;
    Task<Result<void>> send(std::string sender, std::string recipient, std::string content) override {
        if (broken) {
            co_return Error(Errc::no_space, "queue full");
        }
        sent.push_back({std::move(sender), std::move(recipient), std::move(content)});
        co_return Result<void>();
    }
};

std::string gunzip(const std::string& bytes) {
    std::string out(1 << 20, '\0');
    z_stream stream{};
    REQUIRE(inflateInit2(&stream, MAX_WBITS + 16) == Z_OK);
    std::string in = bytes;
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    inflateEnd(&stream);
    return out;
}

struct World {
    store::Scratch scratch;
    FakeDns dns;
    FakeWeb web;
    FakeMailer mailer;
    std::unique_ptr<TlsrptBook> book;
    std::unique_ptr<TlsrptServer> server;
    int working = 0;

    World() {
        now_is = kNoon;
        start();
    }
    ~World() { settle(); }
    /// The server lives as long as its process; here it has to have written first.
    void settle() {
        while (working > 0) {
            Loop::current().run_until(sleep_for(std::chrono::milliseconds(50)));
        }
    }
    void start() {
        settle();
        server.reset();
        book.reset();
        Result<std::unique_ptr<TlsrptBook>> opened = TlsrptBook::open(scratch.path() + "/tlsrpt.mdb");
        REQUIRE(opened);
        book = std::move(*opened);
        const Reporter reporter{"Example Org", "mailto:contact@example.org", "reports@example.org", "example.org", "mail.example.org"};
        server = std::make_unique<TlsrptServer>(TlsrptServer::Parts{reporter, dns, web, *book, mailer, &the_clock,
                                                                    [this] { ++working; }, [this] { --working; }});
    }
    void due() { Loop::current().run_until(server->send_due()); }
    std::string now(const std::string& day = "") { return Loop::current().run_until(server->send_now(day, "")); }
    test::Json json() {
        TlsrptShow what;
        what.json = true;
        const std::string text = server->show(what);
        return test::JsonReader(text).value();
    }
};

std::string uris_of(const std::vector<std::string>& records) {
    std::string out;
    for (const ReportUri& uri : find_report_uris(records)) {
        out += (out.empty() ? "" : " ") + (uri.url.empty() ? uri.address : uri.url);
    }
    return out;
}

}  // namespace

TEST_CASE("a record says where reports go", "[tlsrpt]") {
    CHECK(uris_of({"v=TLSRPTv1; rua=mailto:tls@example.com"}) == "tls@example.com");
    CHECK(uris_of({"v=TLSRPTv1;rua=https://r.example.com/v1/tls?x=y"}) == "https://r.example.com/v1/tls?x=y");
    CHECK(uris_of({"v=TLSRPTv1 ; rua=mailto:a@b.example ,\thttps://r.example:8443/ ; x=y;"}) == "a@b.example https://r.example:8443/");
    CHECK(uris_of({"v=spf1 -all", "v=TLSRPTv1; rua=mailto:a%2Bb@c.example?subject=hi"}) == "a+b@c.example");
    CHECK(uris_of({"v=TLSRPTv1; rua=MAILTO:a@b.example; rua=mailto:second@b.example"}) == "a@b.example");
    CHECK(uris_of({"v=TLSRPTv1; rua=ftp://x.example/,mailto:a@b.example"}) == "a@b.example");   // unknown kinds are left out
    for (const char* bad : {"", "v=TLSRPTv1", "v=TLSRPTv1;", "v=TLSRPTv2; rua=mailto:a@b.example", "v=tlsrptv1; rua=mailto:a@b.example",
                            "v=TLSRPTv1 rua=mailto:a@b.example", "v=TLSRPTv1; rua", "v=TLSRPTv1; rua=", "v=TLSRPTv1; =x; rua=mailto:a@b.example",
                            "v=TLSRPTv1; rua=mailto:", "v=TLSRPTv1; rua=mailto:a", "v=TLSRPTv1; rua=mailto:a@", "v=TLSRPTv1; rua=mailto:a@b c",
                            "v=TLSRPTv1; rua=mailto:a%0d%0aRCPT@b.example", "v=TLSRPTv1; rua=mailto:a%3e@b.example", "v=TLSRPTv1; rua=mailto:a%2",
                            "v=TLSRPTv1; rua=http://r.example/", "v=TLSRPTv1; rua=https://u@r.example/", "v=TLSRPTv1; rua=https://r.example:0/",
                            "v=TLSRPTv1; rua=mailto:a@[192.0.2.1]"}) {
        CAPTURE(bad);
        CHECK(uris_of({bad}).empty());
    }
    CHECK(uris_of({"v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:a@b.example"}).empty());
    std::string many = "v=TLSRPTv1; rua=mailto:a@b.example";
    for (int i = 0; i < 50; ++i) {
        many += ",mailto:a@b.example";
    }
    CHECK(find_report_uris({many}).size() == kMaxReportUris);
}

TEST_CASE("days are those of UTC", "[tlsrpt]") {
    CHECK(utc_day(kNoon) == "2026-11-22");
    CHECK(day_begin("2026-11-22") == kNoon - 43'200);
    for (const char* bad : {"", "2026-11-31", "2026-13-01", "2026-1-1", "20261122", "2026-02-29", "x026-01-01"}) {
        CAPTURE(bad);
        CHECK(day_begin(bad) == 0);
    }
}

TEST_CASE("sessions of the same fate are one entry", "[tlsrpt]") {
    World world;
    for (int i = 0; i < 3; ++i) {
        world.server->count(outcome(TlsrptResult::success));
        world.server->count(outcome(TlsrptResult::certificate_expired, "Example.COM"));
        world.server->write_rest();
    }
    world.server->count(outcome(TlsrptResult::certificate_expired, "example.com", "mx2.example.com"));
    TlsrptOutcome none = outcome(TlsrptResult::starttls_not_supported);
    none.policy = 0;
    none.policy_strings.clear();
    none.mx_patterns.clear();
    world.server->count(none);
    TlsrptOutcome bad = outcome(TlsrptResult::success);
    bad.result = kTlsrptResults;
    world.server->count(bad);
    world.server->count(outcome(TlsrptResult::success, "no domain"));
    world.server->write_rest();
    const test::Json report = world.json();
    CHECK(report["organization-name"].text() == "Example Org");
    CHECK(report["date-range"]["start-datetime"].text() == "2026-11-22T00:00:00Z");
    CHECK(report["date-range"]["end-datetime"].text() == "2026-11-22T23:59:59Z");
    CHECK(report["contact-info"].text() == "mailto:contact@example.org");
    CHECK(report["report-id"].text() == "2026-11-22.example.com@mail.example.org");
    REQUIRE(report["policies"].items.size() == 2);
    const test::Json& sts = report["policies"].items[0];
    CHECK(sts["policy"]["policy-type"].text() == "sts");
    CHECK(sts["policy"]["policy-domain"].text() == "example.com");
    REQUIRE(sts["policy"]["policy-string"].items.size() == 2);
    CHECK(sts["policy"]["policy-string"].items[1].text() == "mode: testing");
    CHECK(sts["policy"]["mx-host"].items.at(0).text() == "*.example.com");
    CHECK(sts["summary"]["total-successful-session-count"].integer() == 3);
    CHECK(sts["summary"]["total-failure-session-count"].integer() == 4);
    REQUIRE(sts["failure-details"].items.size() == 2);
    const test::Json& detail = sts["failure-details"].items[0];
    CHECK(detail["result-type"].text() == "certificate-expired");
    CHECK(detail["failed-session-count"].integer() == 3);
    CHECK(detail["sending-mta-ip"].text() == "192.0.2.1");
    CHECK(detail["receiving-ip"].text() == "2001:db8::1");
    CHECK(detail["receiving-mx-hostname"].text() == "mx.example.com");
    CHECK(detail["failure-reason-code"].text() == "it said \"no\"??");
    CHECK(report["policies"].items[1]["policy"]["policy-type"].text() == "no-policy-found");
}

TEST_CASE("what somebody sends does not grow without bounds", "[tlsrpt]") {
    Counts counts;
    for (int i = 0; i < 1000; ++i) {
        TlsrptOutcome one = outcome(TlsrptResult::validation_failure);
        one.receiving_host = "mx" + std::to_string(i) + ".example.com";
        one.reason = std::string(10'000, 'x');
        CHECK(add_outcome(counts, "2026-11-22", one));
        one.policy_strings = {std::to_string(i)};
        CHECK(add_outcome(counts, "2026-11-22", one));
    }
    REQUIRE(counts.size() == 1);
    const DomainDay& day = counts.begin()->second;
    CHECK(day.policies.size() == kMaxPolicies);
    CHECK(day.policies[0].failure == 1000);
    CHECK(day.policies[0].details.size() == kMaxDetails);
    CHECK(day.policies[0].details[0].reason.size() == kMaxText);
}

TEST_CASE("counts are on disk within moments, and survive a kill at any time", "[tlsrpt]") {
    World world;
    world.server->count(outcome(TlsrptResult::success));
    CHECK(world.working == 1);
    Loop::current().run_until(sleep_for(TlsrptServer::kCommit + std::chrono::milliseconds(500)));
    CHECK(world.working == 0);
    world.start();
    CHECK(world.book->keys().size() == 1);
    const std::string path = world.scratch.path() + "/other.mdb";
    std::uint64_t seen = 0;
    for (int round = 0; round < 15; ++round) {
        int told[2];
        REQUIRE(::pipe(told) == 0);
        const pid_t child = ::fork();
        if (child == 0) {
            Result<std::unique_ptr<TlsrptBook>> book = TlsrptBook::open(path);
            Counts one;
            add_outcome(one, "2026-11-22", outcome(TlsrptResult::success));
            while (book && (*book)->add(one) && ::write(told[1], "x", 1) == 1) {
            }
            ::_exit(1);
        }
        ::close(told[1]);
        char byte = 0;
        std::uint64_t acknowledged = 0;
        for (int i = 0; i <= round && ::read(told[0], &byte, 1) == 1; ++i) {
            ++acknowledged;
        }
        ::usleep(static_cast<useconds_t>(round * 300));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        while (::read(told[0], &byte, 1) == 1) {
            ++acknowledged;
        }
        ::close(told[0]);
        const Result<std::unique_ptr<TlsrptBook>> book = TlsrptBook::open(path);
        REQUIRE(book);
        const std::uint64_t success = (*book)->counts_of({"2026-11-22", "example.com"}).policies.at(0).success;
        CHECK(success >= seen + acknowledged);
        CHECK(success <= seen + acknowledged + 1);
        seen = success;
    }
}

TEST_CASE("a report is mail that its reader can take apart", "[tlsrpt]") {
    World world;
    world.server->count(outcome(TlsrptResult::certificate_host_mismatch));
    CHECK(world.now() == "report for example.com on 2026-11-22: mailto:tls@example.com has it\n");
    CHECK(world.dns.asked == std::vector<std::string>{"_smtp._tls.example.com"});
    REQUIRE(world.mailer.sent.size() == 1);
    const FakeMailer::Mail& mail = world.mailer.sent[0];
    CHECK(mail.sender == "reports@example.org");
    CHECK(mail.recipient == "tls@example.com");
    for (const char* part : {"From: reports@example.org\n", "To: tls@example.com\n", "TLS-Report-Domain: example.com\n",
                             "TLS-Report-Submitter: example.org\n", "TLS-Required: No\n",
                             "Subject: Report Domain: example.com\n Submitter: example.org\n Report-ID: <2026-11-22.example.com@mail.example.org>\n",
                             "Content-Type: multipart/report; report-type=\"tlsrpt\";\n boundary=\"",
                             "Content-Type: application/tlsrpt+gzip\nContent-Transfer-Encoding: base64\n",
                             " filename=\"example.org!example.com!1795305600!1795391999.json.gz\"\n"}) {
        CAPTURE(part);
        CHECK(mail.content.find(part) != std::string::npos);
    }
    const std::size_t begin = mail.content.find("\n\n", mail.content.find("tlsrpt+gzip")) + 2;
    std::string text = mail.content.substr(begin, mail.content.find("\n--", begin) - begin);
    std::erase(text, '\n');
    const auto compressed = base64_decode(text);
    REQUIRE(compressed);
    const std::string json = gunzip(*compressed);
    CHECK(test::JsonReader(json).value()["report-id"].text() == "2026-11-22.example.com@mail.example.org");
}

TEST_CASE("a day's report goes out once, some time after midnight", "[tlsrpt]") {
    World world;
    world.server->count(outcome(TlsrptResult::success));
    world.server->write_rest();
    world.due();
    now_is = day_begin("2026-11-22") + 86'399;
    world.due();
    CHECK(world.mailer.sent.empty());
    std::int64_t at = 0;
    for (; at <= TlsrptServer::kSpread && world.mailer.sent.empty(); at += 60) {
        now_is = day_begin("2026-11-23") + at;
        world.due();
    }
    CHECK(world.mailer.sent.size() == 1);
    world.start();
    now_is += 86'400;
    world.due();
    CHECK(world.mailer.sent.size() == 1);
    now_is += 86'400 * TlsrptServer::kKeepDays;
    world.due();
    CHECK(world.book->keys().empty());
}

TEST_CASE("master's wake-up sends what is due", "[tlsrpt]") {
    World world;
    world.server->count(outcome(TlsrptResult::success));
    world.server->write_rest();
    now_is += 2 * 86'400;
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    UniqueFd ours(ends[1]);
    REQUIRE(::write(ours.get(), kTriggerFrame, sizeof kTriggerFrame) == sizeof kTriggerFrame);
    spawn(world.server->serve(UniqueFd(ends[0])));
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(200)));
    CHECK(world.mailer.sent.size() == 1);
    ours = UniqueFd();
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(20)));
}

TEST_CASE("what failed is tried again each hour, and only there", "[tlsrpt]") {
    World world;
    world.dns.texts = {"v=TLSRPTv1; rua=mailto:tls@example.com,https://r.example.com/tls"};
    world.web.status = 503;
    world.server->count(outcome(TlsrptResult::success));
    world.server->write_rest();
    now_is += 86'400;
    world.due();
    CHECK(world.mailer.sent.size() == 1);
    REQUIRE(world.web.asked.size() == 1);
    CHECK(world.web.asked[0].post);
    CHECK(world.web.asked[0].url == "https://r.example.com/tls");
    CHECK(world.web.asked[0].content_type == "application/tlsrpt+gzip");
    CHECK(gunzip(world.web.asked[0].body).substr(0, 20) == "{\"organization-name\"");
    world.due();
    CHECK(world.web.asked.size() == 1);
    now_is += TlsrptServer::kRetry;
    world.web.status = 200;
    world.due();
    CHECK(world.web.asked.size() == 2);
    now_is += TlsrptServer::kRetry;
    world.due();
    CHECK(world.web.asked.size() == 2);
    CHECK(world.mailer.sent.size() == 1);
}

TEST_CASE("after a day of failures a report is given up", "[tlsrpt]") {
    World world;
    SECTION("no name service") { world.dns.broken = true; }
    SECTION("no queue") { world.mailer.broken = true; }
    world.server->count(outcome(TlsrptResult::success));
    world.server->write_rest();
    now_is += 86'400;
    for (int hour = 0; hour < 30; ++hour) {
        world.due();
        now_is += TlsrptServer::kRetry;
    }
    const ReportState state = world.book->state({"2026-11-22", "example.com"});
    CHECK(state.done);
    CHECK(state.attempts == TlsrptServer::kAttempts);
    CHECK_FALSE(state.note.empty());
}

TEST_CASE("a domain that wants no report gets none", "[tlsrpt]") {
    World world;
    world.dns.texts = {"v=spf1 -all"};
    world.server->count(outcome(TlsrptResult::success));
    world.server->write_rest();
    now_is += 86'400;
    world.due();
    world.due();
    CHECK(world.dns.asked.size() == 1);
    CHECK(world.mailer.sent.empty());
    CHECK(world.server->show({}) == "2026-11-22 example.com sts: 1 good, 0 failed\n    reported: nobody wants it\n");
}

TEST_CASE("sealed entries are known by version and checksum", "[tlsrpt]") {
    TlsrptText text;
    text.text = "hello";
    const std::string bytes = seal(3, text);
    CHECK(unseal<TlsrptText>(3, bytes)->text == "hello");
    CHECK_FALSE(unseal<TlsrptText>(4, bytes));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        std::string flipped = bytes;
        flipped[i] = static_cast<char>(flipped[i] ^ 0x40);
        CHECK_FALSE(unseal<TlsrptText>(3, flipped));
        CHECK_FALSE(unseal<TlsrptText>(3, bytes.substr(0, i)));
    }
}
