// lib/route: address classes, rewriting, transports and next hops, and who is a known recipient.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <cstdlib>

#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/log/capture.h"
#include "lib/route/router.h"

using namespace postern;

namespace {

constexpr const char* kBase =
    "myhostname = mail.example.com\n"
    "mydomain = example.com\n"
    "myorigin = example.com\n"
    "mydestination = mail.example.com, example.com, localhost\n"
    "inet_interfaces = 127.0.0.1, [::1]\n"
    "virtual_alias_domains = alias.example\n"
    "virtual_alias_maps = inline:{info@alias.example=user@example.com}\n"
    "virtual_mailbox_domains = boxes.example\n"
    "virtual_mailbox_maps = inline:{a@boxes.example=a/}\n"
    "relay_domains = relay.example\n"
    "relay_recipient_maps = inline:{known@relay.example=x}\n"
    "local_recipient_maps = inline:{user=x,tagged=x}\n"
    "alias_maps =\n"
    "recipient_delimiter = +\n"
    "swap_bangpath = yes\n"
    "allow_percent_hack = yes\n"
    "append_dot_mydomain = yes\n";

struct Fixture {
    Config config;
    std::unique_ptr<Router> router;
    explicit Fixture(const std::string& more = "") : config(load(more)) {
        Result<std::unique_ptr<Router>> made = Router::create(config, {});
        INFO((made ? "" : made.error().what));
        REQUIRE(made);
        router = std::move(*made);
    }
    static Config load(const std::string& more) {
        Result<Config> loaded = Config::from_text(kBase + more);
        INFO((loaded ? "" : loaded.error().what));
        REQUIRE(loaded);
        return std::move(*loaded);
    }
    /// "transport:nexthop recipient", with " routed" or " bad".
    std::string to(std::string_view recipient, std::string_view sender = "s@sender.example") {
        const Result<Route> route = router->resolve(sender, recipient);
        if (!route) {
            return "!" + route.error().what;
        }
        return route->transport + ":" + route->nexthop + " " + route->recipient + (route->source_routed ? " routed" : "") +
               (route->bad_address ? " bad" : "");
    }
    std::string known(std::string_view address) {
        const Result<Listing> listing = router->recipient_known(address);
        if (!listing) {
            return "!" + listing.error().what;
        }
        return listing->known ? "known" : std::to_string(listing->reply_code) + " " + listing->table_text + listing->error_text;
    }
    std::string rewritten(std::string_view address, RewriteContext context = RewriteContext::local) {
        return router->rewrite_address(address, context);
    }
};

}  // namespace

TEST_CASE("domains are classified in Postfix's order", "[route]") {
    Fixture f;
    CHECK(*f.router->classify("Example.COM") == AddressClass::local);
    CHECK(*f.router->classify("example.com.") == AddressClass::local);
    CHECK(*f.router->classify("[127.0.0.1]") == AddressClass::local);
    CHECK(*f.router->classify("[IPv6:::1]") == AddressClass::local);
    CHECK(*f.router->classify("[192.0.2.1]") == AddressClass::other);
    CHECK(*f.router->classify("alias.example") == AddressClass::virtual_alias);
    CHECK(*f.router->classify("boxes.example") == AddressClass::virtual_mailbox);
    CHECK(*f.router->classify("relay.example") == AddressClass::relay);
    CHECK(*f.router->classify("sub.relay.example") == AddressClass::relay);
    CHECK(*f.router->classify("sub.boxes.example") == AddressClass::other);
    CHECK(f.router->is_own_address("127.0.0.1"));
    CHECK_FALSE(f.router->is_own_address("127.0.0.2"));
}

