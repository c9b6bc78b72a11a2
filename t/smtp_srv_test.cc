// Hosts that are found by SRV records: use_srv_lookup and its two fallbacks.
#include <catch2/catch.hpp>

#include <map>

#include "smtp/srv.h"
#include "t/smtp_dialogue.h"

using namespace postern;
using namespace postern::smtp;

namespace {

DnsAnswer::Record srv(std::uint16_t priority, std::uint16_t weight, const std::string& host, std::uint16_t port = 587) {
    return {host, priority, weight, port};
}

constexpr const char* kName = "_submission._tcp.there.example";

struct World {
    explicit World(const std::string& settings = "", Protocol protocol = Protocol::smtp)
        : mail("use_srv_lookup = submission, submissions, lmtp\n" + settings, protocol) {}

    void add(const std::string& name, const DnsAnswer::Record& record) {
        mail.names->answers[{name, DnsType::srv}].records.push_back(record);
        mail.names->add(record.text, DnsType::a, "192.0.2." + std::to_string(++hosts));
    }
    /// "a.example[192.0.2.1]:587 ...", or the failure.
    std::string find(const std::string& next_hop) {
        const Result<NextHop> hop = parse_next_hop(next_hop, mail.client().settings(), mail.client().services());
        const HostList list = Loop::current().run_until(mail.client().hosts().find(*hop));
        std::string out;
        for (const HostAddress& one : list.addresses) {
            out += (out.empty() ? "" : " ") + one.with_port();
        }
        return list.addresses.empty() ? list.failure.dsn + " " + list.failure.text : out;
    }

    DeliveryDialogue mail;
    int hosts = 0;
};

}  // namespace

TEST_CASE("hosts and ports are those of the SRV records, best priority first", "[srv]") {
    World world;
    world.add(kName, srv(20, 0, "b.example", 2587));
    world.add(kName, srv(10, 0, "a.example"));
    CHECK(world.find("there.example:submission") == "a.example[192.0.2.2]:587 b.example[192.0.2.1]:2587");
}

TEST_CASE("brackets, numbers and services that are not listed know no SRV records", "[srv]") {
    World world;
    world.add(kName, srv(10, 0, "a.example", 2587));
    world.mail.names->add("there.example", DnsType::a, "192.0.2.9");
    CHECK(world.find("[there.example]:submission") == "there.example[192.0.2.9]:587");
    CHECK(world.find("there.example:587") == "there.example[192.0.2.9]:587");
    CHECK(world.find("there.example") == "there.example[192.0.2.9]:25");
    CHECK(world.find("there.example:submissions") == "5.4.4 Host or domain name not found. Name service error for name=_submissions._tcp.there.example "
                                                     "type=SRV: Host not found");
    World off("smtp_dns_support_level = disabled\n");
    off.add(kName, srv(10, 0, "a.example", 2587));
    off.mail.names->add("there.example", DnsType::a, "192.0.2.9");
    CHECK(off.find("there.example:submission") == "there.example[192.0.2.9]:587");
}

TEST_CASE("what SRV records do not say, MX records may when that is allowed", "[srv]") {
    const std::string allow = "allow_srv_lookup_fallback = yes\n", ignore = "ignore_srv_lookup_error = yes\n";
    const auto find = [](const std::string& settings, bool broken, const std::string& target = "") {
        World world(settings);
        world.mail.names->add("there.example", DnsType::mx, "mx.example");
        world.mail.names->add("mx.example", DnsType::a, "192.0.2.9");
        if (broken) {
            world.mail.names->broken = {{kName, Errc::temporary}};
        }
        if (!target.empty()) {
            world.mail.names->answers[{kName, DnsType::srv}].records.push_back(srv(1, 1, target == "." ? "" : target));
        }
        return world.find("there.example:submission");
    };
    const std::string by_mx = "mx.example[192.0.2.9]:587";
    CHECK(find("", true).substr(0, 6) == "4.4.3 ");
    CHECK(find(ignore, true) == by_mx);
    CHECK(find(allow, true) == by_mx);
    CHECK(find("", false).substr(0, 6) == "5.4.4 ");
    CHECK(find(ignore, false).substr(0, 6) == "5.4.4 ");
    CHECK(find(allow, false) == by_mx);
    CHECK(find("", false, ".") == "5.1.0 Domain _submission._tcp.there.example does not support SRV requests");
    CHECK(find(ignore, false, ".").substr(0, 6) == "5.1.0 ");
    CHECK(find(allow, false, "nowhere.example") == by_mx);
    CHECK(find("", false, "nowhere.example").substr(0, 6) == "5.4.4 ");
}

TEST_CASE("LMTP servers are found so too, and without MX otherwise", "[srv]") {
    World world("allow_srv_lookup_fallback = yes\nlmtp_tcp_port = lmtp\n", Protocol::lmtp);
    world.add("_lmtp._tcp.box.example", srv(1, 1, "a.example", 2424));
    world.mail.names->add("there.example", DnsType::mx, "mx.example");
    world.mail.names->add("there.example", DnsType::a, "192.0.2.9");
    CHECK(world.find("inet:box.example") == "a.example[192.0.2.1]:2424");
    CHECK(world.find("inet:there.example") == "there.example[192.0.2.9]:24");
}

TEST_CASE("this host among the SRV hosts ends the list", "[srv]") {
    World world("use_srv_lookup = smtp\n");
    world.mail.names->answers[{"_smtp._tcp.there.example", DnsType::srv}].records = {srv(20, 0, "us.example", 25), srv(10, 0, "a.example", 25)};
    world.mail.names->add("us.example", DnsType::a, "192.0.2.99");
    CHECK(world.find("there.example") == "4.4.4 unable to find primary relay for _smtp._tcp.there.example");
    world.mail.names->add("a.example", DnsType::a, "192.0.2.1");
    CHECK(world.find("there.example") == "a.example[192.0.2.1]:25");
}

TEST_CASE("weights are chances", "[srv]") {
    std::mt19937 random(1);
    std::map<std::string, int> first;
    constexpr int kRounds = 10000;
    for (int i = 0; i < kRounds; ++i) {
        std::vector<DnsAnswer::Record> records{srv(5, 10, "tenth"), srv(9, 65535, "later"), srv(5, 30, "third"), srv(5, 60, "most"), srv(5, 0, "never")};
        order_srv(records, random);
        ++first[records.front().text];
        REQUIRE(records.back().text == "later");
    }
    CHECK(first["most"] == Approx(6000).margin(300));
    CHECK(first["third"] == Approx(3000).margin(300));
    CHECK(first["tenth"] == Approx(1000).margin(200));
    CHECK(first["never"] < 250);
    CHECK(first["never"] > 0);
    std::vector<DnsAnswer::Record> zeros{srv(1, 0, "a"), srv(1, 0, "b")};
    int swapped = 0;
    for (int i = 0; i < 1000; ++i) {
        order_srv(zeros, random);
        swapped += zeros.front().text == "b" ? 1 : 0;
    }
    CHECK(swapped > 300);
    CHECK(swapped < 700);
    std::vector<DnsAnswer::Record> none;
    order_srv(none, random);
    CHECK(none.empty());
}
