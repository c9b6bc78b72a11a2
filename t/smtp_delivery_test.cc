// Deliveries by the SMTP and LMTP client: which hosts are asked, what is said, and what becomes of each recipient.
#include <catch2/catch.hpp>

#include "t/smtp_dialogue.h"

using namespace postern;
using namespace postern::smtp;

namespace {

constexpr const char* kGreeting = "220 mx.example ESMTP\r\n250-mx.example\r\n250 PIPELINING\r\n";

}  // namespace

TEST_CASE("A message goes to the domain's MX host", "[smtp]") {
    DeliveryDialogue mail;
    mail.names->add("there.example", DnsType::mx, "mx.there.example", 10);
    mail.names->add("mx.there.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {good_script(2)};
    mail.deliver("there.example", {"a@there.example", "b@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.fate(1) == "sent 2.0.0");
    CHECK(mail.fates.fates.at(0).relay == "mx.there.example[192.0.2.1]:25");
    CHECK(mail.fates.fates.at(0).action == "relayed");
    CHECK(mail.heard("192.0.2.1") ==
          "EHLO us.example\r\nMAIL FROM:<s@us.example>\r\nRCPT TO:<a@there.example>\r\nRCPT TO:<b@there.example>\r\nDATA\r\n"
          "Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n");
}

TEST_CASE("MX hosts are tried in the order of their preference", "[smtp]") {
    DeliveryDialogue mail("smtp_mx_session_limit = 5\n");
    mail.names->add("there.example", DnsType::mx, "two.example", 20);
    mail.names->add("there.example", DnsType::mx, "one.example", 10);
    mail.names->add("there.example", DnsType::mx, "three.example", 30);
    mail.names->add("one.example", DnsType::a, "192.0.2.1");
    mail.names->add("two.example", DnsType::a, "192.0.2.2");
    mail.names->add("three.example", DnsType::a, "192.0.2.3");
    mail.net->servers["192.0.2.2"].scripts = {"421 4.3.2 busy\r\n"};
    mail.net->servers["192.0.2.3"].scripts = {good_script()};
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.net->tried == std::vector<std::string>{"192.0.2.1", "192.0.2.2", "192.0.2.3"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.log().count("connect to one.example[192.0.2.1]:25: Connection refused") == 1);
    CHECK(mail.log().count("4A1B: host two.example[192.0.2.2] refused to talk to me: 421 4.3.2 busy") == 1);
}

TEST_CASE("Limits on addresses and conversations are kept", "[smtp]") {
    DeliveryDialogue mail("smtp_mx_address_limit = 3\nsmtp_mx_session_limit = 2\n");
    for (int i = 1; i <= 5; ++i) {
        mail.names->add("there.example", DnsType::a, "192.0.2." + std::to_string(i));
    }
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.net->tried.size() == 3);
    CHECK(mail.fate(0) == "deferred 4.4.1");
    mail.net->tried.clear();
    for (int i = 1; i <= 5; ++i) {
        mail.net->servers["192.0.2." + std::to_string(i)].scripts = {std::string(kGreeting) + "250 ok\r\n450 4.2.1 later\r\n503 no\r\n221 bye\r\n"};
    }
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.net->tried.size() == 2);
    CHECK(mail.fate(0) == "deferred 4.2.1");
}

TEST_CASE("What DNS says about the domain decides between bounce and delay", "[smtp]") {
    DeliveryDialogue mail;
    SECTION("it does not exist") {
        mail.deliver("no.example", {"a@no.example"});
        CHECK(mail.fate(0) == "bounced 5.4.4");
        CHECK(mail.reason(0) == "Host or domain name not found. Name service error for name=no.example type=A: Host not found");
    }
    SECTION("the server fails") {
        mail.names->broken = {{"no.example", Errc::temporary}};
        mail.deliver("no.example", {"a@no.example"});
        CHECK(mail.fate(0) == "deferred 4.4.3");
        CHECK(mail.reason(0) == "Host or domain name not found. Name service error for name=no.example type=MX: Host not found, try again");
    }
    SECTION("null MX") {
        mail.names->add("no.example", DnsType::mx, "", 0);
        mail.deliver("no.example", {"a@no.example"});
        CHECK(mail.fate(0) == "bounced 5.1.10");
        CHECK(mail.reason(0) == "Domain no.example does not accept mail (nullMX)");
    }
    SECTION("an MX host without address") {
        mail.names->add("no.example", DnsType::mx, "mx.no.example", 0);
        mail.deliver("no.example", {"a@no.example"});
        CHECK(mail.fate(0) == "bounced 5.4.4");
    }
    SECTION("an MX host whose address is not known now") {
        mail.names->add("no.example", DnsType::mx, "mx.no.example", 0);
        mail.names->broken = {{"mx.no.example", Errc::timeout}};
        mail.deliver("no.example", {"a@no.example"});
        CHECK(mail.fate(0) == "deferred 4.4.3");
    }
    CHECK(mail.net->tried.empty());
}

TEST_CASE("Mail for this host does not go round in circles", "[smtp]") {
    DeliveryDialogue mail;
    mail.names->add("there.example", DnsType::mx, "good.example", 10);
    mail.names->add("there.example", DnsType::mx, "us.example", 20);
    mail.names->add("there.example", DnsType::mx, "backup.example", 20);
    mail.names->add("us.example", DnsType::a, "192.0.2.99");
    mail.names->add("backup.example", DnsType::a, "192.0.2.3");
    SECTION("only better hosts are asked") {
        mail.names->add("good.example", DnsType::a, "192.0.2.1");
        mail.deliver("there.example", {"a@there.example"});
        CHECK(mail.net->tried == std::vector<std::string>{"192.0.2.1"});
        CHECK(mail.fate(0) == "deferred 4.4.1");
    }
    SECTION("the better host is not known") {
        mail.deliver("there.example", {"a@there.example"});
        CHECK(mail.fate(0) == "deferred 4.4.4");
        CHECK(mail.reason(0) == "unable to find primary relay for there.example");
    }
    SECTION("we are the best") {
        mail.names->answers[{"there.example", DnsType::mx}].records.erase(mail.names->answers[{"there.example", DnsType::mx}].records.begin());
        mail.deliver("there.example", {"a@there.example"});
        CHECK(mail.fate(0) == "bounced 5.4.6");
        CHECK(mail.reason(0) == "mail for there.example loops back to myself");
    }
    SECTION("another port is another service") {
        mail.net->servers["192.0.2.99"].scripts = {good_script()};
        mail.deliver("[us.example]:10025", {"a@there.example"});
        CHECK(mail.fate(0) == "sent 2.0.0");
    }
    SECTION("a server with our name") {
        mail.names->add("good.example", DnsType::a, "192.0.2.1");
        mail.net->servers["192.0.2.1"].scripts = {"220 us.example ESMTP\r\n250 us.example\r\n221 bye\r\n"};
        mail.deliver("there.example", {"a@there.example"});
        CHECK(mail.fate(0) == "bounced 5.4.6");
    }
}

TEST_CASE("What a filter takes from DNS answers does not make mail bounce", "[smtp]") {
    DeliveryDialogue mail("smtp_dns_reply_filter = regexp:{{/^x.example. .* IN MX / IGNORE}, {/ 192.0.2.66/ IGNORE}}\n");
    mail.names->add("x.example", DnsType::mx, "mx.example");
    mail.names->add("y.example", DnsType::mx, "mx.example");
    mail.names->add("mx.example", DnsType::a, "192.0.2.66");
    mail.deliver("x.example", {"a@x.example"});
    CHECK(mail.fate(0) == "deferred 4.7.0");
    CHECK(mail.reason(0) == "Error looking up name=x.example type=MX: DNS reply filter drops all results");
    mail.fates.fates.clear();
    mail.deliver("y.example", {"a@y.example"});
    CHECK(mail.fate(0) == "deferred 4.7.0");
    CHECK(mail.reason(0) == "Error looking up name=mx.example type=A: DNS reply filter drops all results");
    CHECK(mail.net->tried.empty());
    DeliveryDialogue broken("smtp_dns_reply_filter = static:DELETE\n");
    broken.names->add("x.example", DnsType::mx, "mx.example");
    broken.deliver("x.example", {"a@x.example"});
    CHECK(broken.fate(0) == "deferred 4.4.3");
    CHECK(broken.reason(0) == "Error looking up name=x.example type=MX: Invalid DNS reply filter syntax");
    mail.fates.fates.clear();
    mail.names->add("mx.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {good_script()};
    mail.deliver("y.example", {"a@y.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
}

TEST_CASE("A server is known by its own name, or by what that is an alias of", "[smtp]") {
    for (const bool overrides : {false, true}) {
        DeliveryDialogue mail(overrides ? "smtp_cname_overrides_servername = yes\n" : "");
        mail.names->add("alias.example", DnsType::a, "192.0.2.1");
        mail.names->answers[{"alias.example", DnsType::a}].canonical = "real.example";
        mail.net->servers["192.0.2.1"].scripts = {"220 x\r\n250 x\r\n550 5.1.8 no\r\n221 bye\r\n"};
        mail.deliver("[alias.example]", {"a@there.example"});
        CHECK(mail.reason(0).find(overrides ? "host real.example[192.0.2.1] said" : "host alias.example[192.0.2.1] said") == 0);
    }
}

TEST_CASE("Each recipient has a fate of its own", "[smtp]") {
    DeliveryDialogue mail;
    mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 ok\r\n250 ok\r\n550 5.1.1 unknown\r\n451 4.7.1 later\r\n354 go\r\n"
                                                                       "250 2.6.0 taken\r\n221 bye\r\n"};
    mail.deliver("[192.0.2.1]", {"a@x", "b@x", "c@x"});
    CHECK(mail.fate(0) == "sent 2.6.0");
    CHECK(mail.fate(1) == "bounced 5.1.1");
    CHECK(mail.fate(2) == "deferred 4.7.1");
    CHECK(mail.fates.fates.at(1).diagnostic == "smtp; 550 5.1.1 unknown");
    CHECK_FALSE(mail.fates.fates.at(2).unreachable);
    CHECK(mail.fates.doubles == 0);
}

TEST_CASE("A failure of MAIL or DATA is everybody's, and pipelined replies stay in step", "[smtp]") {
    DeliveryDialogue mail;
    SECTION("MAIL") {
        mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "552 5.3.4 too big\r\n503 a\r\n503 b\r\n503 c\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x", "b@x"});
        CHECK(mail.fate(0) == "bounced 5.3.4");
        CHECK(mail.fate(1) == "bounced 5.3.4");
        CHECK(mail.heard("192.0.2.1").substr(mail.heard("192.0.2.1").size() - 12) == "DATA\r\nQUIT\r\n");
    }
    SECTION("DATA") {
        mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 a\r\n250 a\r\n550 5.1.1 b\r\n451 4.3.0 c\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x", "b@x"});
        CHECK(mail.fate(0) == "deferred 4.3.0");
        CHECK(mail.fate(1) == "bounced 5.1.1");
    }
    SECTION("DATA is accepted for nobody") {
        mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 a\r\n550 5.1.1 b\r\n354 go\r\n554 nobody\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "bounced 5.1.1");
        CHECK(mail.heard("192.0.2.1").substr(mail.heard("192.0.2.1").size() - 15) == "DATA\r\n.\r\nQUIT\r\n");
    }
    SECTION("a positive reply to DATA is no permission") {
        mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 a\r\n250 a\r\n250 odd\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "deferred 4.5.0");
    }
    CHECK(mail.fates.doubles == 0);
}