TEST_CASE("addresses are completed", "[route]") {
    Fixture f;
    CHECK(f.rewritten("user") == "user@example.com");
    CHECK(f.rewritten("user@host") == "user@host.example.com");
    CHECK(f.rewritten("user@host.example.org.") == "user@host.example.org");
    CHECK(f.rewritten("user@[192.0.2.1]") == "user@[192.0.2.1]");
    CHECK(f.rewritten("site!user") == "user@site.example.com");
    CHECK(f.rewritten("a.example!b.example!user") == "b.example!user@a.example");
    CHECK(f.rewritten("user%host") == "user@host.example.com");
    CHECK(f.rewritten("user%a.example@b.example") == "user%a.example@b.example");
    CHECK(f.rewritten("@a.example,@b.example:user@c.example") == "user@c.example");
    CHECK(f.rewritten("").empty());
    CHECK(f.rewritten("@").empty());
    CHECK(f.rewritten("user@") == "user@");
    CHECK(f.rewritten(f.rewritten("user")) == f.rewritten("user"));
    CHECK(f.rewritten("user", RewriteContext::remote) == "user");
    CHECK(f.rewritten("user@host", RewriteContext::remote) == "user@host");
    Fixture other("remote_header_rewrite_domain = domain.invalid\nappend_dot_mydomain = yes\n");
    CHECK(other.rewritten("user", RewriteContext::remote) == "user@domain.invalid");
    Fixture plain("swap_bangpath = no\nallow_percent_hack = no\nappend_at_myorigin = no\nappend_dot_mydomain = no\n");
    CHECK(plain.rewritten("a!b%c") == "a!b%c");
    CHECK(plain.rewritten("a@b") == "a@b");
}

TEST_CASE("each class has its transport", "[route]") {
    Fixture f;
    CHECK(f.to("user@example.com") == "local:mail.example.com user@example.com");
    CHECK(f.to("user") == "local:mail.example.com user@mail.example.com");
    CHECK(f.to("user@[127.0.0.1]") == "local:mail.example.com user@[127.0.0.1]");
    CHECK(f.to("a@boxes.example") == "virtual:boxes.example a@boxes.example");
    CHECK(f.to("b@alias.example") == "error:5.1.1 User unknown in virtual alias table b@alias.example");
    CHECK(f.to("c@relay.example") == "relay:relay.example c@relay.example");
    CHECK(f.to("d@far.example") == "smtp:far.example d@far.example");
    CHECK(f.to("") == "local:mail.example.com MAILER-DAEMON@mail.example.com");
    CHECK(f.to("@example.com") == "local:mail.example.com MAILER-DAEMON@example.com");
}

TEST_CASE("routing inside our own domains is followed, and what is left is marked", "[route]") {
    Fixture f;
    CHECK(f.to("user%far.example@example.com") == "smtp:far.example user@far.example");
    CHECK(f.to("far.example!user@example.com") == "smtp:far.example user@far.example");
    CHECK(f.to("user@far.example@example.com") == "smtp:far.example user@far.example");
    CHECK(f.to("user%a.example@far.example") == "smtp:far.example user%a.example@far.example routed");
    CHECK(f.to("user@a.example@far.example") == "smtp:far.example user@a.example@far.example routed");
    CHECK(f.to("user@example.com@localhost") == "local:mail.example.com user@example.com");
    Fixture plain("swap_bangpath = no\nallow_percent_hack = no\n");
    CHECK(plain.to("user%far.example@example.com") == "local:mail.example.com user%far.example@example.com routed");
}

TEST_CASE("what is no domain is an error", "[route]") {
    Fixture f;
    CHECK(f.to("user@-bad-.example") == "error:5.1.3 bad address syntax user@-bad-.example bad");
    CHECK(f.to("-o@far.example") == "error:5.1.3 bad address syntax -o@far.example bad");
    Fixture allowed("allow_min_user = yes\n");
    CHECK(allowed.to("-o@far.example") == "smtp:far.example -o@far.example");
    CHECK(f.to("user@[300.1.1.1]") == "error:5.1.3 bad address syntax user@[300.1.1.1] bad");
    CHECK(f.to("user@a..b") == "error:5.1.3 bad address syntax user@a..b bad");
}

