#include "lib/login/session_account.h"

#include "lib/config/config.h"

namespace postern {

store::AccountOptions session_account(const AuthUser& user, const Config& config) {
    store::AccountOptions options;
    options.location = user.mail_location.empty() ? config.mail_location() : user.mail_location;
    options.user = user.user;
    options.home = user.home;
    return options;
}

}  // namespace postern