TEST_CASE("However a conversation is cut off, every recipient gets one answer", "[smtp]") {
    const std::string script = good_script(3);
    for (std::size_t cut = 0; cut <= script.size(); ++cut) {
        CAPTURE(cut);
        DeliveryDialogue mail;
        mail.net->servers["192.0.2.1"].scripts = {script.substr(0, cut)};
        mail.deliver("[192.0.2.1]", {"a@x", "b@x", "c@x"});
        CHECK(mail.fates.fates.size() == 3);
        CHECK(mail.fates.doubles == 0);
        const bool concluded = cut >= script.size() - 9;   // only the reply to QUIT may miss
        for (std::uint32_t i = 0; i < 3; ++i) {
            CHECK(mail.fate(i).substr(0, 4) == (concluded ? "sent" : "defe"));
        }
    }
}

TEST_CASE("When the queue manager is gone, the message is not concluded", "[smtp]") {
    DeliveryDialogue mail;
    mail.fates.open = false;
    mail.net->servers["192.0.2.1"].scripts = {good_script()};
    mail.deliver("[192.0.2.1]", {"a@x"});
    CHECK(mail.heard("192.0.2.1").find("\r\n.\r\n") == std::string::npos);
    CHECK(mail.fate(0) == "deferred 4.3.0");
}

