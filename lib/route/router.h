/// Where mail for an address goes: Postfix's trivial-rewrite(8) as a library.
///
/// Everything here is synchronous: tables are local, or answered by proxymap(8) over a local socket.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/table.h"

namespace postern {

class Config;

/// What a domain is to this system (ADDRESS_CLASS_README).
enum class AddressClass : unsigned char {
    local,            ///< mydestination, or an address literal of inet_interfaces / proxy_interfaces
    virtual_alias,    ///< virtual_alias_domains
    virtual_mailbox,  ///< virtual_mailbox_domains
    relay,            ///< relay_domains
    other,            ///< the default class: mail for the rest of the world
};

/// The answer of resolve().
struct Route {
    std::string transport;   ///< a service name of master.cf; error_service_name with the text in `nexthop`
    std::string nexthop;     ///< host, domain, [host]:port, or what the transport wants
    std::string recipient;   ///< the address as the transport shall see it, unquoted
    AddressClass address_class = AddressClass::other;
    bool bad_address = false;   ///< not a usable address: the transport is error_service_name (5.1.3)
    bool source_routed = false; ///< sender-specified routing is in the local part (user@a@b, a!b, a%b): smtpd refuses to relay it
};

/// Which domain completes an address that lacks one.
enum class RewriteContext : unsigned char {
    local,    ///< $myorigin and .$mydomain: all envelopes; headers from this system or local_header_rewrite_clients
    remote,   ///< remote_header_rewrite_domain: headers from elsewhere; when it is empty nothing is appended
};

/// What smtpd's reject_unlisted_recipient and _sender ask.
struct Listing {
    bool known = true;
    std::string table_text;      ///< "local recipient table": for "User unknown in ..."; empty when
                                 ///< show_user_unknown_table_name = no
    std::string code_parameter;  ///< "unknown_local_recipient_reject_code"
    int reply_code = 550;        ///< that parameter's value
    std::string error_text;      ///< the transport is "error", or "retry" with the code 450: its text, perhaps with a DSN code
                                 ///< in front; then the other texts are empty
};

/// Probes of verify(8) may be routed otherwise than mail: by the address_verify_* parameters.
enum class RouteFor : unsigned char { mail, probes };

class Router {
public:
    /// Opens every table that routing needs.  `config` outlives the router.
    /// Errors: config, not_found and others of open_table(), with the parameter's name.
    static Result<std::unique_ptr<Router>> create(const Config& config, const TableContext& context,
                                                  RouteFor purpose = RouteFor::mail);
    virtual ~Router() = default;

    /// The class of a domain ("example.com", "[192.0.2.1]").  Errors: temporary.
    virtual Result<AddressClass> classify(std::string_view domain) = 0;
    /// True for the local class: resolve_local() of Postfix.
    virtual Result<bool> is_local(std::string_view domain) = 0;

    /// Completes an address (unquoted form): swap_bangpath, allow_percent_hack, append_at_myorigin,
    /// append_dot_mydomain, source routes.  The null sender stays empty; idempotent.
    virtual std::string rewrite_address(std::string_view address, RewriteContext context) const = 0;

    /// Chooses transport, next hop and final recipient for a rewritten address: address class, relayhost,
    /// sender_dependent_relayhost_maps and sender_dependent_default_transport_maps (with `sender`),
    /// transport_maps, relocated_maps.  Errors: temporary (defer the recipient; 451 4.3.0 in smtpd).
    virtual Result<Route> resolve(std::string_view sender, std::string_view recipient) = 0;

    /// Whether some table lists a rewritten address in a class whose recipients are listed.
    /// Errors: temporary.
    virtual Result<Listing> recipient_known(std::string_view address) = 0;
    /// The same for a sender (reject_unlisted_sender).  The null sender is known.
    virtual Result<Listing> sender_known(std::string_view address) = 0;

    /// True for an address of this host: inet_interfaces and proxy_interfaces.
    virtual bool is_own_address(std::string_view ip) const = 0;
};

}  // namespace postern
