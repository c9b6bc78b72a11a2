#include "lib/login/session_account.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "lib/base/strings.h"
#include "lib/config/config.h"

namespace postern {
namespace {

/// "NAME=word, NAME=word": a mailbox's name may have blanks.
std::vector<std::pair<std::string, std::string>> pairs(std::string_view text) {
    std::vector<std::pair<std::string, std::string>> out;
    for (const std::string& one : split(text, ",")) {
        const std::size_t equals = one.rfind('=');
        if (equals != std::string::npos) {
            out.emplace_back(trim(std::string_view(one).substr(0, equals)), trim(std::string_view(one).substr(equals + 1)));
        }
    }
    return out;
}

}  // namespace

store::AccountOptions session_account(const AuthUser& user, const Config& config, std::string_view service) {
    store::AccountOptions options;
    options.location = user.mail_location.empty() ? config.mail_location() : user.mail_location;
    options.user = user.user;
    options.home = user.home;
    options.mbox_locking.read = store::parse_mbox_locks(config.mbox_read_locks());
    options.mbox_locking.write = store::parse_mbox_locks(config.mbox_write_locks());
    options.mbox_locking.timeout = config.mbox_lock_timeout();
    options.mbox_locking.privileged = !config.mail_privileged_group().empty();
    options.mbox_locking.stale = config.mbox_dotlock_change_timeout();
    options.special_use.clear();
    for (auto& [name, use] : pairs(config.mailbox_special_use())) {
        options.special_use.push_back({std::move(name), std::move(use)});
    }
    for (auto& [name, how] : pairs(config.mailbox_auto())) {
        options.auto_mailboxes.push_back({std::move(name), equals_ignoring_case(how, "subscribe")});
    }
    options.debug_as = config.mail_debug() ? fmt::format("{}({})<{}>: Debug", service, user.user, ::getpid()) : std::string();
    options.copy_with_hardlinks = config.maildir_copy_with_hardlinks();
    return options;
}

}  // namespace postern
