// MTA-STS: the grammar of RFC 8461 sections 3.1 and 3.2, rule by rule, and the matching of section 4.1.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "lib/ipc/channel.h"
#include "lib/mta_sts/client.h"
#include "lib/mta_sts/policy.h"

using namespace postern;

namespace {

const std::string kPolicy = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n";

std::string id_of(std::string_view record) { return parse_sts_record(record).value_or("-"); }

std::string problem_of(std::string_view policy) {
    const Result<StsPolicy> parsed = parse_sts_policy(policy);
    return parsed ? "" : parsed.error().what;
}

/// The policy with one line put in place of another.
std::string with(std::string_view line, std::string_view instead) {
    std::string text = kPolicy;
    const std::size_t at = text.find(line);
    REQUIRE(at != std::string::npos);
    return text.replace(at, line.size(), instead);
}

}  // namespace

TEST_CASE("a TXT record gives its id", "[mta-sts]") {
    CHECK(id_of("v=STSv1; id=20160831085700Z;") == "20160831085700Z");
    CHECK(id_of("v=STSv1;id=1") == "1");
    CHECK(id_of("v=STSv1 \t;\t id=1 ; ") == "1");
    CHECK(id_of("v=STSv1; x=y; id=1") == "1");
    CHECK(id_of("v=STSv1; a_b-c.d=(!\"/:<>~); id=1;") == "1");
    CHECK(id_of("v=STSv1; id=first; id=second") == "first");
    CHECK(id_of("v=STSv1; id=" + std::string(32, 'a')) == std::string(32, 'a'));
}

TEST_CASE("a TXT record that breaks the grammar is none", "[mta-sts]") {
    for (const char* bad : {"", "v=STSv1", "v=STSv1;", "v=STSv1; ;id=1", "v=stsv1; id=1", "V=STSv1; id=1", " v=STSv1; id=1", "v=STSv2; id=1",
                            "v=STSv1 id=1", "v=STSv1; id=", "v=STSv1; id=a-b", "v=STSv1; id=a b", "v=STSv1; id = a", "v=STSv1; id",
                            "v=STSv1; =1; id=1", "v=STSv1; _x=1; id=1", "v=STSv1; x=; id=1", "v=STSv1; x=a=b; id=1", "v=STSv1; x=\x01; id=1",
                            "v=STSv1; x=\xc3\xa4; id=1", "v=STSv1; ID=1", "id=1; v=STSv1"}) {
        CAPTURE(bad);
        CHECK(id_of(bad) == "-");
    }
    CHECK(id_of("v=STSv1; id=" + std::string(33, 'a')) == "-");
    CHECK(id_of("v=STSv1; " + std::string(33, 'a') + "=1; id=1") == "-");
    CHECK(id_of("v=STSv1; id=1; x=" + std::string(5000, 'a')) == "-");
}

TEST_CASE("of all TXT records exactly one may be the domain's", "[mta-sts]") {
    const auto find = [](std::vector<std::string> records) { return find_sts_id(records).value_or("-"); };
    CHECK(find({}) == "-");
    CHECK(find({"v=spf1 -all", "v=STSv1; id=1", "v=STSv10; id=2"}) == "1");
    CHECK(find({"v=STSv1; id=1", "v=STSv1; id=1"}) == "-");
    CHECK(find({"v=STSv1; id=1", "v=STSv1; broken"}) == "-");
    CHECK(find({"v=STSv1; broken"}) == "-");
    CHECK(find({"v=STSv1", "v=STSv1; id=2"}) == "2");   // the first has no ";" and so is another protocol's
}

