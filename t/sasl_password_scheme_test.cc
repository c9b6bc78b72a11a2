#include <catch2/catch.hpp>

#include <cstdio>

#include "lib/sasl/password_scheme.h"

using namespace postern;

namespace {

/// Made with other programs (Python's hashlib and crypt) from "pencil".
const char* const kMadeElsewhere[] = {
    "{PLAIN}pencil",
    "{plain.b64}cGVuY2ls",
    "{CLEARTEXT.HEX}70656e63696c",
    "{SHA}0vxRJJChUDZGC1SJQBQ51tpUB/o=",
    "{SHA1}0vxRJJChUDZGC1SJQBQ51tpUB/o",
    "{SHA256.HEX}13809668fb436386706f67dcb052ed584a04ba16a8c02a17d66d34c30fceda21",
    "{SHA256}13809668FB436386706F67DCB052ED584A04BA16A8C02A17D66D34C30FCEDA21",
    "{SHA512}Gd8Bqrgo+NUINrp1cJcTrtInM1344YZDkYXAbJF6Kn03cat24wfPo7a4nvGmaC1mgd3xGISHDl3hPnk/uVXu6w==",
    "{SSHA}M0YXe+4K7AXJbpIQR++HGoshE8JzYWx0c2FsdA==",
    "{SSHA256}V9JAnh4LXKDVr5nXdkqPSOpFTLqdpyR4d7xzU3GdHE9zYWx0c2FsdA==",
    "{SSHA512}EM/40PpOwDFyRBvlEBPAPcAotwYXhUelFtA2c9wqybUh7KPyAKJRMdmih7JvDHLIZX4mudDr3ExMpxduNEz0VXNhbHRzYWx0",
    "{SMD5}nZ6BNg4qUgjWovZzOEkWD3NhbHRzYWx0",
    "{PLAIN-MD5}a8f6830bce790a8a67fc2e84e12093ba",
    "{MD5}a8f6830bce790a8a67fc2e84e12093ba",
    "{LDAP-MD5}qPaDC855Copn/C6E4SCTug==",
    "{CRAM-MD5}7f47ace0e2af8f6cdeb72c03243a8c87834e19104164d6a42de72d243adb4080",
    "{HMAC-MD5}7f47ace0e2af8f6cdeb72c03243a8c87834e19104164d6a42de72d243adb4080",
    "{CRAM-MD5.B64}f0es4OKvj2zetywDJDqMh4NOGRBBZNakLectJDrbQIA=",
    "{PBKDF2}$1$saltsaltsaltsalt$5000$b06aaec3d9d1875285767e9dda6d8ad2a0135a6f",
    "{MD5-CRYPT}$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41",
    "{MD5}$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41",
    "{SHA256-CRYPT}$5$saltsalt$hl9BvcGsj7AkON13nbqeQHDgRpHyFxt7WDzLoS.OCQ/",
    "{CRYPT}$6$saltsalt$rD9fW1BwIrjB90WCgCTdIQc3phTBhf04I6Iw/XlgKD9E9aEbzqGZipjiFxGo/4wWXDA6jV6/vZO.kKdDSfUJb0",
    "{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuu680Yiaj5hFUaJTH/rTAcbA2PQEGfiZu",
    "{CRYPT}$y$j75$saltsalt$o2gXFxBM7mhtEM8a8zhzk4Y6PnNRiSjgCeVNxKApSc8",
    "{DES-CRYPT}abJ32bJMdTsnY",
    "{OTP}sha1 1024 542e559c23e69767 d52e5d8b90d10c0f",
    "{OTP.B64}c2hhMSAxMDI0IDU0MmU1NTljMjNlNjk3NjcgZDUyZTVkOGI5MGQxMGMwZg==",
    // RFC 7677 section 3's salt and password.
    ("{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
     "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
};

/// Made by Dovecot, from "pencil".
const char* const kArgon2[] = {
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$a9RZcnssP0KeQbceNQ8ILA$c8u63/aj2SbjMmF5mPj6ssjyH5T7Xq9dzIzLxh29kNs",
    "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$VZeBnp/SELzYxAtheCiBWw$5S4mP+rYI2PkY470HVkf9sz63dgyblYgWJBNQWyeWhc",
};

}  // namespace

TEST_CASE("a password longer than a block of MD5 is hashed for CRAM-MD5", "[sasl]") {
    std::string password;
    for (int i = 0; i < 8; ++i) {
        password += "0123456789";
    }
    const Result<bool> right = verify_password("{CRAM-MD5}4e479dfa47f20116c1d92ecd449c21d99442ac27f6c757b10152efc1695d0aaa", "CRYPT", password);   // made by Dovecot
    REQUIRE(right.ok());
    CHECK(*right);
    CHECK_FALSE(*verify_password("{CRAM-MD5}4e479dfa47f20116c1d92ecd449c21d99442ac27f6c757b10152efc1695d0aaa", "CRYPT", password + "0"));
}

TEST_CASE("ARGON2 hashes accept their password and nothing else", "[sasl]") {
    for (const char* stored : kArgon2) {
        CAPTURE(stored);
        const Result<bool> right = verify_password(stored, "CRYPT", "pencil");
        if (!kMissingSchemes.empty()) {
            CHECK(right.error().code == Errc::unsupported);
            CHECK(right.error().what.find("libsodium") != std::string::npos);
            continue;
        }
        REQUIRE(right.ok());
        CHECK(*right);
        CHECK_FALSE(*verify_password(stored, "CRYPT", "pencils"));
        CHECK_FALSE(*verify_password(stored, "CRYPT", ""));
        CHECK(password_cost(stored, "CRYPT").ok());
        CHECK(*password_cost(stored, "CRYPT") == PasswordCost::expensive);
    }
    if (!kMissingSchemes.empty()) {
        std::printf("skipped: hashing with ARGON2: %s\n", std::string(kMissingSchemes).c_str());
        return;
    }
    const Result<std::string> made = make_password("ARGON2ID", "pencil");
    REQUIRE(made.ok());
    CHECK(*verify_password(*made, "CRYPT", "pencil"));
    CHECK_FALSE(*verify_password(*made, "CRYPT", "pen"));
    CHECK_FALSE(*verify_password("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$garbage", "CRYPT", "pencil"));
}

TEST_CASE("hashes made by other programs accept their password and nothing else", "[sasl]") {
    for (const char* stored : kMadeElsewhere) {
        CAPTURE(stored);
        const Result<bool> right = verify_password(stored, "CRYPT", "pencil");
        REQUIRE(right.ok());
        CHECK(*right);
        for (const char* wrong : {"", "Pencil", "penci", "xencil"}) {
            const Result<bool> accepted = verify_password(stored, "CRYPT", wrong);
            REQUIRE(accepted.ok());
            CHECK_FALSE(*accepted);
        }
    }
}

TEST_CASE("OTP hashes of RFC 2289's examples accept the pass phrase", "[sasl]") {
    const std::string trouble = verify_password("{PLAIN-MD4}00", "CRYPT", "x").error().what;
    const bool has_md4 = trouble.find("legacy provider") == std::string::npos;
    for (const char* stored : {"md5 0 TeSt 9E876134D90499DD", "md5 1 test 7965e05436f5029f", "md5 99 test 50fe1962c4965880",
                               "sha1 0 test bb9e6ae1979d8ff4", "sha1 1 TEST 63d936639734385b", "sha1 99 test 87fec7768b73ccf9",
                               "md4 0 test d1854218ebbb0b51", "md4 1 test 63473ef01cd0b444", "md4 99 test c5e612776e6c237a"}) {
        CAPTURE(stored);
        const Result<bool> right = verify_password(std::string("{OTP}") + stored, "CRYPT", "This is a test.");
        if (stored[2] == '4' && !has_md4) {
            CHECK(right.error().code == Errc::unsupported);
            continue;
        }
        REQUIRE(right.ok());
        CHECK(*right);
        CHECK_FALSE(*verify_password(std::string("{OTP}") + stored, "CRYPT", "This is a test"));
    }
    for (const char* bad : {"{OTP}", "{OTP}sha1 1024 seed", "{OTP}sha1 x seed 87fec7768b73ccf9", "{OTP}SHA1 1 seed 87fec7768b73ccf9",
                            "{OTP}sha1 1 seed 87fec776", "{OTP}sha1 1  87fec7768b73ccf9", "{OTP}sha1 100001 seed 87fec7768b73ccf9",
                            "{OTP}sha1 1 seed 87fec7768b73ccf9 x", "{PLAIN-MD4}88d5", "{DIGEST-MD5}fc23"}) {
        CAPTURE(bad);
        CHECK_FALSE(verify_password(bad, "CRYPT", "pencil").ok());
    }
}

TEST_CASE("PLAIN-MD4 needs OpenSSL's legacy provider", "[sasl]") {
    for (const char* stored : {"{PLAIN-MD4}88d50fcdf6d772aa14faa6241e363f2c", "{PLAIN-MD4.B64}iNUPzfbXcqoU+qYkHjY/LA=="}) {   // by Dovecot
        const Result<bool> right = verify_password(stored, "CRYPT", "pencil");
        if (!right) {
            CHECK(right.error().what == "MD4 is not available: OpenSSL's legacy provider cannot be loaded");
            std::printf("skipped: %s\n", right.error().what.c_str());
            return;
        }
        CHECK(*right);
        CHECK_FALSE(*verify_password(stored, "CRYPT", "pencils"));
    }
}

TEST_CASE("DIGEST-MD5 hashes the name and the realm too", "[sasl]") {
    const char* const with_realm = "{DIGEST-MD5}fc23d9660db3b751ce8cb5fe48777a2c";   // made by Dovecot for ann@example.org
    const char* const without = "{DIGEST-MD5}c18975900e002b04c62a6dc21ba243f3";      // and for ann
    CHECK(*verify_password(with_realm, "CRYPT", "pencil", "ann@example.org"));
    CHECK(*verify_password(without, "CRYPT", "pencil", "ann"));
    CHECK_FALSE(*verify_password(with_realm, "CRYPT", "pencils", "ann@example.org"));
    CHECK_FALSE(*verify_password(with_realm, "CRYPT", "pencil", "ann"));
    CHECK_FALSE(*verify_password(with_realm, "CRYPT", "pencil", "bob@example.org"));
    CHECK_FALSE(*verify_password(without, "CRYPT", "pencil", "ann@example.org"));
}

TEST_CASE("what a hash takes is known before it is computed", "[sasl]") {
    const auto cost = [](const char* stored) {
        const Result<PasswordCost> known = password_cost(stored, "CRYPT");
        return !known ? known.error().what : *known == PasswordCost::cheap ? "cheap" : *known == PasswordCost::heavy ? "heavy" : "expensive";
    };
    CHECK(cost("{PLAIN}x") == "cheap");
    CHECK(cost("{SSHA512}x") == "cheap");
    CHECK(cost("$6$saltsalt$x") == "expensive");
    CHECK(cost("{SHA512-CRYPT}$6$rounds=2000000$saltsalt$x") == "heavy");
    CHECK(cost("$5$rounds=999999999$saltsalt$x") == "the password's hash wants 999999999 rounds; more than 20000000 are refused");
    CHECK(cost("$2y$12$abcdefghijklmnopqrstuu") == "expensive");
    CHECK(cost("{BLF-CRYPT}$2y$14$abcdefghijklmnopqrstuu") == "heavy");
    CHECK(cost("$2b$31$abcdefghijklmnopqrstuu") == "the password's hash wants 31 as the power of two of its rounds; more than 18 are refused");
    CHECK(cost("$y$j9T$saltsalt$x") == "expensive");       // 16 MB
    CHECK(cost("$y$jDT$saltsalt$x") == "heavy");           // 256 MB
    CHECK(cost("$y$jJT$saltsalt$x") == "the password's hash wants 16777216 KB of memory; more than 2097152 are refused");
    CHECK(cost("$7$CU..../....saltsalt$x") == "expensive");
    CHECK(cost("{PBKDF2}$1$salt$5000$x") == "expensive");
    CHECK(cost("{PBKDF2}$1$salt$4000000$x") == "heavy");
    CHECK(cost("{PBKDF2}$1$salt$40000000$x") == "the password's hash wants 40000000 rounds; more than 10000000 are refused");
    if (!kMissingSchemes.empty()) {
        return;
    }
    CHECK(cost("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$x$y") == "expensive");
    CHECK(cost("{ARGON2ID}$argon2id$v=19$m=65536,t=30,p=1$x$y") == "heavy");
    CHECK(cost("{ARGON2ID}$argon2id$v=19$m=1048576,t=4,p=1$x$y") == "heavy");
    CHECK(cost("{ARGON2I}$argon2i$v=19$m=4194304,t=3,p=1$x$y") == "the password's hash wants 4194304 KB of memory; more than 2097152 are refused");
    CHECK(cost("{ARGON2ID}$argon2id$v=19$m=8,t=18446744073709551615,p=1$x$y").find("to go through; more than 16777216 are refused") !=
          std::string::npos);
    const Result<bool> refused = verify_password("{ARGON2ID}$argon2id$v=19$m=4194304,t=3,p=1$x$y", "CRYPT", "pencil");
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == Errc::unsupported);
}