TEST_CASE("relayhost takes what is not delivered here", "[route]") {
    Fixture f("relayhost = [mx.isp.example]:587\n"
              "sender_dependent_relayhost_maps = inline:{s@own.example=[own.example],@dunno.example=DUNNO,<>=[null.example]}\n");
    CHECK(f.to("d@far.example") == "smtp:[mx.isp.example]:587 d@far.example");
    CHECK(f.to("d@relay.example") == "relay:[mx.isp.example]:587 d@relay.example");
    CHECK(f.to("d@boxes.example") == "virtual:boxes.example d@boxes.example");
    CHECK(f.to("d@far.example", "s@own.example") == "smtp:[own.example] d@far.example");
    CHECK(f.to("d@far.example", "x@dunno.example") == "smtp:[mx.isp.example]:587 d@far.example");
    CHECK(f.to("d@far.example", "") == "smtp:[null.example] d@far.example");
}

TEST_CASE("default transports may depend on the sender and name a next hop", "[route]") {
    Fixture f("default_transport = smtp:[gw.example]\n"
              "sender_dependent_default_transport_maps = inline:{@s.example=slow:}\n");
    CHECK(f.to("d@far.example") == "smtp:[gw.example] d@far.example");
    CHECK(f.to("d@far.example", "x@s.example") == "slow:far.example d@far.example");
    Fixture none("default_transport = error:5.7.1 outside delivery is disabled\n");
    CHECK(none.to("d@far.example") == "error:5.7.1 outside delivery is disabled d@far.example");
}

TEST_CASE("transport_maps override transport, next hop, or both", "[route]") {
    Fixture f("transport_maps = inline:{{full@far.example = one:[h1]}, {far.example = two:}, {.sub.example = :[h3]}, "
              "{user@example.com = error:no more}, {err.example = error:}, {noop.example = :}, {all@alias.example = x:y}}\n"
              "relayhost = [gw]\n");
    CHECK(f.to("full@far.example") == "one:[h1] full@far.example");
    CHECK(f.to("full+x@far.example") == "one:[h1] full+x@far.example");
    CHECK(f.to("other@far.example") == "two:far.example other@far.example");
    CHECK(f.to("a@b.sub.example") == "smtp:[h3] a@b.sub.example");
    CHECK(f.to("user@example.com") == "error:no more user@example.com");
    CHECK(f.to("x@err.example") == "error:Address is undeliverable x@err.example");
    CHECK(f.to("x@noop.example") == "smtp:[gw] x@noop.example");
    CHECK(f.to("all@alias.example").substr(0, 6) == "error:");
    Fixture star("transport_maps = inline:{{*=error:closed}, {open.example=:}}\n");
    CHECK(star.to("x@far.example") == "error:closed x@far.example");
    CHECK(star.to("x@open.example") == "smtp:open.example x@open.example");
    Fixture failing("transport_maps = fail:x\n");
    CHECK(failing.to("x@far.example") == "!transport_maps: fail:x: lookup error");
}

TEST_CASE("addresses that are nearly right", "[route]") {
    Fixture f;
    CHECK(f.to("user@") == "error:5.1.3 bad address syntax user@ bad");
    CHECK(f.to("user@192.0.2.7") == "error:5.1.3 bad address syntax user@192.0.2.7 bad");
    CHECK(f.to("a@far.example@example.com") == "smtp:far.example a@far.example");
    CHECK(f.to("a@b@far.example") == "smtp:far.example a@b@far.example routed");
    Fixture lenient("resolve_null_domain = yes\nresolve_numeric_domain = yes\nresolve_dequoted_address = no\n");
    CHECK(lenient.to("user@") == f.to("user@" + f.config.myhostname()));
    CHECK(lenient.to("user@192.0.2.7") == "smtp:[192.0.2.7] user@[192.0.2.7]");
    CHECK(lenient.to("a@far.example@example.com") == "local:mail.example.com a@far.example@example.com routed");
    CHECK(lenient.to("a@b@far.example") == "smtp:far.example a@b@far.example routed");
    CHECK(lenient.to("a%far.example@example.com") == "smtp:far.example a@far.example");
}

