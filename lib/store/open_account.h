/// The one account of a session process.
#pragma once

#include <memory>

#include "lib/base/result.h"
#include "lib/store/store.h"

namespace postern::store {

/// Opened for the first session and shared by all, on the event loop's thread; opened anew for the next session when the
/// account's files have been replaced or removed meanwhile (a backup restored, a user made again).  Sessions that use the
/// old one keep it: what they write to it fails.
class OpenAccount {
public:
    /// Errors: as Account::open().
    Result<std::shared_ptr<Account>> get(const AccountOptions& options);
    /// The process ends: what is only cached is made fit to survive the machine's end too.
    void close() { account_.reset(); }

private:
    std::shared_ptr<Account> account_;   ///< other owners: sessions
};

}  // namespace postern::store