TEST_CASE("PLAIN-TRUNC compares what was kept", "[sasl]") {
    CHECK(*verify_password("{PLAIN-TRUNC}4-penc", "CRYPT", "pencil"));
    CHECK(*verify_password("{PLAIN-TRUNC}16-pencil", "CRYPT", "pencil"));
    CHECK_FALSE(*verify_password("{PLAIN-TRUNC}4-penc", "CRYPT", "pen"));
    CHECK_FALSE(*verify_password("{PLAIN-TRUNC}16-pencil", "CRYPT", "pencils"));
}

TEST_CASE("a stored password without braces belongs to the default scheme", "[sasl]") {
    CHECK(*verify_password("pencil", "PLAIN", "pencil"));
    CHECK(*verify_password("$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41", "CRYPT", "pencil"));
    CHECK_FALSE(*verify_password("*", "CRYPT", "pencil"));
    CHECK_FALSE(*verify_password("!$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41", "CRYPT", "pencil"));
    CHECK_FALSE(*verify_password("", "CRYPT", ""));
}

TEST_CASE("unknown schemes and damaged data are errors, not a wrong password", "[sasl]") {
    const Result<bool> unknown = verify_password("{ROT13}crapvy", "PLAIN", "pencil");
    REQUIRE_FALSE(unknown.ok());
    CHECK(unknown.error().code == Errc::unsupported);
    CHECK(unknown.error().what == "Unknown scheme ROT13");
    for (const char* bad : {"{PLAIN", "{PLAIN.UUENCODE}x", "{PLAIN.HEX}zz", "{SHA}!!!!", "{SHA256}abcd", "{SSHA}c2hvcnQ=",
                            "{PBKDF2}$1$salt$0$00", "{PBKDF2}$2$a$b$c", "{PLAIN-TRUNC}pencil", "{SCRAM-SHA-1}4096,a",
                            "{SCRAM-SHA-256}0,c2FsdA==,AA==,AA==", "{CRYPT}$99$x$y"}) {
        CAPTURE(bad);
        CHECK_FALSE(verify_password(bad, "PLAIN", "pencil").ok());
    }
}

