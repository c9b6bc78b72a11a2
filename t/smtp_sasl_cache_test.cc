// The SMTP client's memory of refused log-ins, how much it logs about TLS, and what it says of TLS in delivery lines.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "lib/tls/log_level.h"
#include "smtp/sasl_cache.h"
#include "t/smtp_dialogue.h"

using namespace postern;
using namespace postern::smtp;

namespace {

struct Folder {
    Folder() {
        char name[] = "/tmp/postern-sasl-XXXXXX";
        path = ::mkdtemp(name);
    }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string bytes() const {
        std::ifstream file(path + "/c.lmdb", std::ios::binary);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }
    std::string path;
};

SaslCache cache_in(const Folder& folder, const std::string& type = "lmdb:") {
    Result<SaslCache> cache = SaslCache::open("smtp_sasl_auth_cache_name", type + folder.path + "/c", std::chrono::seconds(100));
    REQUIRE(cache);
    return std::move(*cache);
}

constexpr const char* kGreeting = "220 a\r\n250-a\r\n250 AUTH PLAIN\r\n";
constexpr const char* kGood = "235 2.7.0 ok\r\n250 a\r\n250 a\r\n354 a\r\n250 2.0.0 a\r\n221 bye\r\n";

}  // namespace

TEST_CASE("a refused log-in is remembered for its server, user and password, and for a while", "[smtp]") {
    const Folder folder;
    SaslCache cache = cache_in(folder);
    const SaslCache::Refusal refusal{"5.7.8", "535 5.7.8 wrong"};
    CHECK_FALSE(cache.find("mx.example", "user", "secretword", 1000));
    cache.store("mx.example", "user", "secretword", refusal, 1000);
    CHECK(cache.find("mx.example", "user", "secretword", 1000) == refusal);
    CHECK(cache.find("MX.example", "user", "secretword", 1099) == refusal);
    CHECK_FALSE(cache.find("mx.example", "user", "secretword", 1100));
    CHECK_FALSE(cache.find("mx.example", "user", "secretword2", 1000));
    CHECK_FALSE(cache.find("mx.example", "users", "ecretword", 1000));
    CHECK_FALSE(cache.find("other.example", "user", "secretword", 1000));
    cache.store("mx.example", "user", "secretword", {"5.7.9", "535 5.7.9 still wrong"}, 1200);
    CHECK(cache_in(folder, "proxy:btree:").find("mx.example", "user", "secretword", 1200)->dsn == "5.7.9");   // another process
    CHECK(folder.bytes().find("secretword") == std::string::npos);
    struct stat about{};
    REQUIRE(::stat((folder.path + "/c.lmdb").c_str(), &about) == 0);
    CHECK((about.st_mode & 077) == 0);
}

TEST_CASE("a cache that is no LMDB file, and one that is damaged", "[smtp]") {
    const Folder folder;
    CHECK_FALSE(SaslCache::open("smtp_sasl_auth_cache_name", "sqlite:/x", std::chrono::seconds(1)));
    CHECK_FALSE(SaslCache::open("smtp_sasl_auth_cache_name", "lmdb:/does/not/exist/c", std::chrono::seconds(1)));
    std::ofstream(folder.path + "/c.lmdb") << std::string(8192, 'x');
    SaslCache cache = cache_in(folder);
    cache.store("a", "b", "c", {"5.7.8", "no"}, 1);
    CHECK(cache.find("a", "b", "c", 1));
    SaslCache none;
    none.store("a", "b", "c", {"5.7.8", "no"}, 1);
    CHECK_FALSE(none.find("a", "b", "c", 1));
}

