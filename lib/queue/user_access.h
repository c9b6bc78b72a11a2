/// What local users may do with the commands: authorized_submit_users, authorized_flush_users, authorized_mailq_users,
/// local_login_sender_maps.
///
/// The commands are set-gid: whoever asks is the real user id of the process, whatever the environment says.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern::queue {

/// The login name of the calling user, or "unknown", which a list may name too.
std::string login_name();

/// Whether `user` is in the list `value` of parameter `name`: user names, "!name", "/file/name", "type:table".
/// "static:anyone", the default, opens no table.  Errors: those of MatchList.
Result<bool> user_listed(const Config& config, std::string_view name, std::string_view value, const std::string& user);

/// Whether the calling user may have the envelope sender `sender` (internal form, without < >; empty: the null
/// sender), by local_login_sender_maps.  They are asked for the login name, or "uid:NUMBER", and answer with patterns:
/// "*" (any), "<>" (the null sender, as empty_address_local_login_sender_maps_lookup_key writes it), "@domain", an
/// address without extension.  The default, static:*, opens no table.
/// Errors: denied, with Postfix's text; temporary and config where a table does not answer.
Result<void> check_login_sender(const Config& config, const std::string& sender);

/// Whether a submission has to pass through postdrop(1), which applies both: nobody else may be believed.
bool submission_is_restricted(const Config& config);

}  // namespace postern::queue
