#include "local/local_tables.h"

#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/open_lists.h"
#include "local/biff.h"

namespace postern::local {
namespace {

constexpr std::size_t kIdleCleanup = 8;

std::string_view expansion_name(Expansion how) {
    switch (how) {
        case Expansion::alias: return "alias";
        case Expansion::forward: return "forward";
        case Expansion::include: return "include";
        default: return "";
    }
}

/// default_privs; without root everything is done as ourselves.
Result<UserIdentity> rights_of(const std::string& name) {
    UserIdentity own;
    own.uid = geteuid();
    own.gid = getegid();
    own.groups = {own.gid};
    if (!changes_user()) {
        return own;
    }
    Result<UserIdentity> user = find_user(name);
    if (!user || user->uid == 0) {
        return Error(Errc::config, "default_privs: " + (user ? "must not be root" : user.error().what));
    }
    user->groups = {user->gid};
    return user;
}

}  // namespace

LocalTables::LocalTables(const Config& settings)
    : config(settings), cleanup("public/" + settings.cleanup_service_name(), kIdleCleanup) {}

Result<std::unique_ptr<LocalTables>> LocalTables::create(const Config& config, const TableContext& context) {
    std::unique_ptr<LocalTables> tables(new LocalTables(config));
    const Result<void> opened = open_lists({{tables->alias_maps, "alias_maps", config.alias_maps()},
                                            {tables->mailbox_transport_maps, "mailbox_transport_maps", config.mailbox_transport_maps()},
                                            {tables->mailbox_command_maps, "mailbox_command_maps", config.mailbox_command_maps()},
                                            {tables->fallback_transport_maps, "fallback_transport_maps", config.fallback_transport_maps()}},
                                           context.without_substitution());
    if (!opened) {
        return opened.error();
    }
    Result<std::unique_ptr<Router>> router = Router::create(config, context);
    if (!router) {
        return router.error();
    }
    tables->router = std::move(*router);
    Result<MailboxRules> rules = mailbox_rules(config, config.mailbox_delivery_lock(), "mailbox_size_limit", config.mailbox_size_limit());
    if (!rules) {
        return rules.error();
    }
    if (config.sun_mailtool_compatibility()) {
        log_warning("sun_mailtool_compatibility: deprecated parameter, use \"mailbox_delivery_lock = dotlock\" instead");
        rules->fcntl_lock = rules->flock_lock = false;
        if (!rules->dotlock) {
            return Error(Errc::config, "parameter mailbox_delivery_lock specifies no applicable mailbox locking method");
        }
    }
    tables->file_rules = *rules;
    tables->mailbox_rules_ = std::move(*rules);
    tables->mailbox_rules_.biff_port = config.biff() ? biff_port() : 0;
    tables->file_rules.strict_ownership = false;
    tables->file_rules.plain_file = true;
    Result<UserIdentity> rights = rights_of(config.default_privs());
    if (!rights) {
        return rights.error();
    }
    tables->default_rights = std::move(*rights);
    struct stat spool {};
    tables->spool_group = stat(config.mail_spool_directory().c_str(), &spool) == 0 ? spool.st_gid : getegid();
    return tables;
}

bool LocalTables::listed(const std::string& list, Expansion how) {
    for (const std::string& name : split_list(list)) {
        if (equals_ignoring_case(name, expansion_name(how))) {
            return true;
        }
    }
    return false;
}

bool LocalTables::prepends_delivered(std::string_view where) const {
    for (const std::string& name : split_list(config.prepend_delivered_header())) {
        if (equals_ignoring_case(name, where)) {
            return true;
        }
    }
    return false;
}

uid_t LocalTables::table_owner(const std::string& name) {
    const std::size_t colon = name.find(':');
    const std::string type = name.substr(0, colon);
    const std::string path = colon == std::string::npos ? std::string() : name.substr(colon + 1);
    for (const char* suffix : {".lmdb", ".cdb", ""}) {
        const bool may = suffix[0] ? type == "hash" || type == "btree" || type == suffix + 1 : type == "texthash";
        struct stat info {};
        if (may && stat((path + suffix).c_str(), &info) == 0) {
            return info.st_uid;
        }
    }
    return 0;
}

}  // namespace postern::local