TEST_CASE("A fallback relay takes what the destination does not", "[smtp]") {
    DeliveryDialogue mail("smtp_fallback_relay = [192.0.2.7]:26\n");
    SECTION("no connection") {
        mail.net->servers["192.0.2.7"].scripts = {good_script()};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "sent 2.0.0");
        CHECK(mail.fates.fates.at(0).relay == "192.0.2.7[192.0.2.7]:26");
    }
    SECTION("what is refused for good is not asked again") {
        mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 a\r\n550 5.1.1 no\r\n450 4.2.0 later\r\n503 x\r\n221 bye\r\n"};
        mail.net->servers["192.0.2.7"].scripts = {good_script()};
        mail.deliver("[192.0.2.1]", {"a@x", "b@x"});
        CHECK(mail.fate(0) == "bounced 5.1.1");
        CHECK(mail.fate(1) == "sent 2.0.0");
        CHECK(mail.heard("192.0.2.7").find("a@x") == std::string::npos);
    }
    SECTION("a fallback that is unknown is a mistake, not the sender's") {
        DeliveryDialogue other("smtp_fallback_relay = typo.example\n");
        other.deliver("[192.0.2.1]", {"a@x"});
        CHECK(other.fate(0) == "deferred 4.4.4");
        CHECK(other.log().count("smtp_fallback_relay configuration problem") == 1);
    }
}

