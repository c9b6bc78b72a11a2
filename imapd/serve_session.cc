#include "imapd/serve_session.h"

#include <fmt/format.h>

#include <memory>

#include "imapd/capability.h"
#include "imapd/session.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/login/running_session.h"
#include "lib/login/session_account.h"
#include "lib/store/open_account.h"

namespace postern::imapd {

namespace {

/// What the sessions of the process share: the user's account, and the queue of what is appended to it.
struct ProcessAccount {
    explicit ProcessAccount(std::shared_ptr<store::Account> opened) : account(std::move(opened)), appends(account) {}
    std::shared_ptr<store::Account> account;
    AppendQueue appends;
};
using SharedAccount = std::shared_ptr<ProcessAccount>;   ///< the process and its sessions own it

/// A process serves one user, and an account belongs to the process that opened it, so this is where it can live.
struct Accounts {
    store::OpenAccount open;
    SharedAccount newest;
};
Accounts& accounts() {
    static Accounts all;
    return all;
}

Result<SharedAccount> process_account(const store::AccountOptions& options, const std::string& prefix) {
    const Result<std::shared_ptr<store::Account>> account = accounts().open.get(options);
    if (!account) {
        return account.error();
    }
    if (!prefix.empty() && prefix.back() != (*account)->separator()) {
        return Error(Errc::config, fmt::format("parameter namespace_prefix: \"{}\" does not end in the separator, which is {}", prefix,
                                               (*account)->separator()));
    }
    SharedAccount& newest = accounts().newest;
    if (newest == nullptr || newest->account != *account) {
        newest = std::make_shared<ProcessAccount>(*account);
    }
    return newest;
}

store::AccountOptions account_options(const AuthUser& user, const Config& config) {
    store::AccountOptions options = session_account(user, config, "imap");
    const std::string& separator = config.namespace_separator();
    options.separator = separator.empty() ? '\0' : separator.front();
    return options;
}

}  // namespace

Task<> serve_session(SessionConnection connection, const Config& config) {
    const Result<SharedAccount> account = process_account(account_options(*connection.user, config), config.namespace_prefix());
    if (!account) {
        log_error("imap({})<{}>: {}", connection.user->user, connection.info.session_id, account.error().what);
        connection.stream->write(connection.info.prelude +
                                 " NO [UNAVAILABLE] Mail cannot be opened. Refer to server log for more "
                                 "information.\r\n* BYE Internal error occurred.\r\n");
        [[maybe_unused]] const Result<void> sent =
            co_await connection.stream->flush(std::chrono::seconds(10));
        connection.stream->close();
        co_return;
    }
    ClientInfo info;
    info.user = connection.user->user;
    info.session_id = connection.info.session_id;
    std::string greeting = connection.info.prelude + " OK [CAPABILITY " +
                           session_capabilities(config) + "] Logged in\r\n";
    Session session(std::move(connection.stream), *(*account)->account, (*account)->appends, config, std::move(info));
    const RunningSession running(session);
    co_await session.run(std::move(greeting));
}

void close_account() {
    accounts().newest.reset();
    accounts().open.close();
}

void stop_sessions() { RunningSession<Session>::stop_all(); }

}  // namespace postern::imapd