TEST_CASE("a log-in that the server refused with 535 is not tried again", "[smtp]") {
    const Folder folder;
    const std::string settings = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = inline:{ 192.0.2.1=user:pass }\n"
                                 "smtp_sasl_security_options =\nsmtp_sasl_auth_cache_name = proxy:lmdb:" + folder.path + "/c\n";
    for (const char* soft : {"yes", "no"}) {
        CAPTURE(soft);
        std::filesystem::remove(folder.path + "/c.lmdb");
        DeliveryDialogue mail(settings + "smtp_sasl_auth_soft_bounce = " + soft + "\n");
        mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "454 4.7.0 not now\r\n221 bye\r\n",
                                                  std::string(kGreeting) + "535 5.7.8 wrong\r\n221 bye\r\n", std::string(kGreeting) + "221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "deferred 4.7.0");   // that says nothing about the password
        mail.deliver("[192.0.2.1]", {"a@x"});
        const std::string fate = std::string(soft) == "yes" ? "deferred 4.7.8" : "bounced 5.7.8";
        CHECK(mail.fate(0) == fate);
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == fate);
        CHECK(mail.reason(0) == "SASL [CACHED] authentication failed; server 192.0.2.1[192.0.2.1] said: 535 5.7.8 wrong");
        CHECK(mail.heard("192.0.2.1", 1).find("AUTH PLAIN") != std::string::npos);
        CHECK(mail.heard("192.0.2.1", 2).find("AUTH") == std::string::npos);
    }
}

TEST_CASE("TLS log levels come from the first name that a table knows", "[smtp]") {
    const TableContext tables;
    LogCapture log;
    Result<TlsLogLevel> level = TlsLogLevel::open("smtp_tls_loglevel", "1", "inline:{mx.example=2, 192.0.2.1=0, bad.example=much}", tables);
    REQUIRE(level);
    CHECK(level->of({"mx.example", "192.0.2.1"}) == 2);
    CHECK(level->of({"other.example", "192.0.2.1"}) == 0);
    CHECK(level->of({"", "192.0.2.9"}) == 1);
    CHECK(level->of({"bad.example"}) == 1);
    CHECK(log.count("smtp_tls_loglevel_maps: \"much\" for bad.example is not one of 0, 1, 2, 3, 4") == 1);
    CHECK_FALSE(TlsLogLevel::open("smtp_tls_loglevel", "5", "", tables));
    CHECK_FALSE(TlsLogLevel::open("smtp_tls_loglevel", "1", "nosuch:x", tables));
}

TEST_CASE("a delivery's line says what became of TLS and of REQUIRETLS", "[smtp]") {
    struct Case {
        const char* settings;
        bool requiretls;
        const char* said;   ///< null: nothing
    };
    for (const Case& one : {Case{"smtp_tls_security_level = none\n", false, nullptr}, Case{"smtp_tls_security_level = may\n", false, "may:none"},
                            Case{"smtp_tls_security_level = encrypt\n", false, "!encrypt:none"},
                            Case{"smtp_tls_security_level = may\n", true, "may:none/requiretls:nostarttls"},
                            Case{"smtp_tls_security_level = may\nsmtp_requiretls_policy = disable\n", true, "may:none"},
                            Case{"smtp_tls_security_level = may\nsmtp_requiretls_policy = opportunistic+starttls\n", true,
                                 "!encrypt:none/!requiretls:nostarttls"},
                            Case{"smtp_tls_security_level = may\nsmtp_log_tls_feature_status = no\n", false, nullptr}}) {
        CAPTURE(one.settings, one.requiretls);
        DeliveryDialogue mail(one.settings);
        mail.net->servers["192.0.2.1"].scripts = {good_script()};
        queue::Deliver request;
        request.queue_id = "4A1B";
        request.nexthop = "[192.0.2.1]";
        request.sender = "s@us.example";
        request.requiretls = one.requiretls;
        queue::DeliverTo to;
        to.recipient.address = "x@d.example";
        request.recipients.push_back(std::move(to));
        mail.deliver(std::move(request), "Subject: x\n\nbody\n");
        CHECK(mail.log().count("tls=") == (one.said == nullptr ? 0 : 1));
        if (one.said != nullptr) {
            CHECK(mail.log().count(std::string(", tls=") + one.said + ", dsn=") == 1);
        }
    }
}

TEST_CASE("what is said to servers in debug_peer_list is logged, passwords excepted", "[smtp]") {
    DeliveryDialogue mail("debug_peer_list = 192.0.2.1\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\n"
                          "smtp_sasl_password_maps = inline:{ 192.0.2.1=user:pass }\n");
    mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + kGood};
    mail.deliver("[192.0.2.1]", {"a@x"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.log().count("> 192.0.2.1[192.0.2.1]:25: EHLO us.example") == 1);
    CHECK(mail.log().count("< 192.0.2.1[192.0.2.1]:25: 235 2.7.0 ok") == 1);
    CHECK(mail.log().count("AHVzZXIAcGFzcw") == 0);
}