TEST_CASE("TLS that is required is not gone without", "[smtp]") {
    DeliveryDialogue mail("smtp_tls_security_level = encrypt\n");
    SECTION("not offered") {
        mail.net->servers["192.0.2.1"].scripts = {good_script()};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "deferred 4.7.4");
        CHECK(mail.reason(0) == "TLS is required, but was not offered by host 192.0.2.1[192.0.2.1]");
        CHECK(mail.heard("192.0.2.1").find("MAIL") == std::string::npos);
    }
    SECTION("refused") {
        mail.net->servers["192.0.2.1"].scripts = {"220 a\r\n250-a\r\n250 STARTTLS\r\n554 5.7.0 no\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "deferred 4.7.0");
    }
    SECTION("fails") {
        mail.net->servers["192.0.2.1"].scripts = {"220 a\r\n250-a\r\n250 STARTTLS\r\n220 go\r\n250 in the clear\r\n250 ok\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "deferred 4.7.5");
        CHECK(mail.heard("192.0.2.1").find("MAIL") == std::string::npos);
    }
}

TEST_CASE("LMTP has one reply for each recipient", "[smtp]") {
    DeliveryDialogue mail("lmtp_tls_security_level = none\n", Protocol::lmtp);
    mail.net->servers["192.0.2.1"].scripts = {"220 box LMTP\r\n250-box\r\n250 PIPELINING\r\n250 a\r\n250 a\r\n250 b\r\n250 c\r\n354 go\r\n"
                                              "250 2.0.0 stored\r\n552 5.2.2 full\r\n"};
    mail.deliver("[192.0.2.1]", {"a@x", "b@x", "c@x"});
    CHECK(mail.heard("192.0.2.1").substr(0, 17) == "LHLO us.example\r\n");
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.fate(1) == "bounced 5.2.2");
    CHECK(mail.fate(2) == "deferred 4.4.2");
}

