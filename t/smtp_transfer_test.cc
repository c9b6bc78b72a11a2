// What is said for one message over one connection, and whose words count: CHUNKING, servers that are out of step, what must not be sent.
#include <catch2/catch.hpp>

#include "t/smtp_dialogue.h"

using namespace postern;
using namespace postern::smtp;

namespace {

constexpr const char* kGreeting = "220 mx.example ESMTP\r\n250-mx.example\r\n250 PIPELINING\r\n";
constexpr const char* kChunking = "220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n";

void deliver_in_chunks(DeliveryDialogue& mail, const std::string& replies, const std::vector<std::string>& recipients = {"a@there.example"}) {
    mail.names->add("there.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {kChunking + replies};
    mail.deliver("there.example", recipients);
}

}  // namespace

TEST_CASE("With CHUNKING a small message leaves with its envelope", "[smtp]") {
    DeliveryDialogue mail;
    deliver_in_chunks(mail, "250 ok\r\n250 ok\r\n450 4.2.1 later\r\n250 2.0.0 taken\r\n221 bye\r\n", {"a@there.example", "b@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.fate(1) == "deferred 4.2.1");
    CHECK(mail.heard("192.0.2.1") ==
          "EHLO us.example\r\nMAIL FROM:<s@us.example>\r\nRCPT TO:<a@there.example>\r\nRCPT TO:<b@there.example>\r\n"
          "BDAT 20 LAST\r\nSubject: x\r\n\r\nbody\r\nQUIT\r\n");
}

TEST_CASE("The reply to content that went along in vain says nothing", "[smtp]") {
    DeliveryDialogue refused;
    deliver_in_chunks(refused, "250 ok\r\n550 5.1.1 who?\r\n503 5.5.1 nobody\r\n221 bye\r\n");
    CHECK(refused.fate(0) == "bounced 5.1.1");
    DeliveryDialogue sender;
    deliver_in_chunks(sender, "451 4.7.1 greylisted\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n221 bye\r\n");
    CHECK(sender.fate(0) == "deferred 4.7.1");
    DeliveryDialogue odd;
    deliver_in_chunks(odd, "250 ok\r\n450 4.2.0 no\r\n250 2.0.0 taken by nobody\r\n221 bye\r\n");
    CHECK(odd.fate(0) == "deferred 4.2.0");
}

TEST_CASE("A refusal of the content by BDAT is named so", "[smtp]") {
    DeliveryDialogue mail;
    deliver_in_chunks(mail, "250 ok\r\n250 ok\r\n554 5.7.1 spam\r\n221 bye\r\n");
    CHECK(mail.fate(0) == "bounced 5.7.1");
    CHECK(mail.log().count("said: 554 5.7.1 spam (in reply to BDAT command)") == 1);
}

TEST_CASE("smtp_discard_ehlo_keywords turns CHUNKING off", "[smtp]") {
    DeliveryDialogue mail("smtp_discard_ehlo_keywords = chunking\n");
    deliver_in_chunks(mail, "250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 taken\r\n221 bye\r\n");
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.heard("192.0.2.1").find("\r\nDATA\r\n") != std::string::npos);
}

TEST_CASE("A message whose end cannot be read is not sent without it, converted or not", "[smtp]") {
    for (const std::string& features : {std::string("250-PIPELINING\r\n250 8BITMIME\r\n"), std::string("250 PIPELINING\r\n")}) {
        CAPTURE(features);
        DeliveryDialogue mail;
        mail.names->add("there.example", DnsType::a, "192.0.2.1");
        mail.net->servers["192.0.2.1"].scripts = {good_script(1, features)};
        mail.lost_bytes = 10;
        mail.deliver("there.example", {"a@there.example"}, "Subject: x\n\n\xc3\xa9\n" + std::string(200'000, 'x') + "\n");
        CHECK(mail.fate(0) == "deferred 4.3.0");
        CHECK(mail.heard("192.0.2.1").find("\r\n.\r\n") == std::string::npos);
    }
}

TEST_CASE("The server's word on content that left with the envelope counts, whatever it says before", "[smtp]") {
    DeliveryDialogue mail;
    deliver_in_chunks(mail, "250 ok\r\n250 ok\r\n421 4.3.2 too many\r\n250 2.0.0 taken\r\n", {"a@there.example", "b@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.fate(1) == "deferred 4.3.2");
    DeliveryDialogue gone;
    deliver_in_chunks(gone, "250 ok\r\n250 ok\r\n421 4.3.2 too many\r\n", {"a@there.example", "b@there.example"});
    CHECK(gone.fate(0) == "deferred 4.4.2");
    CHECK(gone.fate(1) == "deferred 4.3.2");
    DeliveryDialogue nobody;
    deliver_in_chunks(nobody, "250 ok\r\n421 4.3.2 too many\r\n");
    CHECK(nobody.fate(0) == "deferred 4.3.2");
}

TEST_CASE("A kept connection is cleared of what BDAT left behind when it failed", "[smtp]") {
    DeliveryDialogue mail("smtp_connection_cache_destinations = there.example\n");
    deliver_in_chunks(mail, "250 ok\r\n250 ok\r\n452 4.3.1 full\r\n250 reset\r\n250 ok\r\n250 ok\r\n250 2.0.0 taken\r\n221 bye\r\n");
    CHECK(mail.fate(0) == "deferred 4.3.1");
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.heard("192.0.2.1").find("\r\nbody\r\nRSET\r\nMAIL FROM:") != std::string::npos);
}

TEST_CASE("A kept connection serves its destination however that is written", "[smtp]") {
    DeliveryDialogue mail("smtp_connection_cache_destinations = there.example\n");
    const std::string one = "250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 taken\r\n";
    mail.names->add("there.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + one + one + "221 bye\r\n"};
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    mail.deliver("There.EXAMPLE", {"a@There.EXAMPLE"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.net->servers["192.0.2.1"].heard.size() == 1);
}

TEST_CASE("The words of a server that is out of step are not taken for the fate of a message", "[smtp]") {
    DeliveryDialogue mail("smtp_connection_cache_destinations = there.example\n");
    mail.names->add("there.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 ok\r\n250 ok\r\n354 go\n250 2.0.0 what?\r\n554 5.7.1 spam\r\n"};
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "deferred 4.5.0");
    CHECK(mail.heard("192.0.2.1").find("Subject:") == std::string::npos);

    mail.net->servers["192.0.2.1"].scripts = {std::string(kGreeting) + "250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 taken\n250 2.0.0 taken\r\n",
                                              good_script()};
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    mail.deliver("there.example", {"a@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.net->servers["192.0.2.1"].heard.size() == 3);   // not over the one that had said too much
}

TEST_CASE("No address becomes a command of its own", "[smtp]") {
    DeliveryDialogue mail;
    mail.names->add("there.example", DnsType::a, "192.0.2.1");
    mail.net->servers["192.0.2.1"].scripts = {good_script(), good_script()};
    mail.deliver("there.example", {"a@there.example", "b\r\nRCPT TO:<x@other.example>\r\n@there.example"});
    CHECK(mail.fate(0) == "sent 2.0.0");
    CHECK(mail.fate(1) == "bounced 5.1.3");
    CHECK(mail.heard("192.0.2.1").find("\nRCPT TO:<x@") == std::string::npos);
    queue::Deliver request;
    request.nexthop = "there.example";
    request.sender = "s\r\nRCPT TO:<x@other.example>\r\n@us.example";
    request.recipients.emplace_back().recipient.address = "a@there.example";
    mail.deliver(std::move(request), "Subject: x\n\nbody\n");
    CHECK(mail.fate(0) == "bounced 5.1.7");
    CHECK(mail.heard("192.0.2.1", 1).find("MAIL") == std::string::npos);
}

TEST_CASE("The shortest lines that can be folded are of two bytes", "[smtp]") {
    for (const std::size_t limit : {1, 2, 3}) {
        CAPTURE(limit);
        DotEncoder encoder({limit});
        std::string out;
        encoder.add("abc\n", out);
        CHECK(out == (limit < 3 ? "ab\r\n c\r\n" : "abc\r\n"));
    }
}
