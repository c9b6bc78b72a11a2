// MTA-STS among the client's TLS policies: what a domain's policy does to ours, and what tables may say instead.
#include <catch2/catch.hpp>

#include <openssl/ssl.h>

#include "lib/table/table.h"
#include "smtp/tls_policy.h"
#include "smtp/tls_report.h"

using namespace postern;
using namespace postern::smtp;

namespace {

struct World {
    Config config;
    Settings settings{config, Protocol::smtp};
    std::unique_ptr<TlsPolicies> policies;

    explicit World(const std::vector<std::string>& more = {}) : config(make(more)) {
        Result<std::unique_ptr<TlsPolicies>> made = TlsPolicies::create(settings, table_context(config));
        REQUIRE(made);
        policies = std::move(*made);
    }
    static Config make(const std::vector<std::string>& more) {
        std::vector<std::string> lines{"smtp_tls_security_level=may"};
        lines.insert(lines.end(), more.begin(), more.end());
        std::string text;
        for (const std::string& line : lines) {
            text += line + "\n";
        }
        Result<Config> made = Config::from_text(text);
        REQUIRE(made);
        return std::move(*made);
    }
    NextHop hop(const std::string& domain) const {
        NextHop out;
        out.text = out.domain = domain;
        out.port = 25;
        return out;
    }
    TlsPolicy find(const std::string& domain) const {
        Result<TlsPolicy> found = policies->find(hop(domain));
        REQUIRE(found);
        return std::move(*found);
    }
};

StsAnswer answer(StsMode mode) {
    StsAnswer out;
    out.found = true;
    out.mode = static_cast<std::uint8_t>(mode);
    out.mx = {"mx.example.com", "*.example.net"};
    out.lines = {"version: STSv1"};
    return out;
}

HostAddress host(const std::string& name) {
    HostAddress out;
    out.host = name;
    out.address = "192.0.2.1";
    out.port = 25;
    return out;
}

}  // namespace

TEST_CASE("mode enforce makes a verified certificate for the host's name a condition", "[smtp]") {
    World world;
    const TlsPolicy policy = world.policies->under_sts(world.find("example.com"), "example.com", answer(StsMode::enforce));
    CHECK(policy.level == TlsLevel::secure);
    const TlsDemand demand = world.policies->demand(policy, world.hop("example.com"), host("mx.example.com"));
    CHECK(demand.names == std::vector<std::string>{"mx.example.com"});
    CHECK(demand.server_name == "mx.example.com");
    CHECK(demand.protocols == ">=TLSv1.2");
    CHECK_FALSE(demand.lenient);
    CHECK_FALSE(world.policies->forbids(policy, host("mx.example.com")));
    CHECK_FALSE(world.policies->forbids(policy, host("a.example.net")));
    CHECK(world.policies->forbids(policy, host("mx.example.org")).value_or("") ==
          "MX host mx.example.org[192.0.2.1] does not match the MTA-STS policy of example.com");
}

TEST_CASE("the name in the MX record counts, whatever it is an alias of", "[smtp]") {
    World world;
    const TlsPolicy policy = world.policies->under_sts(world.find("example.com"), "example.com", answer(StsMode::enforce));
    HostAddress alias = host("elsewhere.example.org");
    alias.aliased = true;
    alias.alias = "mx.example.com";
    CHECK_FALSE(world.policies->forbids(policy, alias));
    const TlsDemand demand = world.policies->demand(policy, world.hop("example.com"), alias);
    CHECK(demand.names == std::vector<std::string>{"mx.example.com"});
    CHECK(demand.server_name == "mx.example.com");
    alias.host.swap(alias.alias);
    CHECK(world.policies->forbids(policy, alias));
}

TEST_CASE("without smtp_tls_enforce_sts_mx_patterns the certificate alone decides", "[smtp]") {
    World world({"smtp_tls_enforce_sts_mx_patterns=no"});
    const TlsPolicy policy = world.policies->under_sts(world.find("example.com"), "example.com", answer(StsMode::enforce));
    CHECK_FALSE(world.policies->forbids(policy, host("mx.example.org")));
    const TlsDemand demand = world.policies->demand(policy, world.hop("example.com"), host("mx.example.org"));
    CHECK(demand.names == std::vector<std::string>{"mx.example.com", ".example.net"});
}

TEST_CASE("the other modes, and failures, change nothing but the report", "[smtp]") {
    World world;
    for (const StsMode mode : {StsMode::none, StsMode::testing}) {
        const TlsPolicy policy = world.policies->under_sts(world.find("example.com"), "example.com", answer(mode));
        CHECK(policy.level == TlsLevel::may);
        CHECK(world.policies->demand(policy, world.hop("example.com"), host("mx.example.com")).lenient);
        CHECK_FALSE(world.policies->forbids(policy, host("mx.example.org")));
        REQUIRE(policy.sts);
        CHECK(policy.sts->found == (mode == StsMode::testing));
    }
    CHECK_FALSE(world.policies->under_sts(world.find("example.com"), "example.com", StsAnswer()).sts);
    StsAnswer failed;
    failed.problem = static_cast<std::uint8_t>(StsProblem::invalid);
    const TlsPolicy policy = world.policies->under_sts(world.find("example.com"), "example.com", std::move(failed));
    CHECK(policy.level == TlsLevel::may);
    CHECK(policy.sts->problem == StsProblem::invalid);
}

