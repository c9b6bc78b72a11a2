/// Delivery to mailboxes that are listed in tables and belong to no system account.
#pragma once

#include <memory>

#include "lib/config/config.h"
#include "lib/table/table.h"
#include "local/agent.h"
#include "local/mailbox_file.h"

namespace postern::local {

class VirtualDelivery {
public:
    /// Opens virtual_mailbox_maps, virtual_uid_maps, virtual_gid_maps.  `config` outlives the object.
    /// Errors: those of open_table(); config.
    static Result<std::unique_ptr<VirtualDelivery>> create(const Config& config, const TableContext& context);

    Task<Outcome> deliver(MessagePtr message, std::size_t index);

private:
    explicit VirtualDelivery(const Config& config) : config_(config) {}
    Result<std::optional<std::string>> find(TableList& maps, const std::string& address);
    /// The rights for a mailbox; an Outcome when they cannot be told.
    std::optional<Outcome> find_rights(const std::string& address, UserIdentity& user);
    std::optional<Outcome> find_id(TableList& maps, const std::string& address, long minimum, std::uint32_t& id);

    const Config& config_;
    TableList mailbox_maps_, uid_maps_, gid_maps_;
    MailboxRules rules_;
};

}  // namespace postern::local
