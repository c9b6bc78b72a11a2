// cleanup(8): what becomes of senders and recipients.
#include <catch2/catch.hpp>

#include "t/cleanup_message.h"

using namespace postern;
using namespace postern::cleanup;

TEST_CASE("canonical maps, masquerading and their classes", "[cleanup]") {
    Cleanup c("canonical_maps = inline:{ user@example.org=User.Name@example.com }\n"
              "recipient_canonical_maps = inline:{ old@example.org=new@example.org }\n"
              "masquerade_domains = !keep.masq.example masq.example\nmasquerade_exceptions = root\n");
    queue::Begin begin = local_mail("From: user\nTo: old+ext, a@host.masq.example, b@keep.masq.example, root@h.masq.example,"
                                    " c@d.keep.masq.example\n\n");
    begin.envelope.recipients = {{"old", "", "", 0}, {"a@host.masq.example", "", "", 0}};
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.envelope.sender == "User.Name@example.com");
    CHECK(c.header.find("From: User.Name@example.com\n") != std::string::npos);
    CHECK(c.header.find("a@masq.example, b@keep.masq.example, root@h.masq.example, c@d.keep.masq.example\n") != std::string::npos);
    CHECK(c.recipients() == "new@example.org(old) a@host.masq.example");   // masquerading leaves envelope recipients
}

TEST_CASE("header addresses of remote clients stay, or get remote_header_rewrite_domain", "[cleanup]") {
    Cleanup c("canonical_maps = inline:{ user@example.org=changed@example.org }\n");
    REQUIRE(c.submit(remote_mail("From: user@example.org\nTo: bare\n\n")));
    CHECK(c.header.find("From: user@example.org\nTo: bare\n") != std::string::npos);
    Cleanup d("remote_header_rewrite_domain = domain.invalid\n");
    REQUIRE(d.submit(remote_mail("From: user@x.example\nTo: bare (a, comment), Group: m1, <m2>;\n\n")));
    CHECK(d.header.find("From: user@x.example\nTo: bare@domain.invalid (a, comment), Group: m1@domain.invalid, <m2@domain.invalid>;\n") !=
          std::string::npos);
}

TEST_CASE("virtual aliases are expanded, nested and without duplicates", "[cleanup]") {
    Cleanup c("virtual_alias_maps = inline:{ { team@example.org = a, b@x.example, sub@example.org } "
              "{ sub@example.org = b@x.example, c@x.example } { self@example.org = self@example.org, copy@x.example } }\n"
              "recipient_delimiter = +\n");
    queue::Begin begin = remote_mail("\n");
    begin.envelope.recipients = {{"team@example.org", "", "", 0}, {"self+ext@example.org", "", "", 0}, {"plain@x.example", "", "", 0}};
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.recipients() == "a@example.org(team@example.org) b@x.example(team@example.org) c@x.example(team@example.org) "
                            "self+ext@example.org copy+ext@x.example(self+ext@example.org) plain@x.example");
}

TEST_CASE("a name without a domain stands for addresses at myorigin and mydestination", "[cleanup]") {
    Cleanup c("myorigin = origin.example\nmydestination = here.example\nvirtual_alias_maps = inline:{ user=else@x.example }\n");
    queue::Begin begin = remote_mail("\n");
    begin.envelope.recipients = {{"user@origin.example", "", "", 0}, {"user@here.example", "", "", 0}, {"user@y.example", "", "", 0}};
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.recipients() == "else@x.example(user@origin.example) else@x.example(user@here.example) user@y.example");
}

TEST_CASE("an alias of several tells the sender that it was expanded, and its members tell no success", "[cleanup]") {
    Cleanup c("virtual_alias_maps = inline:{ { team@example.org = a@x.example, team@example.org } { one@example.org = b@x.example } }\n");
    constexpr std::uint8_t kSuccess = queue::kNotifySuccess;
    queue::Begin begin = remote_mail("\n");
    begin.envelope.recipients = {{"team@example.org", "", "rfc822;t", kSuccess},
                                 {"team@example.org", "", "", kSuccess | queue::kNotifyDelay},
                                 {"team@example.org", "", "", kSuccess | queue::kNotifyDelay},
                                 {"one@example.org", "", "", kSuccess},
                                 {"team@example.org", "", "", queue::kNotifyFailure}};
    REQUIRE(c.submit(std::move(begin)));
    std::string all;
    for (const queue::Recipient& r : c.envelope.recipients) {
        all += r.address + " " + r.original + " " + r.dsn_orcpt + " " + std::to_string(r.notify) + "\n";
    }
    CHECK(all == "a@x.example team@example.org rfc822;t 8\nteam@example.org  rfc822;t 8\n"
                 "a@x.example team@example.org  4\nteam@example.org   4\n"
                 "b@x.example one@example.org  1\n"
                 "a@x.example team@example.org  2\nteam@example.org   2\n"
                 "team@example.org  rfc822;t 1\nteam@example.org   1\n");
    CHECK(c.journal.empty());
    const queue::JournalState state = queue::replay(c.journal, c.envelope.recipients);
    CHECK(state.unfinished() == 7);
    for (const std::size_t alias : {std::size_t{7}, std::size_t{8}}) {
        CHECK(state.recipients[alias].finished());
        CHECK_FALSE(state.recipients[alias].success_reported);
        CHECK(state.recipients[alias].last.action == "expanded");
        CHECK(state.recipients[alias].last.text == "alias expanded");
        CHECK(state.recipients[alias].last.dsn == "2.0.0");
    }
}

