// What TLSA records, or their absence, make of a policy: smtp/dane.h.
#include <catch2/catch.hpp>

#include "smtp/tls_report.h"
#include "t/smtp_dialogue.h"

using namespace postern;
using namespace postern::smtp;

namespace {

constexpr const char* kDnssec = "smtp_dns_support_level = dnssec\nsmtp_tls_security_level = dane\nsmtp_tls_protocols = >=TLSv1\n"
                                "smtp_tls_mandatory_protocols = >=TLSv1.2\n";

std::string tlsa(std::uint8_t usage, std::uint8_t matching, std::size_t size = 32) {
    return std::string{static_cast<char>(usage), 1, static_cast<char>(matching)} + std::string(size, 'x');
}

HostAddress host(bool secure = true, bool mx_secure = true) {
    HostAddress out{"mx.example", "192.0.2.1", 25, 10};
    out.by_mx = true;
    out.mx_secure = mx_secure;
    out.address_secure = secure;
    return out;
}

struct World {
    explicit World(const std::string& more = "") : dialogue(kDnssec + more) {}

    void add(const std::string& name, const std::string& data, bool secure = true) {
        dialogue.names->add("_25._tcp." + name, DnsType::tlsa, data);
        dialogue.names->answers[{"_25._tcp." + name, DnsType::tlsa}].secure = secure;
    }
    HostPolicy find(const HostAddress& at, const std::string& level = "dane") {
        TlsPolicy policy;
        policy.level = *tls_level_named(level);
        NextHop hop;
        hop.text = hop.domain = "domain.example";
        hop.port = 25;
        return Loop::current().run_until(dialogue.client().dane().find(policy, hop, at));
    }
    /// "dane", or "failure: 4.7.5 text".
    std::string level(const HostAddress& at, const std::string& wanted = "dane") {
        const HostPolicy found = find(at, wanted);
        return found.failure.dsn.empty() ? std::string(tls_level_name(found.policy.level)) : "failure: " + found.failure.dsn + " " + found.failure.text;
    }

    DeliveryDialogue dialogue;
};

}  // namespace

TEST_CASE("records that can be used make DANE, with SNI and names", "[dane]") {
    World world;
    world.add("mx.example", tlsa(3, 1));
    const HostPolicy found = world.find(host());
    CHECK(found.failure.dsn.empty());
    CHECK(found.policy.level == TlsLevel::dane);
    CHECK(found.policy.server_name == "mx.example");
    CHECK(found.policy.match == std::vector<std::string>{"mx.example", "domain.example"});
    CHECK(found.policy.tlsa.size() == 1);
    CHECK(found.policy.protocols == ">=TLSv1.2");   // as for every mandatory level
    CHECK(world.level(host(), "dane-only") == "dane-only");
}

TEST_CASE("records that cannot be used ask for encryption, and mandatory DANE does not put up with that", "[dane]") {
    World world;
    world.add("mx.example", tlsa(1, 1));
    world.add("mx.example", tlsa(3, 1, 5));
    world.add("mx.example", "x");
    CHECK(world.level(host()) == "encrypt");
    CHECK(world.level(host(), "dane-only") == "failure: 4.7.5 TLSA records unusable");
    const HostPolicy found = world.find(host());
    CHECK(found.found.size() == 4);
    CHECK(found.policy.tlsa.empty());
}

TEST_CASE("without records it is opportunistic TLS, or nothing", "[dane]") {
    World world;
    CHECK(world.level(host()) == "may");
    CHECK(world.level(host(), "dane-only") == "failure: 4.7.5 no TLSA records found");
    world.add("mx.example", tlsa(3, 1), false);   // anybody may have written it
    CHECK(world.level(host()) == "may");
    World insecure;
    insecure.add("mx.example", tlsa(3, 1));
    CHECK(insecure.level(host(false)) == "may");
}

