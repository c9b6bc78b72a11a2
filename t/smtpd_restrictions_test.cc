// Restriction lists that need no DNS: what is refused when a list is compiled, decisions that wait, and limits of clients.
#include <catch2/catch.hpp>

#include "smtpd/policy_servers.h"
#include "t/smtpd_dialogue.h"

using namespace postern;
using namespace postern::smtpd;

namespace {

void to_rcpt(SmtpDialogue& dialogue) {
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<a@example.org>\r\n");
}

std::string reply_to_rcpt(const std::string& settings) {
    SmtpDialogue dialogue(settings);
    to_rcpt(dialogue);
    return dialogue.last_reply();
}

/// What is wrong with a list; empty when nothing is.
std::string problem_with(const std::string& settings) {
    try {
        const SmtpDialogue dialogue(settings);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE("lists of DNS names and filters are checked when they are compiled", "[restrictions]") {
    for (const char* good : {"list.example", "list.example=127.0.0.2", "list.example=127.0.0.[2..11]", "l.example=127.[0;1].0.[1;4..8]"}) {
        CAPTURE(good);
        CHECK(problem_with(std::string("smtpd_client_restrictions = reject_rbl_client ") + good + "\n").empty());
    }
    for (const char* bad : {"list.example=", "list.example=127.0.0", "list.example=127.0.0.256", "list.example=127.0.0.[2..",
                            "list.example=127.0.0.[9..2]", "list.example=127.0.0.x", "list.example=1.2.3.4.5", "=127.0.0.2", "-bad-"}) {
        CAPTURE(bad);
        const std::string what = problem_with(std::string("smtpd_client_restrictions = permit_dnswl_client ") + bad + "\n");
        CHECK(what == std::string("parameter smtpd_client_restrictions: permit_dnswl_client needs a domain, or domain=d.d.d.d, not \"") +
                          bad + "\"");
    }
}

TEST_CASE("reject_maps_rbl stands for reject_rbl_client with each of maps_rbl_domains", "[restrictions]") {
    CHECK(problem_with("smtpd_client_restrictions = reject_maps_rbl\n").empty());
    const SmtpDialogue dialogue("smtpd_client_restrictions = warn_if_reject reject_maps_rbl\nmaps_rbl_domains = a.example b.example\n");
    CHECK(dialogue.log().count("support for restriction \"reject_maps_rbl\" will be removed from Postern; use \"reject_rbl_client "
                               "domain-name\" instead") == 1);
    CHECK(problem_with("smtpd_client_restrictions = reject_maps_rbl\nmaps_rbl_domains = a.example -bad-\n") ==
          "parameter smtpd_client_restrictions: reject_rbl_client needs a domain, or domain=d.d.d.d, not \"-bad-\"");
}

TEST_CASE("restrictions that Postfix gave up are named with what replaces them", "[restrictions]") {
    CHECK(problem_with("smtpd_recipient_restrictions = check_relay_domains\n").find("permit_mynetworks, reject_unauth_destination") !=
          std::string::npos);
    CHECK(problem_with("smtpd_sender_restrictions = check_sender_mx_access\n") ==
          "parameter smtpd_sender_restrictions: check_sender_mx_access needs an argument");
}

TEST_CASE("policy servers are checked when the list is compiled", "[restrictions]") {
    for (const char* good : {"inet:127.0.0.1:10031", "inet:localhost:10031", "inet:[::1]:10031", "unix:private/policy", "inet:10031",
                             "{ inet:127.0.0.1:10031, timeout=10s, { default_action = 450 4.7.1 later }, policy_context=submission }"}) {
        CAPTURE(good);
        CHECK(problem_with(std::string("smtpd_recipient_restrictions = check_policy_service ") + good + "\n").empty());
    }
    for (const char* bad : {"inet:127.0.0.1:0", "inet:mail.example:10031", "unix:", "127.0.0.1:10031", "{ inet:127.0.0.1:1, timeout=no }",
                            "{ inet:127.0.0.1:1, speed=fast }", "{ inet:127.0.0.1:1, try_limit=0 }"}) {
        CAPTURE(bad);
        CHECK(problem_with(std::string("smtpd_recipient_restrictions = check_policy_service ") + bad + "\n").find("policy service") !=
              std::string::npos);
    }
}

TEST_CASE("a policy server's own settings go before the general ones", "[restrictions]") {
    const Result<Config> config = Config::from_text("smtpd_policy_service_timeout = 7s\nsmtpd_policy_service_try_limit = 5\n");
    REQUIRE(config);
    const auto server = parse_policy_server("{ unix:p, timeout=2m, request_limit=3, { default_action = REJECT go away } }", *config);
    REQUIRE(server);
    CHECK((*server)->name == "unix:p");
    CHECK((*server)->timeout == std::chrono::minutes(2));
    CHECK((*server)->try_limit == 5);
    CHECK((*server)->request_limit == 3);
    CHECK((*server)->default_action == "REJECT go away");
    CHECK((*server)->max_idle == std::chrono::seconds(300));
}

TEST_CASE("decisions that wait look at all lists of a recipient together", "[restrictions]") {
    const std::string waiting = "450 4.7.0 <c.example[192.0.2.1]>: Client host rejected: defer_if_permit requested";
    CHECK(reply_to_rcpt("smtpd_client_restrictions = defer_if_permit\n") == waiting);
    CHECK(reply_to_rcpt("smtpd_client_restrictions = defer_if_permit, permit\nsmtpd_recipient_restrictions = permit\n") == waiting);
    CHECK(reply_to_rcpt("smtpd_client_restrictions = defer_if_permit\nsmtpd_recipient_restrictions = reject\n") ==
          "554 5.7.1 <a@example.org>: Recipient address rejected: Access denied");
    CHECK(reply_to_rcpt("smtpd_client_restrictions = defer_if_permit\nsmtpd_delay_reject = no\n") == waiting);
    CHECK(reply_to_rcpt("smtpd_helo_restrictions = defer_if_reject\nsmtpd_recipient_restrictions = reject\n") ==
          "450 4.7.0 <c.example>: Helo command rejected: defer_if_reject requested");
    CHECK(reply_to_rcpt("smtpd_helo_restrictions = defer_if_reject\n") == "250 2.1.5 Ok");
    CHECK(reply_to_rcpt("smtpd_helo_restrictions = warn_if_reject defer_if_permit\n") == "250 2.1.5 Ok");
}

TEST_CASE("a decision that waits is forgotten with its recipient", "[restrictions]") {
    SmtpDialogue dialogue("smtpd_recipient_restrictions = check_recipient_access inline:{ a@example.org=DEFER_IF_PERMIT }\n");
    to_rcpt(dialogue);
    CHECK(dialogue.last_reply() == "450 4.7.1 <a@example.org>: Recipient address rejected: Service unavailable");
    dialogue.client("RCPT TO:<b@example.org>\r\n");
    CHECK(dialogue.last_reply() == "250 2.1.5 Ok");
}

TEST_CASE("codes about addresses fit what is refused", "[restrictions]") {
    const auto with = [](const std::string& rule) { return reply_to_rcpt("smtpd_recipient_restrictions = " + rule + "\n").substr(0, 9); };
    CHECK(with("check_recipient_access inline:{ {a@example.org=550 5.1.8 x} }") == "550 5.1.2");
    CHECK(with("check_sender_access inline:{ {c.example=550 5.1.2 x} }") == "550 5.1.8");
    CHECK(with("check_sender_access inline:{ {c.example=450 5.1.1 x} }") == "450 4.1.0");
    CHECK(with("check_client_access inline:{ {192.0.2.1=550 5.1.1 x} }") == "550 5.0.0");
    CHECK(with("check_client_access inline:{ {192.0.2.1=550 5.7.9 x} }") == "550 5.7.9");
}

TEST_CASE("actions for the log say what was triggered for whom", "[restrictions]") {
    SmtpDialogue dialogue("smtpd_sender_restrictions = check_sender_access inline:{ c.example=HOLD }\n");
    to_rcpt(dialogue);
    CHECK(dialogue.log().count("NOQUEUE: hold: RCPT from c.example[192.0.2.1]: <s@c.example>: Sender address triggers HOLD action; "
                               "from=<s@c.example> to=<a@example.org> proto=ESMTP helo=<c.example>") == 1);
    CHECK(dialogue.last_reply() == "250 2.1.5 Ok");
}

TEST_CASE("PREPEND without text does not end the header", "[restrictions]") {
    const auto content = [](const std::string& action) {
        SmtpDialogue dialogue("smtpd_sender_restrictions = check_sender_access inline:{ { c.example = " + action + " } }\n");
        to_rcpt(dialogue);
        dialogue.client("DATA\r\n");
        dialogue.client("Subject: x\r\n\r\nhello\r\n.\r\n");
        REQUIRE(dialogue.cleanup().messages.size() == 1);
        return dialogue.cleanup().messages.front().content;
    };
    CHECK(content("PREPEND").substr(0, 11) == "Subject: x\n");
    CHECK(content("PREPEND X-Seen: yes").substr(0, 23) == "X-Seen: yes\nSubject: x\n");
}

TEST_CASE("owners of senders are looked up by name alone where the domain is ours", "[restrictions]") {
    const std::string rule = "smtpd_sender_restrictions = reject_sender_login_mismatch\nsmtpd_sender_login_maps = inline:{ s=joe }\n";
    CHECK(reply_to_rcpt(rule + "myorigin = c.example\n") == "553 5.7.1 <s@c.example>: Sender address rejected: not logged in");
    CHECK(reply_to_rcpt(rule + "mydestination = example.org, c.example\n").substr(0, 3) == "553");
    CHECK(reply_to_rcpt(rule) == "250 2.1.5 Ok");
}

TEST_CASE("a client without a name is asked for as unknown before its address", "[restrictions]") {
    const auto reply = [](const std::string& entries) {
        SmtpDialogue dialogue("smtpd_authorized_xclient_hosts = 192.0.2.1\nsmtpd_client_restrictions = check_client_access inline:{ " +
                              entries + " }\n");
        dialogue.client("EHLO c.example\r\n");
        dialogue.client("XCLIENT NAME=[UNAVAILABLE]\r\n");
        to_rcpt(dialogue);
        return dialogue.last_reply().substr(0, 3);
    };
    CHECK(reply("unknown=REJECT, 192.0.2.1=OK") == "554");
    CHECK(reply("unknown=OK, 192.0.2=REJECT") == "250");
    CHECK(reply("192.0.2=REJECT") == "554");
}

TEST_CASE("an action that is no action is a configuration error", "[restrictions]") {
    CHECK(reply_to_rcpt("smtpd_sender_restrictions = check_sender_access inline:{ c.example=no_such_thing }\n") ==
          "451 4.3.5 Server configuration error");
}

TEST_CASE("what follows when a name cannot be looked up is one of two", "[restrictions]") {
    CHECK(problem_with("unknown_address_tempfail_action = reject\n") ==
          "parameter unknown_address_tempfail_action: \"reject\" is neither defer nor defer_if_permit");
    CHECK(problem_with("reject_tempfail_action = defer\n").empty());
}

TEST_CASE("limits of clients have Postfix's replies", "[restrictions]") {
    SmtpDialogue connection("smtpd_client_connection_rate_limit = 1\nsmtpd_client_connection_count_limit = 1\n");
    CHECK(connection.codes() == "220");
    SmtpDialogue recipients("smtpd_client_recipient_rate_limit = 1\n");
    to_rcpt(recipients);
    recipients.client("RCPT TO:<b@example.org>\r\n");
    CHECK(recipients.last_reply() == "450 4.7.1 Error: too many recipients from 192.0.2.1");
    CHECK(recipients.log().count("Recipient address rate limit exceeded: 2 from c.example[192.0.2.1] for service smtp") == 1);
    SmtpDialogue exempt("smtpd_client_recipient_rate_limit = 1\n", "10.1.2.3");
    to_rcpt(exempt);
    exempt.client("RCPT TO:<b@example.org>\r\n");
    CHECK(exempt.last_reply() == "250 2.1.5 Ok");
}

TEST_CASE("clients are counted by the networks that the settings say", "[restrictions]") {
    const Result<Config> config = Config::from_text("smtpd_client_ipv4_prefix_length = 25\nsmtpd_client_ipv6_prefix_length = 64\n");
    REQUIRE(config);
    const ClientLimits limits(*config, "smtp", std::make_unique<MemoryCounts>());
    CHECK(limits.key_for("192.0.2.200") == "smtp:192.0.2.128");
    CHECK(limits.key_for("2001:db8:1:2:3::4") == "smtp:2001:db8:1:2::");
    CHECK(limits.key_for("") == "smtp:");
}

TEST_CASE("warn_if_reject at the end of a class says nothing about what follows the class", "[restrictions]") {
    SmtpDialogue dialogue("smtpd_restriction_classes = lax\nlax = warn_if_reject\n"
                          "smtpd_relay_restrictions = lax, reject_unauth_destination\n");
    dialogue.client("EHLO c.example\r\n");
    dialogue.client("MAIL FROM:<s@c.example>\r\nRCPT TO:<x@elsewhere.example>\r\n");
    CHECK(dialogue.last_reply() == "554 5.7.1 <x@elsewhere.example>: Relay access denied");
}
