// Names beyond ASCII as the DNS has them: samples of RFC 3492 section 7.1, and what mail is sent to.
#include <catch2/catch.hpp>

#include "lib/dns/ascii_name.h"

using namespace postern;

TEST_CASE("names beyond ASCII are asked for in Punycode", "[dns]") {
    const std::pair<const char*, const char*> names[] = {
        {"b\u00fccher.example", "xn--bcher-kva.example"},
        {"www.B\u00dcCHER.Example", "www.xn--bcher-kva.example"},
        {"fa\u00df.de", "xn--fa-hia.de"},
        {"\u4f8b\u3048.\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"},
        {"\u4f8b\u3048\u3002\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"},
        {"\u4ed6\u4eec\u4e3a\u4ec0\u4e48\u4e0d\u8bf4\u4e2d\u6587", "xn--ihqwcrb4cv8a8dqg056pqjye"},
        {"3\u5e74b\u7d44\u91d1\u516b\u5148\u751f", "xn--3b-ww4c5e180e575a65lsy2b"},
        {"\u3072\u3068\u3064\u5c4b\u6839\u306e\u4e0b2", "xn--2-u9tlzr9756bt3uc0v"},
        {"\u305d\u306e\u30b9\u30d4\u30fc\u30c9\u3067", "xn--d9juau41awczczp"},
        {"_25._tcp.b\u00fccher.example", "_25._tcp.xn--bcher-kva.example"},
        {"bu\u0308cher.example", "xn--bcher-kva.example"},   // in two characters
        {"\u00fc", "xn--tda"},
        {"\u00fc.", "xn--tda."},
    };
    for (const auto& [name, ascii] : names) {
        CAPTURE(name);
        CHECK(ascii_name(name).value_or("") == ascii);
    }
}

TEST_CASE("the older rules know fewer letters", "[dns]") {
    CHECK(ascii_name("fa\u00df.de", IdnaRules::transitional).value_or("") == "fass.de");
    CHECK(ascii_name("b\u00fccher.example", IdnaRules::transitional).value_or("") == "xn--bcher-kva.example");
}

TEST_CASE("names in ASCII are left alone, and what can be no name is none", "[dns]") {
    for (const char* name : {"", ".", "mail.EXAMPLE.com", "xn--bcher-kva.example", "a_b.example."}) {
        CHECK(ascii_name(name) == std::string(name));
    }
    CHECK_FALSE(ascii_name("\xf0\x9f\x92\xa9.example"));      // IDNA2008 has no symbols
    CHECK_FALSE(ascii_name(std::string_view("a\0\u00fc.example", 12)));
    CHECK_FALSE(ascii_name("b\xfc" "cher.example"));
    CHECK_FALSE(ascii_name("\xed\xa0\x80.example"));   // half a surrogate pair
    CHECK_FALSE(ascii_name(std::string(60, 'a') + "\u00fc.example"));
    CHECK_FALSE(ascii_name(std::string(1025, 'a') + "\u00fc.example"));
}
