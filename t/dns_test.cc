// lib/dns against a server of the test's own on loopback: every kind of record and of answer, and a client's name.
#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "lib/dns/reply_filter.h"
#include "lib/dns/resolv_conf.h"
#include "lib/dns/search.h"
#include "lib/dns/tlsa.h"
#include "t/dns_server.h"

using namespace postern;
using namespace postern::dns_test;

TEST_CASE("each kind of record comes back as text", "[dns]") {
    Resolver resolver;
    CHECK(resolver.texts("two.example", DnsType::a) == "192.0.2.1, 192.0.2.2");
    CHECK(resolver.texts("two.example", DnsType::aaaa) == "2001:db8::1");
    CHECK(resolver.texts("two.example", DnsType::mx) == "10 a.example, 20 b.example");
    CHECK(resolver.texts("two.example", DnsType::ns) == "ns.example");
    CHECK(resolver.texts("two.example", DnsType::txt) == "first second");
    CHECK(resolver.texts("nullmx.example", DnsType::mx) == "0 ");
    CHECK(resolver.texts("alias.example", DnsType::a) == "192.0.2.1, 192.0.2.2");
    CHECK(resolver.texts("alias.example", DnsType::mx) == "10 a.example, 20 b.example");
    CHECK(resolver.ask("alias.example", DnsType::a)->canonical == "two.example");
    CHECK(resolver.ask("two.example", DnsType::a)->canonical.empty());
    CHECK(resolver.ask("two.example", DnsType::a)->ttl == 60);
    const Result<DnsAnswer> service = resolver.ask("_submission._tcp.two.example", DnsType::srv);
    REQUIRE(service);
    REQUIRE(service->records.size() == 1);
    CHECK(service->records[0].text == "a.example");
    CHECK(service->records[0].preference == 7);
    CHECK(service->records[0].weight == 30);
    CHECK(service->records[0].port == 587);
    const Result<DnsAnswer> answer = resolver.ask(tlsa_name("two.example", 25), DnsType::tlsa);
    REQUIRE(answer);
    REQUIRE(answer->records.size() == 1);
    CHECK_FALSE(answer->secure);
    const Result<TlsaRecord> record = parse_tlsa(answer->records[0].text);
    REQUIRE(record);
    CHECK(record->text() == "3 1 1 ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB");
}

TEST_CASE("the hosts file comes first, last or not at all", "[dns]") {
    char name[] = "/tmp/postern-hosts-XXXXXX";
    const UniqueFd file(::mkstemp(name));
    const std::string_view text = "192.0.2.77 two.example Only.Example # mail\n2001:db8::77 only.example\n";
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    {
        Resolver resolver(HostsUse::first, name);
        CHECK(resolver.texts("two.example", DnsType::a) == "192.0.2.77");
        CHECK(resolver.texts("ONLY.example", DnsType::aaaa) == "2001:db8::77");
        CHECK(resolver.texts("two.example", DnsType::mx) == "10 a.example, 20 b.example");
        CHECK(resolver.texts("77.2.0.192.in-addr.arpa", DnsType::ptr) == "two.example");
    }
    {
        Resolver resolver(HostsUse::last, name);
        CHECK(resolver.texts("two.example", DnsType::a) == "192.0.2.1, 192.0.2.2");
        CHECK(resolver.texts("only.example", DnsType::a) == "192.0.2.77");
    }
    {
        Resolver resolver(HostsUse::never, name);
        CHECK(resolver.texts("two.example", DnsType::a) == "192.0.2.1, 192.0.2.2");
        CHECK(resolver.ask("only.example", DnsType::a)->records.empty());
    }
    ::unlink(name);
}

TEST_CASE("a name that does not exist and a name without such records are answers, not errors", "[dns]") {
    Resolver resolver;
    const Result<DnsAnswer> absent = resolver.ask("no.such.example", DnsType::a);
    REQUIRE(absent);
    CHECK(absent->nxdomain);
    CHECK(absent->records.empty());
    const Result<DnsAnswer> other = resolver.ask("good.example", DnsType::mx);
    REQUIRE(other);
    CHECK_FALSE(other->nxdomain);
    CHECK(other->records.empty());
}

TEST_CASE("a name in UTF-8 is asked for in its xn-- form", "[dns]") {
    Resolver resolver;
    CHECK(resolver.texts("b\u00fccher.example", DnsType::a) == "192.0.2.30");
    CHECK(resolver.texts("B\u00dcCHER.example", DnsType::a) == "192.0.2.30");
    CHECK(resolver.ask("b\xfc" "cher.example", DnsType::a)->records.empty());   // not UTF-8
}