TEST_CASE("a policy file is read with either line end", "[mta-sts]") {
    for (const bool crlf : {false, true}) {
        std::string text;
        for (const char c : kPolicy) {
            text += c == '\n' && crlf ? "\r\n" : std::string(1, c);
        }
        const Result<StsPolicy> policy = parse_sts_policy(text);
        REQUIRE(policy);
        CHECK(policy->mode == StsMode::enforce);
        CHECK(policy->max_age == 604800);
        CHECK(policy->mx == std::vector<std::string>{"mail.example.com", "*.example.net"});
        CHECK(policy->lines == std::vector<std::string>{"version: STSv1", "mode: enforce", "mx: mail.example.com", "mx: *.example.net",
                                                        "max_age: 604800"});
    }
}

TEST_CASE("fields may come in any order, unknown ones and later duplicates are passed over", "[mta-sts]") {
    const Result<StsPolicy> policy = parse_sts_policy("max_age:0\nfuture-field: some thing; \xc3\xa4 = 1\nmx:\tMail.Example.COM  \nmode: testing\nmode: bogus\n"
                                                      "max_age: 99999999999\nversion: STSv1\nversion: STSv2\n\r\n");
    REQUIRE(policy);
    CHECK(policy->mode == StsMode::testing);
    CHECK(policy->max_age == 0);
    CHECK(policy->mx == std::vector<std::string>{"mail.example.com"});
    CHECK(parse_sts_policy("version: STSv1\nmode: none\nmax_age: 60"));   // no mx, no end of line
    CHECK(parse_sts_policy(with("enforce", "Enforce")));
}

TEST_CASE("a policy that misses something or says nonsense is refused", "[mta-sts]") {
    CHECK(problem_of("") == "no version");
    CHECK(problem_of(with("version: STSv1\n", "")) == "no version");
    CHECK(problem_of(with("mode: enforce\n", "")) == "no mode");
    CHECK(problem_of(with("max_age: 604800\n", "")) == "no max_age");
    CHECK(problem_of("version: STSv1\nmode: testing\nmax_age: 1\n") == "no mx");
    CHECK(problem_of(with("STSv1", "STSv2")) == "bad version \"STSv2\"");
    CHECK(problem_of(with("STSv1", "stsv1")) == "bad version \"stsv1\"");
    CHECK(problem_of(with("version", "Version")) == "no version");
    CHECK(problem_of(with("enforce", "reject")) == "bad mode \"reject\"");
    for (const char* age : {"", "-1", "1.5", "1w", "00000000001"}) {
        CAPTURE(age);
        CHECK_FALSE(problem_of(with("604800", age)).empty());
    }
    CHECK(parse_sts_policy(with("604800", "31557600"))->max_age == kMaxStsAge);
    CHECK(parse_sts_policy(with("604800", "31557601"))->max_age == kMaxStsAge);   // more than there may be is as much as there may be
    CHECK(parse_sts_policy(with("604800", "9999999999"))->max_age == kMaxStsAge);
    for (const char* mx : {"*", "*.", "a.*.example", "*mail.example", "-x.example", "a b", "mail.example.com,b.example", "**.example"}) {
        CAPTURE(mx);
        CHECK_FALSE(problem_of(with("mail.example.com", mx)).empty());
    }
    for (const char* line : {"nonsense", ": x", "_x: 1", "x y: 1", "x:", "x: \x01", "-x: 1"}) {
        CAPTURE(line);
        CHECK_FALSE(problem_of(kPolicy + line + "\n").empty());
    }
    CHECK(problem_of(kPolicy + std::string(33, 'x') + ": 1\n") != "");
    CHECK(problem_of(kPolicy + "x: " + std::string(kMaxStsPolicy, 'x')) == "the policy is too long");
    std::string many = kPolicy;
    for (std::size_t i = 0; i < kMaxStsPatterns; ++i) {
        many += "mx: a.example\n";
    }
    CHECK(problem_of(many) == "bad mx \"a.example\"");
}

TEST_CASE("every prefix of a policy is read without harm", "[mta-sts]") {
    for (std::size_t size = 0; size < kPolicy.size() - 7; ++size) {
        CAPTURE(size);
        CHECK_FALSE(parse_sts_policy(kPolicy.substr(0, size)));
    }
}

