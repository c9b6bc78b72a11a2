/// Address rewriting of cleanup(8): canonical(5), virtual(5), masquerading, automatic Bcc.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/route/router.h"
#include "lib/table/address_lookup.h"
#include "lib/table/table.h"

namespace postern::cleanup {

/// Where an address stands: the bits of canonical_classes, masquerade_classes and friends.
enum AddressPlace : unsigned {
    kEnvelopeSender = 1,
    kEnvelopeRecipient = 2,
    kHeaderSender = 4,
    kHeaderRecipient = 8,
};

/// All tables that change addresses.  Addresses are in internal form.  Every function's errors are temporary
/// (a table cannot answer, or an expansion passes a limit): the message is not accepted now (451 4.3.0).
class AddressMaps {
public:
    /// `config` and `router` outlive the object.  Errors: as open_table(); config for a bad class name.
    static Result<std::unique_ptr<AddressMaps>> open(const Config& config, const TableContext& context, Router& router);

    /// Rewriting to standard form, canonical mapping and masquerading for one place.  `map` false: standard form
    /// only (no_address_mappings).  The null sender stays empty.
    Result<std::string> rewrite(std::string_view address, AddressPlace place, bool map);

    /// virtual_alias_maps: all addresses that `address` stands for, itself when there is no entry.
    Result<std::vector<std::string>> expand(const std::string& address);

    /// sender_bcc_maps, recipient_bcc_maps.
    Result<std::vector<std::string>> sender_bcc(std::string_view sender);
    Result<std::vector<std::string>> recipient_bcc(std::string_view recipient);

private:
    AddressMaps(const Config& config, Router& router) : config_(config), router_(router) {}
    Result<void> open_tables(const TableContext& context);
    Result<std::vector<std::string>> look_up(TableList& tables, std::string_view address, bool propagate);
    Result<std::string> canonical(TableList& tables, std::string address);
    std::string masquerade(std::string address) const;
    Result<void> expand_one(std::vector<std::string>& all, std::size_t at, std::vector<std::string>& settled);

    const Config& config_;
    Router& router_;
    TableList canonical_, sender_canonical_, recipient_canonical_, virtual_alias_, sender_bcc_, recipient_bcc_;
    unsigned canonical_classes_ = 0, sender_canonical_classes_ = 0, recipient_canonical_classes_ = 0;
    unsigned masquerade_classes_ = 0;
    bool propagate_canonical_ = false, propagate_virtual_ = false;
    std::vector<std::string> masquerade_domains_, masquerade_exceptions_;
};

}  // namespace postern::cleanup
