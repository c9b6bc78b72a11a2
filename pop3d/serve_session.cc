#include "pop3d/serve_session.h"

#include <memory>

#include "lib/async/offload.h"
#include "lib/config/config.h"
#include "lib/login/running_session.h"
#include "lib/login/session_account.h"
#include "lib/store/open_account.h"
#include "pop3d/session.h"

namespace postern::pop3d {

namespace {

using SharedAccount = std::shared_ptr<store::Account>;   ///< the process and its sessions own it

/// What the newest session has learnt about sizes; replaced as a whole, so that a thread may read on in an old one.
using SharedSizes = std::shared_ptr<const KnownSizes>;
SharedSizes& process_sizes() {
    static SharedSizes sizes;
    return sizes;
}

/// A process serves one user, and an account belongs to the process that opened it, so this is where it can live.
store::OpenAccount& open_account() {
    static store::OpenAccount open;
    return open;
}

Result<SharedAccount> process_account(const store::AccountOptions& options) {
    static std::weak_ptr<store::Account> newest;
    Result<SharedAccount> account = open_account().get(options);
    if (account && newest.lock() != *account) {
        newest = *account;
        process_sizes().reset();   // of other messages
    }
    return account;
}

Task<OpenedMaildrop> open_maildrop(const AuthUser& user, const Config& config) {
    const Result<SharedAccount> account = process_account(session_account(user, config, "pop3"));
    if (!account) {
        co_return account.error();
    }
    const SharedSizes known = process_sizes();
    auto work = [shared = *account, known, &config] { return Maildrop::open(shared, config, known.get()); };
    OpenedMaildrop drop = co_await offload(work);
    if (drop) {
        process_sizes() = std::make_shared<const KnownSizes>((*drop)->sizes());
    }
    co_return drop;
}

}  // namespace

Task<> serve_session(SessionConnection connection, const Config& config) {
    ClientInfo info;
    info.user = connection.user->user;
    info.session_id = connection.info.session_id;
    OpenedMaildrop drop = co_await open_maildrop(*connection.user, config);
    Session session(std::move(connection.stream), std::move(drop), config, std::move(info));
    const RunningSession running(session);
    co_await session.run();
}

void close_account() { open_account().close(); }

void stop_sessions() { RunningSession<Session>::stop_all(); }

}  // namespace postern::pop3d