TEST_CASE("people who have moved are bounced to where they went", "[route]") {
    Fixture f("relocated_maps = inline:{user=new@place.example,@old.example=elsewhere,{c@far.example = 5.2.1 closed}}\n");
    Fixture plain("relocated_maps = inline:{{c@far.example = 5.2.1 closed}}\nrelocated_prefix_enable = no\nerror_service_name = nope\n");
    CHECK(plain.to("c@far.example") == "nope:5.2.1 closed c@far.example");
    CHECK(f.to("user@example.com") == "error:5.1.6 User has moved to new@place.example user@example.com");
    CHECK(f.to("x@old.example") == "error:5.1.6 User has moved to elsewhere x@old.example");
    CHECK(f.to("c@far.example") == "error:5.1.6 User has moved to 5.2.1 closed c@far.example");
    CHECK(f.to("user@far.example") == "smtp:far.example user@far.example");
    Fixture origin("myorigin = far.example\nrelocated_maps = inline:{user=new@place.example}\n");
    CHECK(origin.to("user@far.example") == "error:5.1.6 User has moved to new@place.example user@far.example");
}

TEST_CASE("unknown recipients are told from known ones by the class's table", "[route]") {
    Fixture f;
    CHECK(f.known("user@example.com") == "known");
    CHECK(f.known("User+tag@EXAMPLE.com") == "known");
    CHECK(f.known("nobody@example.com") == "550 local recipient table");
    CHECK(f.known("info@alias.example") == "known");
    CHECK(f.known("x@alias.example") == "550 virtual alias table");
    CHECK(f.known("a@boxes.example") == "known");
    CHECK(f.known("b@boxes.example") == "550 virtual mailbox table");
    CHECK(f.known("known@relay.example") == "known");
    CHECK(f.known("b@relay.example") == "550 relay recipient table");
    CHECK(f.known("anyone@far.example") == "known");
    Fixture open("local_recipient_maps =\nshow_user_unknown_table_name = no\nunknown_relay_recipient_reject_code = 450\n");
    CHECK(open.known("nobody@example.com") == "known");
    CHECK(open.known("b@relay.example") == "450 ");
    Fixture canonical("canonical_maps = inline:{@example.com=x@y.example}\n");
    CHECK(canonical.known("nobody@example.com") == "known");
    Fixture failing("local_recipient_maps = fail:x\n");
    CHECK(failing.known("user@example.com").substr(0, 1) == "!");
    Fixture closed("transport_maps = inline:{{user@example.com = error:5.2.1 closed}}\n");
    CHECK(closed.known("user@example.com") == "550 5.2.1 closed");
}

TEST_CASE("sender listing uses the sender's canonical maps", "[route]") {
    Fixture f("sender_canonical_maps = inline:{nobody@example.com=x}\n");
    CHECK(f.router->sender_known("")->known);
    CHECK(f.router->sender_known("nobody@example.com")->known);
    CHECK_FALSE(f.router->sender_known("other@example.com")->known);
    CHECK(f.known("nobody@example.com") == "550 local recipient table");
}

TEST_CASE("an address does not choose its route", "[route]") {
    char path[] = "/tmp/route-test-XXXXXX";
    const UniqueFd file(::mkstemp(path));
    const std::string rules = "/^(.*)@[su]\\.example$/ smtp:[$1.example]\n";
    REQUIRE(::write(file.get(), rules.data(), rules.size()) == static_cast<ssize_t>(rules.size()));
    const std::string table = std::string(" = regexp:") + path + "\n";
    LogCapture log;
    Fixture f("transport_maps" + table + "sender_dependent_relayhost_maps" + table + "sender_dependent_default_transport_maps" + table);
    ::unlink(path);
    CHECK(log.count("regular expression substitution is not allowed: skipping this rule") == 3);
    CHECK(f.to("evil@t.example", "evil@s.example") == "smtp:t.example evil@t.example");
    CHECK(f.to("x@u.example") == "smtp:u.example x@u.example");
}

TEST_CASE("tables that cannot be opened are named with their parameter", "[route]") {
    const Config config = Fixture::load("transport_maps = lmdb:/no/such\n");
    const Result<std::unique_ptr<Router>> router = Router::create(config, {});
    REQUIRE(!router);
    CHECK(router.error().what.substr(0, 42) == "transport_maps: open lmdb:/no/such: open /");
}
