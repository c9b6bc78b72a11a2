#include "lib/store/open_account.h"

#include <utility>

namespace postern::store {

Result<std::shared_ptr<Account>> OpenAccount::get(const AccountOptions& options) {
    if (account_ == nullptr || !account_->is_current()) {
        Result<std::unique_ptr<Account>> opened = Account::open(options);
        if (!opened) {
            return opened.error();
        }
        account_ = std::move(*opened);
    }
    return account_;
}

}  // namespace postern::store