TEST_CASE("a server that fails, refuses or is silent is an error that may pass", "[dns]") {
    Resolver resolver;
    for (const char* name : {"fails.example", "refused.example"}) {
        CAPTURE(name);
        const Result<DnsAnswer> answer = resolver.ask(name, DnsType::a);
        REQUIRE_FALSE(answer);
        CHECK((answer.error().code == Errc::temporary || answer.error().code == Errc::timeout));
    }
    bool patient_is_done = false;
    spawn(ask_and_note(*resolver.dns, "silent.example", DnsType::aaaa, Millis(1500), patient_is_done));
    const Result<DnsAnswer> silent = resolver.ask("silent.example", DnsType::a, Millis(300));
    REQUIRE_FALSE(silent);
    CHECK(silent.error().code == Errc::timeout);
    CHECK_FALSE(patient_is_done);
    wait_for(patient_is_done);
    CHECK(resolver.texts("two.example", DnsType::a) == "192.0.2.1, 192.0.2.2");   // others are not held up
}

TEST_CASE("a client's name is its PTR name when that resolves back", "[dns]") {
    Resolver resolver;
    const HostName good = resolver.host("192.0.2.11");
    CHECK(good.verified == "good.example");
    CHECK(good.reverse == "good.example");
    CHECK_FALSE(good.forged);
    const HostName six = resolver.host("2001:db8::7");
    CHECK(six.verified == "six.example");
}

TEST_CASE("a PTR name that does not resolve back is known, but not believed", "[dns]") {
    Resolver resolver;
    const HostName other = resolver.host("192.0.2.12");
    CHECK(other.verified == "unknown");
    CHECK(other.reverse == "good.example");
    CHECK(other.forged);
    CHECK(other.problem.empty());
    CHECK_FALSE(other.temporary);
    const HostName absent = resolver.host("192.0.2.13");
    CHECK(absent.reverse == "no.such.example");
    CHECK(absent.forged);
    CHECK(absent.problem == "Name or service not known");
}

TEST_CASE("a client without a name and a client whose name cannot be looked up now differ", "[dns]") {
    Resolver resolver;
    const HostName none = resolver.host("192.0.2.200");
    CHECK(none.reverse == "unknown");
    CHECK_FALSE(none.temporary);
    const HostName reverse_fails = resolver.host("192.0.2.16");
    CHECK(reverse_fails.reverse == "unknown");
    CHECK(reverse_fails.temporary);
    const HostName forward_fails = resolver.host("192.0.2.14");
    CHECK(forward_fails.verified == "unknown");
    CHECK(forward_fails.reverse == "fails.example");
    CHECK(forward_fails.temporary);
    CHECK(resolver.host("not an address").reverse == "unknown");
}

TEST_CASE("a PTR name that is no host name gets nowhere", "[dns]") {
    Resolver resolver;
    const HostName evil = resolver.host("192.0.2.15");
    CHECK(evil.reverse == "unknown");
    CHECK(evil.verified == "unknown");
}