TEST_CASE("Secrets are sent as the mechanisms want them, and not in the clear without leave", "[smtp]") {
    const std::string settings = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = inline:{ 192.0.2.1=user:pass }\n";
    const std::string greeting = "220 a\r\n250-a\r\n250 AUTH PLAIN LOGIN XOAUTH2\r\n";
    SECTION("noplaintext is the default") {
        DeliveryDialogue mail(settings);
        mail.net->servers["192.0.2.1"].scripts = {greeting};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.fate(0) == "deferred 4.7.0");
        CHECK(mail.reason(0) == "SASL authentication failed: server 192.0.2.1[192.0.2.1] offered no compatible authentication "
                                "mechanisms for this type of connection security");
        CHECK(mail.heard("192.0.2.1").find("AUTH") == std::string::npos);
    }
    SECTION("PLAIN") {
        DeliveryDialogue mail(settings + "smtp_sasl_security_options = noanonymous\n");
        mail.net->servers["192.0.2.1"].scripts = {greeting + "235 2.7.0 ok\r\n250 a\r\n250 a\r\n354 a\r\n250 2.0.0 a\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.heard("192.0.2.1").find("AUTH PLAIN AHVzZXIAcGFzcw==\r\n") != std::string::npos);
        CHECK(mail.fate(0) == "sent 2.0.0");
        CHECK(mail.log().count("AHVzZXIAcGFzcw") == 0);
    }
    SECTION("LOGIN, refused") {
        DeliveryDialogue mail(settings + "smtp_sasl_security_options =\nsmtp_sasl_mechanism_filter = login\n");
        mail.net->servers["192.0.2.1"].scripts = {greeting + "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n535 5.7.8 wrong\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.heard("192.0.2.1").find("AUTH LOGIN\r\ndXNlcg==\r\ncGFzcw==\r\n") != std::string::npos);
        CHECK(mail.fate(0) == "deferred 4.7.8");
        CHECK(mail.reason(0) == "SASL authentication failed; server 192.0.2.1[192.0.2.1] said: 535 5.7.8 wrong");
    }
    SECTION("XOAUTH2, refused with an explanation") {
        DeliveryDialogue mail(settings + "smtp_sasl_security_options =\nsmtp_sasl_mechanism_filter = xoauth2\n");
        mail.net->servers["192.0.2.1"].scripts = {greeting + "334 eyJzdGF0dXMiOiI0MDAifQ==\r\n535 5.7.8 wrong\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.heard("192.0.2.1").find("AUTH XOAUTH2 dXNlcj11c2VyAWF1dGg9QmVhcmVyIHBhc3MBAQ==\r\n\r\n") != std::string::npos);
        CHECK(mail.fate(0) == "deferred 4.7.8");
    }
    SECTION("a challenge that is none") {
        DeliveryDialogue mail(settings + "smtp_sasl_security_options =\n");
        mail.net->servers["192.0.2.1"].scripts = {"220 a\r\n250-a\r\n250 AUTH CRAM-MD5\r\n334 !!!\r\n501 cancelled\r\n221 bye\r\n"};
        mail.deliver("[192.0.2.1]", {"a@x"});
        CHECK(mail.heard("192.0.2.1").find("AUTH CRAM-MD5\r\n*\r\n") != std::string::npos);
        CHECK(mail.fate(0) == "deferred 4.7.0");
    }
}

TEST_CASE("Addresses of both protocols are tried when their number is limited", "[smtp]") {
    DeliveryDialogue mail("inet_protocols = all\nsmtp_mx_address_limit = 2\nsmtp_address_preference = ipv6\n");
    for (int i = 1; i <= 4; ++i) {
        mail.names->add("there.example", DnsType::aaaa, "2001:db8::" + std::to_string(i));
        mail.names->add("there.example", DnsType::a, "192.0.2." + std::to_string(i));
    }
    mail.deliver("there.example", {"a@there.example"});
    REQUIRE(mail.net->tried.size() == 2);
    CHECK(mail.net->tried[0].find(':') != std::string::npos);
    CHECK(mail.net->tried[1].find(':') == std::string::npos);
}

TEST_CASE("A status filter may change code and text, but not turn failure into success", "[smtp]") {
    DeliveryDialogue mail("smtp_delivery_status_filter = inline:{ {4.4.1 connect to 192.0.2.1[192.0.2.1]:25: Connection refused = 5.4.1 closed} }\n");
    mail.deliver("[192.0.2.1]", {"a@x"});
    CHECK(mail.fate(0) == "bounced 5.4.1");
    CHECK(mail.reason(0) == "closed");
}

TEST_CASE("Addresses of this system leave as smtp_generic_maps has them", "[smtp]") {
    DeliveryDialogue mail("mydestination = us.example\nmyorigin = us.example\nrecipient_delimiter = +\npropagate_unmatched_extensions = generic\n"
                          "smtp_generic_maps = inline:{ s@us.example=sender@world.example, local=other@world.example, @inside.example=@world.example }\n");
    mail.net->servers["192.0.2.1"].scripts = {good_script(2)};
    mail.deliver("[192.0.2.1]", {"local+ext@us.example", "x@inside.example"},
                 "From: \"S. Ender\" <s@us.example>\nTo: a@b.example, x@inside.example (comment)\nSubject: s@us.example\n\ns@us.example\n");
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.heard("192.0.2.1") ==
          "EHLO us.example\r\nMAIL FROM:<sender@world.example>\r\nRCPT TO:<other+ext@world.example>\r\nRCPT TO:<x@world.example>\r\nDATA\r\n"
          "From: \"S. Ender\" <sender@world.example>\r\nTo: a@b.example, x@world.example (comment)\r\nSubject: s@us.example\r\n\r\n"
          "s@us.example\r\n.\r\nQUIT\r\n");
    DeliveryDialogue origin("mydestination = here.example\nmyorigin = us.example\nsmtp_generic_maps = inline:{ local=other@world.example }\n");
    origin.net->servers["192.0.2.1"].scripts = {good_script(1)};
    origin.deliver("[192.0.2.1]", {"local@us.example"});
    CHECK(origin.heard("192.0.2.1").find("RCPT TO:<other@world.example>\r\n") != std::string::npos);
}

TEST_CASE("what smtp_header_checks and its kin do is logged once, whatever the server takes", "[smtp]") {
    const std::string checks = "smtp_header_checks = regexp:{{/^X-Seen:/ WARN seen}, {/^X-Old:/ REPLACE X-New: 1}}\n"
                               "smtp_body_checks = regexp:{{/^mark/ INFO marked}}\n";
    const std::string content = "Subject: x\nX-Seen: 1\nX-Old: 0\n\nmark\nbody";
    for (const char* features : {"250-PIPELINING\r\n250 8BITMIME\r\n", "250 PIPELINING\r\n"}) {
        for (const char* end : {"\n", " \xc3\xa4\n"}) {
            CAPTURE(features, end);
            DeliveryDialogue mail(checks);
            mail.net->servers["192.0.2.1"].scripts = {good_script(1, features)};
            mail.deliver("[192.0.2.1]", {"a@there.example"}, content + end);
            CHECK(mail.fate(0) == "sent 2.0.0");
            CHECK(mail.log().count("4A1B: warning: header X-Seen: 1: seen") == 1);
            CHECK(mail.log().count("4A1B: replace: header X-Old: 0: X-New: 1") == 1);
            CHECK(mail.log().count("4A1B: info: body mark: marked") == 1);
            CHECK(mail.heard("192.0.2.1").find("X-New: 1\r\n") != std::string::npos);
            CHECK(mail.heard("192.0.2.1").find("X-Old") == std::string::npos);
        }
    }
}

TEST_CASE("Who could not be asked might take what another refused", "[smtp]") {
    const std::string goes_away = "220 one.example ESMTP\r\n550 5.7.1 go away\r\n550 5.7.1 go away\r\n";
    DeliveryDialogue mail;
    mail.names->add("there.example", DnsType::mx, "one.example", 10);
    mail.names->add("there.example", DnsType::mx, "two.example", 20);
    mail.names->add("one.example", DnsType::a, "192.0.2.1");
    mail.names->add("two.example", DnsType::a, "192.0.2.2");
    mail.net->servers["192.0.2.1"].scripts = {goes_away, goes_away};
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "deferred 4.4.1");   // two.example is down
    mail.net->servers["192.0.2.2"].scripts = {goes_away};
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "bounced 5.7.1");
}

TEST_CASE("A domain in UTF-8 is looked for as the DNS has it", "[smtp]") {
    DeliveryDialogue mail;
    mail.names->add("xn--bcher-kva.example", DnsType::mx, "mx.there.example", 10);
    mail.names->add("mx.there.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {good_script(1, "250-8BITMIME\r\n250 SMTPUTF8\r\n")};
    queue::Deliver request;
    request.nexthop = "b\u00fccher.example";
    request.sender = "s@us.example";
    request.smtputf8 = true;
    request.recipients.emplace_back().recipient.address = "a@b\u00fccher.example";
    mail.deliver(std::move(request), "Subject: x\n\nbody\n");
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.heard("192.0.2.1").find("RCPT TO:<a@b\u00fccher.example>") != std::string::npos);
}
