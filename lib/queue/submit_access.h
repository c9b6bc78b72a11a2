/// authorized_submit_users: who may submit mail with sendmail(1) and postdrop(1).
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern::queue {

/// `list` is the parameter: user names, "!name", "static:anything", "/file/name" with such elements, first match
/// decides.  Other tables are not consulted here, so that the commands stay small: config error.
Result<bool> may_submit(std::string_view list, const std::string& user);

/// The login name of the calling user, or "unknown".
std::string login_name();

}  // namespace postern::queue
