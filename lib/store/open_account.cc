#include "lib/store/open_account.h"

#include <utility>

#include "lib/log/log.h"

namespace postern::store {

namespace {

/// A mailbox that cannot be made is no reason to keep its owner out.
void make_missing(Account& account, const std::vector<AutoMailbox>& mailboxes) {
    for (const AutoMailbox& wanted : mailboxes) {
        if (account.exists(wanted.name)) {
            continue;
        }
        Result<void> made = account.create(wanted.name);
        if (made && wanted.subscribe) {
            made = account.subscribe(wanted.name, true);
        }
        if (!made && made.error().code != Errc::exists) {
            log_warning("mailbox_auto: {}: {}", wanted.name, made.error().what);
        }
    }
}

}  // namespace

Result<std::shared_ptr<Account>> OpenAccount::get(const AccountOptions& options) {
    if (account_ == nullptr || !account_->is_current()) {
        Result<std::unique_ptr<Account>> opened = Account::open(options);
        if (!opened) {
            return opened.error();
        }
        account_ = std::move(*opened);
        make_missing(*account_, options.auto_mailboxes);
    }
    return account_;
}

}  // namespace postern::store