TEST_CASE("addresses become names under in-addr.arpa and ip6.arpa", "[dns]") {
    CHECK(reverse_name("192.0.2.1") == "1.2.0.192.in-addr.arpa");
    CHECK(reverse_name("2001:db8::1") == "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    CHECK(reversed_labels("192.0.2.1") == "1.2.0.192");
    CHECK(reverse_name("example.org").empty());
    CHECK(reverse_name("").empty());
}

TEST_CASE("a server that is no address is refused", "[dns]") {
    CHECK_FALSE(Dns::create({"dns.example", {}, HostsUse::first, "/etc/hosts"}));
}

namespace {

std::string texts_of(Dns& dns, const std::string& name, DnsType type) {
    const Result<DnsAnswer> answer = Loop::current().run_until(dns.query(name, type, std::chrono::seconds(10)));
    if (!answer) {
        return "error: " + answer.error().what;
    }
    std::vector<std::string> texts;
    for (const DnsAnswer::Record& record : answer->records) {
        texts.push_back(record.text);
    }
    std::sort(texts.begin(), texts.end());
    std::string out = answer->filtered ? "all filtered" : answer->nxdomain ? "does not exist" : "";
    for (const std::string& text : texts) {
        out += (out.empty() ? "" : " ") + text;
    }
    return out;
}

std::string filtered(const std::string& table, const std::string& name, DnsType type, HostsUse hosts = HostsUse::never, const std::string& hosts_file = "") {
    Resolver resolver(hosts, hosts_file);
    Result<std::unique_ptr<Dns>> dns = with_reply_filter(*resolver.dns, "smtp_dns_reply_filter", table, TableContext{});
    REQUIRE(dns);
    return texts_of(**dns, name, type);
}

}  // namespace

TEST_CASE("a filter is asked for each record as zone files have it", "[dns]") {
    DnsAnswer answer;
    answer.ttl = 300;
    const auto key = [&](DnsType type, const DnsAnswer::Record& record) { return filter_key("a.example", type, answer, record); };
    CHECK(key(DnsType::a, {"192.0.2.1"}) == "a.example. 300 IN A 192.0.2.1");
    CHECK(key(DnsType::aaaa, {"2001:db8::1"}) == "a.example. 300 IN AAAA 2001:db8::1");
    CHECK(key(DnsType::mx, {"mx.example", 10}) == "a.example. 300 IN MX 10 mx.example.");
    CHECK(key(DnsType::ns, {"ns.example"}) == "a.example. 300 IN NS ns.example.");
    CHECK(key(DnsType::srv, {"mx.example", 10, 20, 587}) == "a.example. 300 IN SRV 10 20 587 mx.example.");
    CHECK(key(DnsType::txt, {"two\nlines"}) == "a.example. 300 IN TXT two?lines");
    CHECK(key(DnsType::tlsa, {std::string("\3\1\1\xab\xcd")}) == "a.example. 300 IN TLSA 3 1 1 ABCD");
    answer.canonical = "b.example";
    CHECK(key(DnsType::a, {"192.0.2.1"}) == "b.example. 300 IN A 192.0.2.1");
}

TEST_CASE("a filter takes records out of answers", "[dns]") {
    CHECK(filtered("", "two.example", DnsType::a) == "192.0.2.1 192.0.2.2");
    CHECK(filtered("regexp:{{/^two\\.example\\. [0-9]+ in a 192\\.0\\.2\\.1$/ ignore}}", "two.example", DnsType::a) == "192.0.2.2");
    CHECK(filtered("regexp:{{/ IN MX 10 / IGNORE with words}}", "two.example", DnsType::mx) == "b.example");
    CHECK(filtered("regexp:{{/ IN MX / IGNORE}}", "two.example", DnsType::mx) == "all filtered");
    CHECK(filtered("regexp:{{/ IN MX / IGNORE}}", "two.example", DnsType::a) == "192.0.2.1 192.0.2.2");
    CHECK(filtered("regexp:{{/./ IGNORE}}", "no.example", DnsType::a) == "does not exist");
    CHECK(filtered("regexp:{{/ IN A / REJECT}}", "two.example", DnsType::a) == "error: Error looking up name=two.example type=A: Invalid DNS reply filter syntax");
    CHECK(filtered("fail:{}", "two.example", DnsType::a) == "error: Error looking up name=two.example type=A: Invalid DNS reply filter syntax");
    Resolver resolver;
    CHECK_FALSE(with_reply_filter(*resolver.dns, "smtp_dns_reply_filter", "nonsense:x", TableContext{}));
}

TEST_CASE("a filter does not look at the hosts file", "[dns]") {
    char name[] = "/tmp/postern-hosts-XXXXXX";
    const UniqueFd file(::mkstemp(name));
    const std::string_view text = "192.0.2.77 two.example\n";
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    CHECK(filtered("regexp:{{/./ IGNORE}}", "two.example", DnsType::a, HostsUse::first, name) == "192.0.2.77");
    ::unlink(name);
}

TEST_CASE("resolv.conf says how long to wait and where to search", "[dns]") {
    const ResolvConf none = parse_resolv_conf("");
    CHECK(none.servers == 0);
    CHECK(none.patience() == std::chrono::seconds(10));
    CHECK(none.search.empty());
    CHECK(parse_resolv_conf("", "own.example").search == std::vector<std::string>{"own.example"});
    const ResolvConf conf = parse_resolv_conf("# nameserver 192.0.2.9\nnameserver 192.0.2.1\n; options timeout:9\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
                                              "nameserver 192.0.2.4\ndomain a.example b.example\noptions timeout:3 attempts:2 ndots:2 rotate\noptions edns0\n");
    CHECK(conf.servers == 3);
    CHECK(conf.timeout == 3);
    CHECK(conf.attempts == 2);
    CHECK(conf.ndots == 2);
    CHECK(conf.search == std::vector<std::string>{"a.example"});
    CHECK(conf.patience() == std::chrono::seconds(2 * (3 + 2 + 4)));   // 3 s, then 6 / 3, then 12 / 3
    const ResolvConf last = parse_resolv_conf("domain a.example\nsearch b.example. c.example\noptions timeout:99 attempts:0 ndots:99 timeout: attempts:x\nsearch\n");
    CHECK(last.search == std::vector<std::string>{"b.example", "c.example"});
    CHECK(last.timeout == 30);
    CHECK(last.attempts == 1);
    CHECK(last.ndots == 15);
    CHECK(parse_resolv_conf("nameserver 192.0.2.1\noptions timeout:1 attempts:1\n").patience() == std::chrono::seconds(1));
}

TEST_CASE("short names are completed as the options say", "[dns]") {
    const ResolvConf conf = parse_resolv_conf("search one.example two.example\n");
    const auto names = [&](const char* options, const std::string& name) { return candidates(name, *SearchRules::parse(options), conf); };
    using Names = std::vector<std::string>;
    CHECK(names("", "host") == Names{"host"});
    CHECK(names("res_defnames", "host") == Names{"host.one.example", "host"});
    CHECK(names("res_defnames", "host.sub") == Names{"host.sub"});
    CHECK(names("res_dnsrch", "host") == Names{"host"});
    CHECK(names("res_dnsrch", "host.sub") == Names{"host.sub", "host.sub.one.example", "host.sub.two.example"});
    CHECK(names("res_defnames, res_dnsrch", "host") == Names{"host.one.example", "host.two.example", "host"});
    CHECK(names("res_defnames res_dnsrch", "host.") == Names{"host."});
    CHECK_FALSE(SearchRules::parse("RES_DNSRCH"));
    const ResolvConf dots = parse_resolv_conf("search one.example .\noptions ndots:2\n");
    CHECK(candidates("host.sub", *SearchRules::parse("res_dnsrch"), dots) == Names{"host.sub.one.example", "host.sub"});
}

TEST_CASE("a search ends with the first name that has the record", "[dns]") {
    Resolver resolver(HostsUse::never);
    const std::unique_ptr<Dns> dns = with_search(*resolver.dns, *SearchRules::parse("res_defnames res_dnsrch"), parse_resolv_conf("search none.example corp.example\n"));
    CHECK(texts_of(*dns, "short", DnsType::a) == "192.0.2.30");
    CHECK(texts_of(*dns, "deep.sub", DnsType::a) == "192.0.2.31");
    CHECK(texts_of(*dns, "two.example", DnsType::a) == "192.0.2.1 192.0.2.2");
    CHECK(texts_of(*dns, "missing", DnsType::a) == "does not exist");
    CHECK(texts_of(*dns, "empty", DnsType::a).empty());
    const Result<DnsAnswer> answer = Loop::current().run_until(dns->query("short", DnsType::a, std::chrono::seconds(10)));
    REQUIRE(answer);
    CHECK(answer->canonical == "short.corp.example");
}

namespace {

/// By a resolv.conf with a name server that hears and says nothing, if there is one at all.
std::unique_ptr<Dns> asking_the_deaf(const std::string& times) {
    char name[] = "/tmp/postern-resolv-XXXXXX";
    const UniqueFd file(::mkstemp(name));
    const std::string text = "nameserver 127.0.0.253\noptions " + times + "\n";
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    DnsOptions options;
    options.resolv_conf = name;
    options.hosts = HostsUse::never;
    Result<std::unique_ptr<Dns>> dns = Dns::create(options);
    ::unlink(name);
    REQUIRE(dns);
    return std::move(*dns);
}

}  // namespace

TEST_CASE("name servers that are all silent cost what resolv.conf says", "[dns]") {
    const UniqueFd deaf(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(53);
    ::inet_pton(AF_INET, "127.0.0.253", &where.sin_addr);
    const bool bound = ::bind(deaf.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0;   // with rights: hears, and says nothing
    const std::unique_ptr<Dns> hasty = asking_the_deaf("timeout:1 attempts:1");
    const std::unique_ptr<Dns> patient = asking_the_deaf("timeout:4 attempts:1");
    const auto start = std::chrono::steady_clock::now();
    bool patient_is_done = false;
    spawn(ask_and_note(*patient, "a.example", DnsType::a, std::chrono::seconds(60), patient_is_done));
    const Result<DnsAnswer> answer = Loop::current().run_until(hasty->query("a.example", DnsType::a, std::chrono::seconds(60)));
    const auto took = std::chrono::steady_clock::now() - start;
    REQUIRE_FALSE(answer);
    CHECK((!bound || !patient_is_done));
    wait_for(patient_is_done);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(40));   // of sixty
    if (bound) {
        CHECK(answer.error().code == Errc::timeout);
        CHECK(took >= std::chrono::milliseconds(900));
        CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(3900));
    }
}