TEST_CASE("a pattern's star is one label", "[mta-sts]") {
    CHECK(sts_pattern_matches("mail.example.com", "MAIL.example.com"));
    CHECK(sts_pattern_matches("mail.example.com", "mail.example.com."));
    CHECK_FALSE(sts_pattern_matches("mail.example.com", "x.mail.example.com"));
    CHECK(sts_pattern_matches("*.example.com", "mail.example.com"));
    CHECK_FALSE(sts_pattern_matches("*.example.com", "example.com"));
    CHECK_FALSE(sts_pattern_matches("*.example.com", "a.b.example.com"));
    CHECK_FALSE(sts_pattern_matches("*.example.com", ".example.com"));
    CHECK_FALSE(sts_pattern_matches("*.example.com", ""));
    CHECK_FALSE(sts_pattern_matches("", ""));
}

namespace {

/// A service that hangs up `losses` times, having read a question, and answers the next one.
class Service {
public:
    /// `mute`: it takes connections, and that is all.
    explicit Service(int losses, bool mute = false) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        std::string name = "/tmp/postern-sts-XXXXXX";
        directory_ = ::mkdtemp(name.data());
        sockaddr_un where{};
        where.sun_family = AF_UNIX;
        path().copy(where.sun_path, sizeof where.sun_path - 1);
        REQUIRE(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
        REQUIRE(::listen(socket_.get(), 5) == 0);
        if (!mute) {
            thread_ = std::thread([this, losses] { run(losses); });
        }
    }
    ~Service() {
        ::shutdown(socket_.get(), SHUT_RDWR);
        if (thread_.joinable()) {
            thread_.join();
        }
        ::unlink(path().c_str());
        ::rmdir(directory_.c_str());
    }
    std::string path() const { return directory_ + "/sts"; }

private:
    void run(int losses) {
        for (;;) {
            const UniqueFd client(::accept(socket_.get(), nullptr, nullptr));
            std::array<char, 1000> question{};
            if (!client || ::read(client.get(), question.data(), question.size()) < 12) {
                return;
            }
            if (losses-- > 0) {
                continue;
            }
            StsAnswer answer;
            answer.id = static_cast<unsigned char>(question[8]);
            answer.found = true;
            std::string payload;
            std::vector<UniqueFd> none;
            Encoder encoder(payload, none);
            fields(encoder, answer);
            std::string frame(8, '\0');
            frame[0] = static_cast<char>(payload.size());
            frame += payload;
            (void)!::write(client.get(), frame.data(), frame.size());
            (void)!::read(client.get(), question.data(), question.size());   // until the client goes
        }
    }

    UniqueFd socket_;
    std::string directory_;
    std::thread thread_;
};

std::optional<StsAnswer> ask(StsClient& client) { return Loop::current().run_until(client.ask("example.com")); }

}  // namespace

TEST_CASE("a service that is not there costs one warning, and no policy", "[mta-sts]") {
    StsClient client("/nonexistent/sts");
    CHECK_FALSE(ask(client));
    CHECK_FALSE(ask(client));
}

TEST_CASE("a service that ended is asked again, once", "[mta-sts]") {
    for (const int losses : {0, 1, 2}) {
        CAPTURE(losses);
        Service service(losses);
        StsClient client(service.path());
        CHECK(ask(client).has_value() == (losses < 2));
    }
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(20)));   // readers of closed connections end
}

TEST_CASE("a service that never answers holds up mail once, not each time", "[mta-sts]") {
    Service service(0, true);
    StsClient client(service.path());
    const auto begin = std::chrono::steady_clock::now();
    CHECK_FALSE(ask(client));
    const auto first = std::chrono::steady_clock::now();
    CHECK(first - begin >= StsClient::kPatience - std::chrono::milliseconds(100));
    CHECK_FALSE(ask(client));
    CHECK(std::chrono::steady_clock::now() - first < StsClient::kPatience / 2);
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(20)));
}
