/// What all deliveries of one local(8) process share: settings, tables, and who may do what.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/config/config.h"
#include "lib/queue/cleanup_client.h"
#include "lib/route/router.h"
#include "lib/table/table.h"
#include "local/accounts.h"
#include "local/agent.h"
#include "local/mailbox_file.h"

namespace postern::local {

/// How a recipient came to be; also the names in allow_mail_to_commands and allow_mail_to_files.
enum class Expansion : unsigned char { none, alias, forward, include };

class LocalTables {
public:
    /// Opens everything; `config` outlives the object.  Errors: those of open_table(); config.
    static Result<std::unique_ptr<LocalTables>> create(const Config& config, const TableContext& context);

    const Config& config;
    std::unique_ptr<Router> router;
    TableList alias_maps, mailbox_transport_maps, mailbox_command_maps, fallback_transport_maps;
    MailboxRules mailbox_rules_, file_rules;
    UserIdentity default_rights;            ///< default_privs
    gid_t spool_group = 0;                  ///< of mail_spool_directory
    Accounts accounts;

    bool may_run_commands(Expansion how) const { return listed(config.allow_mail_to_commands(), how); }
    bool may_write_files(Expansion how) const { return listed(config.allow_mail_to_files(), how); }
    /// prepend_delivered_header: "command", "file", "forward".
    bool prepends_delivered(std::string_view where) const;
    /// propagate_unmatched_extensions.
    bool propagates_extension(Expansion how) const { return listed(config.propagate_unmatched_extensions(), how); }

    /// Who owns the file behind the table `name`; root when it has none.
    static uid_t table_owner(const std::string& name);

    queue::CleanupClients cleanup;

private:
    explicit LocalTables(const Config& settings);
    static bool listed(const std::string& list, Expansion how);
};

}  // namespace postern::local
