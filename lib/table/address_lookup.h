/// Looking up a mail address in a table by its parts, in the order of virtual(5), canonical(5), access(5).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/table/table.h"

namespace postern {

/// An address cut at its last "@"; `domain` is empty when there is none.
struct AddressParts {
    std::string_view local;
    std::string_view domain;
    bool has_domain = false;
};
AddressParts split_address(std::string_view address);

/// Where "user+foo" splits at one of `delimiters` (recipient_delimiter): the index of the delimiter, or npos.
/// As in Postfix: never at the first byte, not in "owner-..." / "...-request" when "-" is the delimiter
/// (`owner_request_special`), nor in mailer-daemon, postmaster and double-bounce.
std::size_t extension_start(std::string_view local, std::string_view delimiters, bool owner_request_special = true);

/// Which keys are tried, in this order.
enum AddressKeys : unsigned {
    kKeyFull = 1,            ///< user+ext@domain
    kKeyNoExtension = 2,     ///< then also without "+ext", for each form below too
    kKeyLocalIfLocal = 4,    ///< user+ext, user: when the domain is ours (`domain_is_local`)
    kKeyAtDomain = 8,        ///< @domain
    kKeyDomain = 16,         ///< domain, and its parents: "parent" or ".parent" as `parent_domains` says
    kKeyLocalAt = 32,        ///< user+ext@, user@
    /// virtual_alias_maps, canonical_maps, relocated_maps, *_bcc_maps, virtual_mailbox_maps.
    kKeysRewriting = kKeyFull | kKeyNoExtension | kKeyLocalIfLocal | kKeyAtDomain,
    /// check_sender_access and check_recipient_access.
    kKeysAccess = kKeyFull | kKeyNoExtension | kKeyDomain | kKeyLocalAt,
    /// transport_maps.
    kKeysTransport = kKeyFull | kKeyNoExtension | kKeyDomain,
};

struct AddressHit {
    std::string value;
    std::string key;         ///< what was found
    std::string extension;   ///< with its delimiter, when the hit was for a key without it; else empty
    std::string table;       ///< "type:name"
};

struct AddressQuery {
    std::string_view address;            ///< user+ext@domain, unquoted (internal form)
    unsigned keys = kKeysRewriting;
    std::string_view delimiters;         ///< recipient_delimiter; empty: no extensions
    bool domain_is_local = false;        ///< for kKeyLocalIfLocal
    bool parent_domains = false;         ///< kKeyDomain: parents as "parent" (true) or ".parent" (false)
};

/// The first hit.  Pattern tables see only the whole address (kKeyFull).  Errors: as TableList::lookup().
Result<std::optional<AddressHit>> lookup_address(TableList& tables, const AddressQuery& query);

}  // namespace postern