TEST_CASE("every scheme that can be made verifies what it made", "[sasl]") {
    REQUIRE(password_schemes().size() >= 20);
    for (const std::string_view scheme : password_schemes()) {
        CAPTURE(std::string(scheme));
        const Result<std::string> made = make_password(scheme, "p\xc3\xa4ncil with space");
        REQUIRE(made.ok());
        CHECK(*verify_password(*made, "PLAIN", "p\xc3\xa4ncil with space"));
        CHECK_FALSE(*verify_password(*made, "PLAIN", "p\xc3\xa4ncil with spacf"));
    }
    for (const char* scheme : {"SSHA256.HEX", "SHA512.b64", "PLAIN.BASE64", "SHA512-CRYPT.HEX", "PLAIN-MD5.B64"}) {
        CAPTURE(scheme);
        const Result<std::string> made = make_password(scheme, "pencil");
        REQUIRE(made.ok());
        CAPTURE(*made);
        CHECK(*verify_password(*made, "CRYPT", "pencil"));
    }
    CHECK(make_password("SSHA256", "x").ok());
    CHECK(*make_password("SSHA256", "x") != *make_password("SSHA256", "x"));
    CHECK_FALSE(make_password("ROT13", "x").ok());
    CHECK_FALSE(make_password("SHA512-CRYPT", std::string("a\0b", 3)).ok());
    CHECK_FALSE(make_password("SCRAM-SHA-256", "x", 10).ok());
}

TEST_CASE("what crypt(3) would cut off is not accepted", "[sasl]") {
    CHECK_FALSE(*verify_password("{MD5-CRYPT}$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41", "", std::string("pencil\0x", 8)));
    CHECK_FALSE(*verify_password("{PLAIN}x", "", std::string(kMaxPassword + 1, 'x')));
}

TEST_CASE("SCRAM keys come from plain passwords and kept keys only", "[sasl]") {
    const auto plain = scram_keys_of("{PLAIN}pencil", "CRYPT", ScramHash::sha256, "saltsalt");
    REQUIRE(plain);
    const auto kept = scram_keys_of("{SCRAM-SHA-256}" + format_scram_keys(*plain), "CRYPT", ScramHash::sha256, "other");
    REQUIRE(kept);
    CHECK(kept->salt == "saltsalt");
    CHECK(kept->stored_key == plain->stored_key);
    CHECK_FALSE(scram_keys_of("{SCRAM-SHA-256}" + format_scram_keys(*plain), "CRYPT", ScramHash::sha1, "s"));
    CHECK_FALSE(scram_keys_of("{SSHA}M0YXe+4K7AXJbpIQR++HGoshE8JzYWx0c2FsdA==", "CRYPT", ScramHash::sha1, "s"));
}