TEST_CASE("records that cannot be looked up keep the host from being used", "[dane]") {
    World world;
    world.dialogue.names->broken["_25._tcp.mx.example"] = Errc::temporary;
    CHECK(world.level(host()) == "failure: 4.7.5 TLSA lookup error for mx.example:25");
    CHECK(world.level(host(), "dane-only") == "failure: 4.7.5 TLSA lookup error for mx.example:25");
    CHECK(world.level(host(false)) == "may");   // not even asked for: the zone cannot have any
}

TEST_CASE("an MX record that may be forged is what smtp_tls_dane_insecure_mx_policy says", "[dane]") {
    const auto level = [](const std::string& policy, const std::string& wanted) {
        World world("smtp_tls_dane_insecure_mx_policy = " + policy + "\n");
        world.add("mx.example", tlsa(3, 1));
        return world.level(host(true, false), wanted);
    };
    CHECK(level("dane", "dane") == "half-dane");
    CHECK(level("encrypt", "dane") == "encrypt");
    CHECK(level("may", "dane") == "may");
    CHECK(level("dane", "dane-only") == "failure: 4.7.5 non DNSSEC destination");
}

TEST_CASE("the records of an alias are at its target, else at itself", "[dane]") {
    HostAddress alias = host();
    alias.aliased = true;
    alias.alias = "alias.example";
    World both;
    both.add("mx.example", tlsa(3, 1));
    both.add("alias.example", tlsa(2, 1));
    CHECK(both.find(alias).policy.server_name == "mx.example");
    World own;
    own.add("alias.example", tlsa(2, 1));
    CHECK(own.find(alias).policy.server_name == "alias.example");
    own.dialogue.names->broken["_25._tcp.mx.example"] = Errc::timeout;
    CHECK(own.level(alias) == "failure: 4.7.5 TLSA lookup error for mx.example:25");

    HostAddress leads_out = host(false);   // a signed alias of a name that is not signed
    leads_out.aliased = true;
    World out;
    out.add("mx.example", tlsa(3, 1));
    CHECK(out.level(leads_out) == "may");
    out.dialogue.names->add("mx.example", DnsType::cname, "elsewhere.example");
    CHECK(out.level(leads_out) == "may");
    out.dialogue.names->answers[{"mx.example", DnsType::cname}].secure = true;
    CHECK(out.level(leads_out) == "dane");
    out.dialogue.names->broken["mx.example"] = Errc::temporary;   // who can suppress the answer does not get away with less
    CHECK(out.level(leads_out) == "failure: 4.7.5 TLSA lookup error for mx.example:25");
}

TEST_CASE("smtp_tls_force_insecure_host_tlsa_lookup asks all the same", "[dane]") {
    World world("smtp_tls_force_insecure_host_tlsa_lookup = yes\n");
    world.add("mx.example", tlsa(3, 1));
    CHECK(world.level(host(false)) == "dane");
}

TEST_CASE("what defeats DANE is warned of, and mandatory DANE does without delivery", "[dane]") {
    for (const std::string& more : {std::string("smtp_dns_support_level = enabled\n"), std::string("ignore_mx_lookup_error = yes\n")}) {
        World world(more);
        world.add("mx.example", tlsa(3, 1));
        CHECK(world.level(host()) == "may");
        CHECK(world.level(host(), "dane-only") == "failure: 4.7.5 client TLS configuration problem");
        CHECK_FALSE(world.dialogue.log().lines().empty());
    }
}

TEST_CASE("other levels are none of its business", "[dane]") {
    World world;
    world.add("mx.example", tlsa(3, 1));
    for (const std::string level : {"none", "may", "encrypt", "fingerprint", "verify", "secure"}) {
        CHECK(world.level(host(), level) == level);
    }
}

