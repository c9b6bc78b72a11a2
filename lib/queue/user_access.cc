#include "lib/queue/user_access.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/table/address_lookup.h"
#include "lib/table/match_list.h"

namespace postern::queue {
namespace {

constexpr std::string_view kAnyone = "static:anyone";
constexpr std::string_view kAnySender = "static:*";

/// The key of local_login_sender_maps.
std::string login_key() {
    const struct passwd* entry = ::getpwuid(::getuid());
    return entry != nullptr ? entry->pw_name : fmt::format("uid:{}", ::getuid());
}

/// `address` without its extension, in lower case.
std::string bare_sender(const std::string& address, std::string_view delimiters) {
    const AddressParts parts = split_address(address);
    std::string bare(parts.local.substr(0, extension_start(parts.local, delimiters)));
    if (parts.has_domain) {
        bare += "@" + std::string(parts.domain);
    }
    return to_lower(bare);
}

bool pattern_allows(std::string_view pattern, const std::string& bare, std::string_view null_sender) {
    if (pattern == "*") {
        return true;
    }
    if (pattern == null_sender) {
        return bare.empty();
    }
    const std::string folded = to_lower(pattern);
    if (folded.starts_with('@')) {
        const std::size_t at = bare.rfind('@');
        return at != std::string::npos && std::string_view(bare).substr(at) == folded;
    }
    return !bare.empty() && folded == bare;
}

}  // namespace

std::string login_name() {
    const struct passwd* entry = ::getpwuid(::getuid());
    return entry != nullptr ? entry->pw_name : "unknown";
}

Result<bool> user_listed(const Config& config, std::string_view name, std::string_view value, const std::string& user) {
    if (value == kAnyone) {
        return true;
    }
    Result<MatchList> list = MatchList::open(name, value, MatchKind::string, false, command_table_context(config));
    if (!list) {
        return list.error();
    }
    return list->matches(user);
}

Result<void> check_login_sender(const Config& config, const std::string& sender) {
    const std::string& maps = config.local_login_sender_maps();
    if (maps == kAnySender) {
        return {};
    }
    // Whatever a pattern table makes of the name, it stays one of the system's.
    Result<TableList> tables = TableList::open("local_login_sender_maps", maps, command_table_context(config));
    if (!tables) {
        return tables.error();
    }
    const Lookup patterns = tables->lookup(login_key());
    if (!patterns) {
        return patterns.error();
    }
    const std::string bare = bare_sender(sender, config.recipient_delimiter());
    if (*patterns) {
        for (const std::string& pattern : split_list(**patterns)) {
            if (pattern_allows(pattern, bare, config.empty_address_local_login_sender_maps_lookup_key())) {
                return {};
            }
        }
    }
    return Error(Errc::denied, fmt::format("{}({}): not authorized to use sender='{}'", sender, ::getuid(), sender));
}

bool submission_is_restricted(const Config& config) {
    return config.authorized_submit_users() != kAnyone || config.local_login_sender_maps() != kAnySender;
}

}  // namespace postern::queue