TEST_CASE("MTA-STS is asked about where nobody has decided", "[smtp]") {
    World world({"smtp_tls_policy_maps=inline:{ fixed.example=may }"});
    const auto wants = [&world](NextHop hop) { return world.policies->wants_sts(hop, *world.policies->find(hop)); };
    CHECK(wants(world.hop("example.com")));
    CHECK_FALSE(wants(world.hop("fixed.example")));
    NextHop literal = world.hop("example.com");
    literal.literal_host = true;
    CHECK_FALSE(wants(literal));
    for (const char* line : {"smtp_tls_mta_sts_enable=no", "smtp_tls_security_level=encrypt", "smtp_tls_security_level=none",
                             "smtp_dns_support_level=disabled"}) {
        CAPTURE(line);
        World other({line});
        CHECK_FALSE(other.policies->wants_sts(other.hop("example.com"), other.find("example.com")));
    }
}

TEST_CASE("with level dane a policy holds for the hosts without TLSA records", "[smtp]") {
    World world;
    TlsPolicy dane = world.find("example.com");
    dane.level = TlsLevel::dane;
    REQUIRE(world.policies->wants_sts(world.hop("example.com"), dane));
    const TlsPolicy policy = world.policies->under_sts(dane, "example.com", answer(StsMode::enforce));
    CHECK(policy.level == TlsLevel::dane);
    CHECK_FALSE(policy.sts);
    REQUIRE(policy.without_dane);
    CHECK(policy.without_dane->level == TlsLevel::secure);
    CHECK(policy.without_dane->sts);
}

TEST_CASE("a policy plug-in's attributes are understood", "[smtp]") {
    World world;
    const Result<TlsPolicy> policy = world.policies->apply_entry(
        world.find("x.example"), "secure match=mx.example.com:.example.net servername=hostname policy_type=sts policy_domain=Example.com "
                                 "policy_ttl=86400 { policy_string = version: STSv1 } { policy_string = mode: enforce } "
                                 "mx_host_pattern=mx.example.com mx_host_pattern=*.example.net");
    REQUIRE(policy);
    REQUIRE(policy->sts);
    CHECK(policy->sts->domain == "example.com");
    CHECK(policy->sts->lines == std::vector<std::string>{"version: STSv1", "mode: enforce"});
    CHECK(policy->match == std::vector<std::string>{"hostname"});
    CHECK(world.policies->forbids(*policy, host("other.example")));
    CHECK_FALSE(world.policies->forbids(*policy, host("mx.example.com")));
    const Result<TlsPolicy> failed =
        world.policies->apply_entry(world.find("x.example"), "may policy_type=no-policy-found policy_failure=sts-webpki-invalid");
    REQUIRE(failed);
    CHECK(failed->sts->problem == StsProblem::webpki_invalid);
    for (const char* bad : {"may policy_type=dnssec", "may policy_ttl=x", "may policy_failure=none", "may policy_nonsense=1", "may policy_type="}) {
        CAPTURE(bad);
        CHECK_FALSE(world.policies->apply_entry(world.find("x.example"), bad));
    }
}

TEST_CASE("a report judges by the policy, whether or not it is enforced", "[smtp]") {
    World world;
    const TlsPolicy plain = world.find("example.com");
    const TlsPolicy testing = world.policies->under_sts(plain, "example.com", answer(StsMode::testing));
    TlsPeer peer;
    peer.has_certificate = true;
    peer.verify_error = "certificate has expired";
    CHECK(verdict_of(plain, host("mx.example.com"), peer).result == TlsrptResult::success);
    CHECK(verdict_of(testing, host("mx.example.com"), peer).result == TlsrptResult::certificate_expired);
    peer.verify_error = "self-signed certificate";
    CHECK(verdict_of(testing, host("mx.example.com"), peer).result == TlsrptResult::certificate_not_trusted);
    peer.trusted = true;
    CHECK(verdict_of(testing, host("mx.example.com"), peer).result == TlsrptResult::certificate_host_mismatch);
    peer.matched = true;
    CHECK(verdict_of(testing, host("mx.example.com"), peer).result == TlsrptResult::success);
    CHECK(verdict_of(testing, host("mx.example.org"), peer).result == TlsrptResult::validation_failure);
}

TEST_CASE("options of OpenSSL are the client's too", "[smtp]") {
    for (const std::string& wrong : {std::string("tls_ssl_options=NO_SUCH"), std::string("tls_disable_workarounds=NO_SUCH")}) {
        const Config config = World::make({wrong});
        const Settings settings(config, Protocol::smtp);
        CHECK_FALSE(TlsPolicies::create(settings, table_context(config)));
    }
    const World world({"tls_ssl_options=NO_TICKET, NO_ENCRYPT_THEN_MAC"});
    SSL_CTX* const context = world.policies->context(TlsPolicy()).get();
    CHECK((SSL_CTX_get_options(context) & SSL_OP_NO_TICKET) != 0);
    CHECK((SSL_CTX_get_options(context) & SSL_OP_NO_ENCRYPT_THEN_MAC) != 0);
}
