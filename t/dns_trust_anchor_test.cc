/// Trust anchors and TLSA records, as text.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <cstdlib>

#include "lib/base/unique_fd.h"
#include "lib/dns/dns.h"
#include "lib/dns/tlsa.h"
#include "lib/dns/trust_anchor.h"

using namespace postern;

TEST_CASE("a TLSA record has three fields and data", "[dns]") {
    const std::string whole("\2\0\1x", 4);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        CHECK_FALSE(parse_tlsa(whole.substr(0, size)));
    }
    const Result<TlsaRecord> record = parse_tlsa(whole);
    REQUIRE(record);
    CHECK(*record == TlsaRecord{2, 0, 1, "x"});
}

TEST_CASE("trust anchors are read as their makers write them", "[dns]") {
    const Result<std::vector<std::string>> anchors = parse_trust_anchors(
        "; autotrust trust anchor file\n;;id: . 1\n\n"
        ".\t172800\tIN\tDNSKEY\t257 3 8 AwEAAaz/tAm8 ;{id = 20326 (ksk), size = 2048b} ;;state=2 [  VALID  ] ;;count=0\n"
        ".\t172800\tIN\tDNSKEY\t257 3 8 AwEAAnew ;{id = 1 (ksk)} ;;state=1 [ ADDPEND ] ;;count=0\n"
        ".\t172800\tIN\tDNSKEY\t385 3 8 AwEAAold ;{id = 2 (ksk)} ;;state=4 [ REVOKED ] ;;count=0\n"
        "zone.example. IN DS 1234 13 2 AB CD\r\n");
    REQUIRE(anchors);
    CHECK(*anchors == std::vector<std::string>{". 172800 IN DNSKEY 257 3 8 AwEAAaz/tAm8", "zone.example. IN DS 1234 13 2 AB CD"});
    CHECK_FALSE(parse_trust_anchors(""));
    CHECK_FALSE(parse_trust_anchors("; nothing\n"));
    CHECK_FALSE(parse_trust_anchors(". IN DNSKEY ( 257 3 8\n AwEAA )\n"));
    CHECK_FALSE(parse_trust_anchors("trust-anchors { . initial-key 257 3 8 \"AwEAA\"; };\n"));
    CHECK(parse_trust_anchors(". IN A 192.0.2.1\n").error().what == "line 1: not a DS or DNSKEY record on one line");
}

TEST_CASE("the first file of trust anchors that exists is used, and one has to", "[dns]") {
    char name[] = "/tmp/postern-anchor-XXXXXX";
    const UniqueFd file(::mkstemp(name));
    const std::string text = "zone.example. IN DS 1234 13 2 AB\n";
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    const Result<std::vector<std::string>> anchors = read_trust_anchors({"/does/not/exist", name, "/proc/self/mem"});
    REQUIRE(anchors);
    CHECK(anchors->size() == 1);
    ::unlink(name);
    CHECK(read_trust_anchors({"/does/not/exist", name}).error().what ==
          "no DNSSEC trust anchor: there is no file /does/not/exist, " + std::string(name));
    CHECK_FALSE(read_trust_anchors({}));
    CHECK_FALSE(read_trust_anchors({"/"}));
}

TEST_CASE("a trust anchor that is none is refused", "[dns]") {
    CHECK_FALSE(Dns::create({"192.0.2.53", {"no record at all"}, HostsUse::first, "/etc/hosts"}));
}
