#include "pop3d/serve_session.h"

#include <memory>

#include "lib/async/offload.h"
#include "lib/config/config.h"
#include "lib/store/store.h"
#include "pop3d/session.h"

namespace postern::pop3d {

namespace {

using SharedAccount = std::shared_ptr<store::Account>;   ///< the process and its sessions own it

/// The account of this process's user: opened for the first client, shared by all.  A process serves one user, and
/// an account belongs to the process that opened it, so this is where it can live.
SharedAccount& process_account() {
    static SharedAccount account;
    return account;
}

/// What the newest session has learnt about sizes; replaced as a whole, so that a thread may read on in an old one.
using SharedSizes = std::shared_ptr<const KnownSizes>;
SharedSizes& process_sizes() {
    static SharedSizes sizes;
    return sizes;
}

store::AccountOptions account_options(const AuthUser& user, const Config& config) {
    store::AccountOptions options;
    options.location = user.mail_location.empty() ? config.mail_location() : user.mail_location;
    options.user = user.user;
    options.home = user.home;
    return options;
}

/// Makes sure that there is an account.  On the loop's thread, so that a process never opens its index twice.
Result<void> need_account(const AuthUser& user, const Config& config) {
    if (process_account() == nullptr) {
        Result<std::unique_ptr<store::Account>> opened = store::Account::open(account_options(user, config));
        if (!opened) {
            return opened.error();
        }
        process_account() = std::move(*opened);
    }
    return {};
}

Task<OpenedMaildrop> open_maildrop(const AuthUser& user, const Config& config) {
    if (const Result<void> there = need_account(user, config); !there) {
        co_return there.error();
    }
    SharedAccount account = process_account();
    const SharedSizes known = process_sizes();
    auto work = [account, known, &config] { return Maildrop::open(account, config, known.get()); };
    OpenedMaildrop drop = co_await offload(work);
    if (drop) {
        process_sizes() = std::make_shared<const KnownSizes>((*drop)->sizes());
        co_return drop;
    }
    const bool broken = drop.error().code == Errc::io || drop.error().code == Errc::corrupt;
    if (!broken) {
        co_return drop;
    }
    // Its files may have been replaced, as when a backup is restored: once more with a new account.  Sessions that use
    // the old one keep it.
    if (process_account() == account) {
        process_account().reset();
    }
    if (const Result<void> there = need_account(user, config); !there) {
        co_return there.error();
    }
    account = process_account();
    auto retry = [account, &config] { return Maildrop::open(account, config); };
    OpenedMaildrop second = co_await offload(retry);
    co_return second;
}

}  // namespace

Task<> serve_session(SessionConnection connection, const Config& config) {
    ClientInfo info;
    info.user = connection.user->user;
    info.session_id = connection.info.session_id;
    OpenedMaildrop drop = co_await open_maildrop(*connection.user, config);
    Session session(std::move(connection.stream), std::move(drop), config, std::move(info));
    co_await session.run();
}

}  // namespace postern::pop3d
