/// The system's accounts, asked without holding up the event loop.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "lib/async/task.h"
#include "lib/base/result.h"
#include "lib/sandbox/identity.h"

namespace postern::local {

struct Account {
    std::string name;
    std::string home;
    std::string shell;
    UserIdentity identity;      ///< with the primary group only, as Postfix delivers
};

/// Remembers answers for a few seconds.
class Accounts {
public:
    /// Nothing when there is no such account.  Errors: temporary.
    Task<Result<std::optional<Account>>> by_name(std::string name);
    /// The owner of an alias or include file.
    Task<Result<std::optional<Account>>> by_uid(uid_t uid);

private:
    struct Known {
        std::optional<Account> account;
        std::int64_t until_usec = 0;
    };
    Task<Result<std::optional<Account>>> find(std::string key, bool is_uid);
    std::unordered_map<std::string, Known> known_;
};

}  // namespace postern::local
