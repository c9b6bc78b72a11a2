#include "imapd/serve_session.h"

#include <memory>

#include "imapd/capability.h"
#include "imapd/session.h"
#include "lib/async/offload.h"
#include "lib/config/config.h"
#include "lib/log/log.h"

namespace postern::imapd {

namespace {

/// The account of this process's user: opened for the first client, shared by all.  A process serves one user, and
/// an account belongs to the process that opened it, so this is where it can live.
struct ProcessAccount {
    explicit ProcessAccount(std::unique_ptr<store::Account> opened) : account(std::move(opened)), appends(*account) {}
    std::unique_ptr<store::Account> account;
    AppendQueue appends;
};

std::unique_ptr<ProcessAccount>& process_account() {
    static std::unique_ptr<ProcessAccount> account;
    return account;
}

store::AccountOptions account_options(const AuthUser& user, const Config& config) {
    store::AccountOptions options;
    options.location = user.mail_location.empty() ? config.mail_location() : user.mail_location;
    options.user = user.user;
    options.home = user.home;
    const std::string& separator = config.namespace_separator();
    options.separator = separator.empty() ? '\0' : separator.front();
    return options;
}

}  // namespace

Task<> serve_session(SessionConnection connection, const Config& config) {
    std::unique_ptr<ProcessAccount>& account = process_account();
    if (account == nullptr) {
        Result<std::unique_ptr<store::Account>> opened =
            store::Account::open(account_options(*connection.user, config));
        if (!opened) {
            log_error("imap({})<{}>: {}", connection.user->user, connection.info.session_id, opened.error().what);
            connection.stream->write(connection.info.prelude +
                                     " NO [UNAVAILABLE] Mail cannot be opened. Refer to server log for more "
                                     "information.\r\n* BYE Internal error occurred.\r\n");
            [[maybe_unused]] const Result<void> sent =
                co_await connection.stream->flush(std::chrono::seconds(10));
            connection.stream->close();
            co_return;
        }
        account = std::make_unique<ProcessAccount>(std::move(*opened));
    }
    ClientInfo info;
    info.user = connection.user->user;
    info.session_id = connection.info.session_id;
    std::string greeting = connection.info.prelude + " OK [CAPABILITY " +
                           session_capabilities(config) + "] Logged in\r\n";
    Session session(std::move(connection.stream), *account->account, account->appends, config, std::move(info));
    co_await session.run(std::move(greeting));
}

}  // namespace postern::imapd
