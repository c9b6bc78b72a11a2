/// Which mail a session process opens for its user.
#pragma once

#include <string_view>

#include "lib/sasl/auth_messages.h"
#include "lib/store/store.h"

namespace postern {

class Config;

/// The place that auth(8) has for the user, or else mail_location.  `service`, "imap" or "pop3", is for the log.
store::AccountOptions session_account(const AuthUser& user, const Config& config, std::string_view service);

}  // namespace postern