TEST_CASE("TLS reports name TLSA policies and why a host was passed over", "[dane]") {
    World world;
    world.add("mx.example", tlsa(3, 1));
    NextHop hop;
    hop.domain = "domain.example";
    const TlsrptOutcome failed = outcome_without_dane(hop, world.find(host()).policy, host(), "TLSA lookup error for mx.example:25");
    CHECK(failed.domain == "domain.example");
    CHECK(failed.policy == static_cast<std::uint8_t>(TlsrptPolicy::tlsa));
    CHECK(failed.result == static_cast<std::uint8_t>(TlsrptResult::dnssec_invalid));
    REQUIRE(failed.policy_strings.size() == 1);
    CHECK(failed.policy_strings[0].substr(0, 10) == "3 1 1 7878");
    TlsPolicy required;
    required.level = TlsLevel::dane_only;
    CHECK(outcome_without_dane(hop, required, host(), "no TLSA records found").result == static_cast<std::uint8_t>(TlsrptResult::dane_required));
}

namespace {

struct Insisting {
    explicit Insisting(const std::string& more = "", Protocol protocol = Protocol::smtp) : dialogue(more, protocol) {}
    void deliver(const std::string& script, bool requiretls, const std::string& content = "Subject: x\n\nbody\n") {
        dialogue.net->servers["192.0.2.1"].scripts = {script};
        queue::Deliver request;
        request.queue_id = "4A1B";
        request.nexthop = "[192.0.2.1]";
        request.sender = "s@us.example";
        request.requiretls = requiretls;
        queue::DeliverTo to;
        to.recipient.address = "x@d.example";
        request.recipients.push_back(std::move(to));
        dialogue.deliver(std::move(request), content);
    }
    DeliveryDialogue dialogue;
};

}  // namespace

TEST_CASE("a message with REQUIRETLS goes back rather than out in the clear", "[requiretls]") {
    Insisting mail("smtp_tls_security_level = may\nsmtp_requiretls_policy = enforce\n");
    mail.deliver(good_script(), true);
    CHECK(mail.dialogue.fate(0) == "bounced 5.7.10");
    CHECK(mail.dialogue.reason(0).find("REQUIRETLS: TLS is required, but was not offered by host") == 0);
    CHECK(mail.dialogue.heard("192.0.2.1").find("MAIL") == std::string::npos);
}

TEST_CASE("REQUIRETLS where TLS is switched off", "[requiretls]") {
    Insisting mail("smtp_tls_security_level = none\nsmtp_requiretls_policy = enforce\n");
    mail.deliver(good_script(), true);
    CHECK(mail.dialogue.fate(0) == "bounced 5.7.10");
    CHECK(mail.dialogue.net->tried.empty());
}

TEST_CASE("requiretls_enable = no, and mailbox servers, ask for nothing", "[requiretls]") {
    Insisting off("smtp_tls_security_level = may\nrequiretls_enable = no\nsmtp_requiretls_policy = enforce\n");
    off.deliver(good_script(), true);
    CHECK(off.dialogue.fate(0) == "sent 2.0.0");
    CHECK(off.dialogue.heard("192.0.2.1").find("REQUIRETLS") == std::string::npos);
    Insisting mailbox("lmtp_tls_security_level = none\n", Protocol::lmtp);
    mailbox.deliver(good_script(), true);
    CHECK(mailbox.dialogue.fate(0) == "sent 2.0.0");
}