TEST_CASE("nobody but cleanup says that an alias was expanded", "[cleanup]") {
    Cleanup c("virtual_alias_maps = inline:{ { team@example.org = a@x.example, b@x.example } { one@example.org = b@x.example } }\n");
    queue::Begin begin = remote_mail("\n");
    begin.envelope.recipients = {{"team@example.org", "", "", 0, true}, {"one@example.org", "", "", queue::kNotifySuccess, true}};
    REQUIRE(c.submit(std::move(begin)));
    REQUIRE(c.envelope.recipients.size() == 3);
    for (const queue::Recipient& recipient : c.envelope.recipients) {
        CHECK_FALSE(recipient.expanded);
    }
}

TEST_CASE("enable_original_recipient decides what a duplicate is", "[cleanup]") {
    const std::string maps = "virtual_alias_maps = inline:{ alias@example.org=a@x.example }\n";
    queue::Begin begin = remote_mail("\n");
    begin.envelope.recipients = {{"a@x.example", "", "", 0}, {"alias@example.org", "", "", 0}, {"A@x.example", "", "", 0}};
    queue::Begin again = remote_mail("\n");
    again.envelope.recipients = begin.envelope.recipients;
    Cleanup with(maps);
    REQUIRE(with.submit(std::move(begin)));
    CHECK(with.recipients() == "a@x.example a@x.example(alias@example.org)");
    Cleanup without(maps + "enable_original_recipient = no\n");
    REQUIRE(without.submit(std::move(again)));
    CHECK(without.recipients() == "a@x.example");
}

TEST_CASE("an alias that explodes or loops defers the message", "[cleanup]") {
    Cleanup c("virtual_alias_maps = inline:{ { big@example.org = a@x, b@x, c@x, d@x } }\nvirtual_alias_expansion_limit = 3\n");
    queue::Begin begin = remote_mail("\n");
    begin.envelope.recipients = {{"big@example.org", "", "", 0}};
    CHECK_FALSE(c.submit(std::move(begin)));
    CHECK(c.refused.code == 451);
    CHECK(c.log.count("unreasonable virtual_alias_maps map expansion size") == 1);
    Cleanup d("virtual_alias_maps = inline:{ one@example.org=two@example.org, two@example.org=one@example.org }\n");
    queue::Begin loop = remote_mail("\n");
    loop.envelope.recipients = {{"one@example.org", "", "", 0}};
    CHECK_FALSE(d.submit(std::move(loop)));
    CHECK(d.refused.code == 451);
    CHECK(d.log.count("map nesting") == 1);
}

TEST_CASE("automatic copies go where they are configured, and not for bounces", "[cleanup]") {
    const std::string settings =
        "always_bcc = archive@example.org\nsender_bcc_maps = inline:{ from@remote.example=s@example.org }\n"
        "recipient_bcc_maps = inline:{ rcpt@example.org=r@example.org }\n";
    Cleanup c(settings);
    REQUIRE(c.submit(remote_mail("\n")));
    CHECK(c.recipients() == "rcpt@example.org r@example.org s@example.org archive@example.org");
    queue::Begin bounce = remote_mail("\n");
    bounce.add_bcc = false;
    REQUIRE(c.submit(std::move(bounce)));
    CHECK(c.recipients() == "rcpt@example.org");
}

TEST_CASE("no_address_mappings leaves the addresses alone", "[cleanup]") {
    Cleanup c("virtual_alias_maps = inline:{ rcpt@example.org=else@example.org }\n");
    queue::Begin begin = remote_mail("\n");
    begin.map_addresses = false;
    REQUIRE(c.submit(std::move(begin)));
    CHECK(c.recipients() == "rcpt@example.org");
}
