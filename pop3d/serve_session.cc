#include "pop3d/serve_session.h"

#include <memory>

#include <unistd.h>

#include "lib/config/config.h"
#include "lib/log/log.h"
#include "pop3d/session.h"

namespace postern::pop3d {

namespace {

/// The account of this process's user: opened for the first client, shared by all.  A process serves one user, and
/// an account belongs to the process that opened it, so this is where it can live.
std::unique_ptr<store::Account>& process_account() {
    static std::unique_ptr<store::Account> account;
    return account;
}

store::AccountOptions account_options(const AuthUser& user, const Config& config) {
    store::AccountOptions options;
    options.location = user.mail_location.empty() ? config.mail_location() : user.mail_location;
    options.user = user.user;
    options.home = user.home;
    return options;
}

}  // namespace

Task<> serve_session(SessionConnection connection, const Config& config) {
    std::unique_ptr<store::Account>& account = process_account();
    if (account == nullptr) {
        Result<std::unique_ptr<store::Account>> opened =
            store::Account::open(account_options(*connection.user, config));
        if (!opened) {
            log_error("pop3({})<{}><{}>: {}", connection.user->user, ::getpid(), connection.info.session_id,
                      opened.error().what);
            connection.stream->write("-ERR [SYS/TEMP] Mail cannot be opened. Refer to server log for more information.\r\n");
            co_await connection.stream->flush(std::chrono::seconds(10));
            connection.stream->close();
            co_return;
        }
        account = std::move(*opened);
    }
    ClientInfo info;
    info.user = connection.user->user;
    info.session_id = connection.info.session_id;
    Session session(std::move(connection.stream), *account, config, std::move(info));
    co_await session.run();
}

}  // namespace postern::pop3d