TEST_CASE("REQUIRETLS is insisted on where smtp_requiretls_policy says so", "[requiretls]") {
    const std::string offers = good_script(1, "250-PIPELINING\r\n250 REQUIRETLS\r\n");
    struct Case {
        const char* policy;   ///< null: the default, under which an address is within the own network
        const char* fate;
    };
    for (const Case& one : {Case{nullptr, "sent 2.0.0"}, Case{"opportunistic", "sent 2.0.0"}, Case{"disable", "sent 2.0.0"},
                            Case{"opportunistic+starttls", "bounced 5.7.10"}, Case{"inline:{192.0.2.1=enforce}, disable", "bounced 5.7.10"},
                            Case{"inline:{192.0.2.2=enforce}, disable", "sent 2.0.0"}, Case{"error", "deferred 4.7.5"},
                            Case{"inline:{192.0.2.1=nonsense}", "deferred 4.7.5"}, Case{"fail:x, disable", "deferred 4.7.0"}}) {
        CAPTURE(one.policy == nullptr ? "default" : one.policy);
        Insisting mail(std::string("smtp_tls_security_level = may\n") +
                       (one.policy == nullptr ? "" : std::string("smtp_requiretls_policy = ") + one.policy + "\n"));
        mail.deliver(offers, true);
        CHECK(mail.dialogue.fate(0) == one.fate);
        for (const auto& heard : mail.dialogue.net->servers["192.0.2.1"].heard) {
            CHECK(heard->find("REQUIRETLS") == std::string::npos);   // RFC 8689 section 2: not in the clear
        }
    }
}

TEST_CASE("a REQUIRETLS policy is a list of levels and tables, the first that says something decides", "[requiretls]") {
    using Level = RequireTlsLevel;
    const TableContext tables;
    const auto level = [&](const std::string& list, const std::string& destination) {
        Result<RequireTlsPolicy> policy = RequireTlsPolicy::open("smtp_requiretls_policy", list, tables);
        REQUIRE(policy);
        const Result<Level> found = policy->find(destination);
        REQUIRE(found);
        return *found;
    };
    const std::string list = "inline:{{d.example = opportunistic}, {.d.example = Opportunistic+STARTTLS}} "
                             "cidr:{{192.0.2.0/24 disable}}, regexp:{{/^x/ disable}}";
    CHECK(level(list, "d.example") == Level::opportunistic);
    CHECK(level(list, "D.example") == Level::opportunistic);
    CHECK(level(list, "mx.d.example") == Level::opportunistic_starttls);
    CHECK(level(list, "a.mx.d.example") == Level::opportunistic_starttls);
    CHECK(level(list, "192.0.2.7") == Level::disable);
    CHECK(level(list, "198.51.100.7") == Level::enforce);
    CHECK(level(list, "xx.example") == Level::disable);
    CHECK(level(list, "a.xx.example") == Level::enforce);   // patterns see whole names only
    CHECK(level("", "d.example") == Level::enforce);
    CHECK_FALSE(RequireTlsPolicy::open("smtp_requiretls_policy", "sometimes", tables));
    CHECK_FALSE(RequireTlsPolicy::open("smtp_requiretls_policy", "nosuch:table", tables));
}

TEST_CASE("TLS-Required: No makes TLS optional, unless REQUIRETLS says otherwise", "[requiretls]") {
    const std::string content = "Subject: x\ntls-required: (please) No\n\nbody\n";
    Insisting secure("smtp_tls_security_level = secure\n");
    secure.deliver(good_script(), false, content);
    CHECK(secure.dialogue.fate(0) == "sent 2.0.0");
    Insisting both("smtp_tls_security_level = secure\nsmtp_requiretls_policy = enforce\n");
    both.deliver(good_script(), true, content);
    CHECK(both.dialogue.fate(0) == "bounced 5.7.10");
    Insisting other("smtp_tls_security_level = secure\n");
    other.deliver(good_script(), false, "TLS-Required: yes\n\nbody\n");
    CHECK(other.dialogue.fate(0) == "deferred 4.7.4");
    Insisting off("smtp_tls_security_level = secure\ntls_required_enable = no\n");
    off.deliver(good_script(), false, content);
    CHECK(off.dialogue.fate(0) == "deferred 4.7.4");
}

TEST_CASE("by default REQUIRETLS is not insisted on within the own domain, nor where an address stands for a name", "[requiretls]") {
    const Result<Config> config = Config::from_text("mydomain = Corp.example\nmyhostname = mx.corp.example\n");
    REQUIRE(config);
    Result<RequireTlsPolicy> policy = RequireTlsPolicy::open("smtp_requiretls_policy", config->smtp_requiretls_policy(), TableContext());
    REQUIRE(policy);
    for (const char* inside : {"corp.example", "store.corp.example", "a.b.CORP.example", "localhost", "127.0.0.1", "192.0.2.1", "2001:db8::1"}) {
        CAPTURE(inside);
        const Result<RequireTlsLevel> level = policy->find(inside);
        REQUIRE(level);
        CHECK(*level == RequireTlsLevel::opportunistic);
    }
    for (const char* outside : {"other.example", "corp.example.net", "notcorp.example", "example"}) {
        CAPTURE(outside);
        const Result<RequireTlsLevel> level = policy->find(outside);
        REQUIRE(level);
        CHECK(*level == RequireTlsLevel::enforce);
    }
    CHECK(config->lmtp_requiretls_policy() == "opportunistic");
}

TEST_CASE("words that no connection could obey are refused at the start", "[smtp]") {
    for (const char* bad : {"smtp_tls_ciphers = hgih\n", "smtp_tls_mandatory_ciphers = best\n", "smtp_tls_fingerprint_digest = sha257\n",
                            "smtp_requiretls_policy = perhaps\n"}) {
        CAPTURE(bad);
        CHECK_THROWS(DeliveryDialogue(std::string("smtp_tls_security_level = may\n") + bad));
    }
    DeliveryDialogue mail("smtp_tls_security_level = may\n");
    const TlsPolicy policy;
    CHECK(mail.client().tls().apply_entry(policy, "encrypt ciphers=high"));
    CHECK_FALSE(mail.client().tls().apply_entry(policy, "encrypt ciphers=hgih"));
}

TEST_CASE("fingerprints are the same with and without colons, in either case", "[smtp]") {
    const Result<std::string> print = fingerprint("abc", "sha256");
    REQUIRE(print);
    CHECK(print->substr(0, 11) == "BA:78:16:BF");
    CHECK(same_fingerprint(*print, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    CHECK_FALSE(same_fingerprint(*print, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ae"));
    CHECK_FALSE(same_fingerprint("", ""));
    CHECK_FALSE(same_fingerprint(":", ""));
}

TEST_CASE("REQUIRETLS is known of a server that says so", "[requiretls]") {
    CHECK(parse_features("250-mx\n250-REQUIRETLS\n250 DSN", {}).requiretls);
    CHECK_FALSE(parse_features("250-mx\n250 DSN", {}).requiretls);
    CHECK_FALSE(parse_features("250-mx\n250 REQUIRETLS", {"requiretls"}).requiretls);
}

TEST_CASE("a delivery tries the next host when TLSA records cannot be had, and sends nothing in the clear", "[dane]") {
    World world;
    ScriptDns& names = *world.dialogue.names;
    for (const auto& [name, preference] : {std::pair<std::string, std::uint16_t>{"a.example", 10}, {"b.example", 20}, {"c.example", 30}}) {
        names.add("d.example", DnsType::mx, name, preference);
        names.add(name, DnsType::a, "192.0.2." + std::to_string(preference));
        names.answers[{name, DnsType::a}].secure = true;
    }
    names.answers[{"d.example", DnsType::mx}].secure = true;
    names.broken["_25._tcp.a.example"] = Errc::temporary;
    world.add("b.example", tlsa(3, 1));
    world.dialogue.net->servers["192.0.2.10"].scripts = {good_script()};
    world.dialogue.net->servers["192.0.2.20"].scripts = {good_script()};
    world.dialogue.net->servers["192.0.2.30"].scripts = {good_script()};
    world.dialogue.deliver("d.example", {"x@d.example"});
    CHECK(world.dialogue.fate(0) == "sent 2.0.0");
    CHECK(world.dialogue.net->tried == std::vector<std::string>{"192.0.2.20", "192.0.2.30"});
    CHECK(world.dialogue.heard("192.0.2.20").find("MAIL") == std::string::npos);
}
