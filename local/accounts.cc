#include "local/accounts.h"

#include <pwd.h>

#include <cerrno>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "local/agent.h"

namespace postern::local {
namespace {

constexpr std::int64_t kKeepUsec = 5'000'000;
constexpr std::size_t kMaxKnown = 10'000;
constexpr std::size_t kMaxRecord = std::size_t{1} << 20;

Result<std::optional<Account>> look_up(const std::string& key, bool is_uid) {
    for (std::string buffer(2048, '\0'); buffer.size() <= kMaxRecord; buffer.resize(buffer.size() * 4)) {
        passwd entry{};
        passwd* found = nullptr;
        const int error =
            is_uid ? getpwuid_r(static_cast<uid_t>(parse_number(key).value_or(UINT32_MAX)), &entry, buffer.data(), buffer.size(), &found)
                   : getpwnam_r(key.c_str(), &entry, buffer.data(), buffer.size(), &found);
        if (error == ERANGE) {
            continue;
        }
        if (found) {
            Account account{entry.pw_name, entry.pw_dir, entry.pw_shell, {}};
            account.identity.uid = entry.pw_uid;
            account.identity.gid = entry.pw_gid;
            account.identity.groups = {entry.pw_gid};
            return std::optional(std::move(account));
        }
        if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM) {
            return std::optional<Account>();
        }
        return Error(Errc::temporary, errno_error("user lookup for " + key, error).what);
    }
    return Error(Errc::temporary, "user lookup for " + key + ": record too large");
}

}  // namespace

Task<Result<std::optional<Account>>> Accounts::by_name(std::string name) {
    if (name.empty() || name.find_first_of(std::string_view(":/\0", 3)) != std::string::npos) {
        co_return std::optional<Account>();
    }
    co_return co_await find(std::move(name), false);
}

Task<Result<std::optional<Account>>> Accounts::by_uid(uid_t uid) {
    co_return co_await find(std::to_string(uid), true);
}

Task<Result<std::optional<Account>>> Accounts::find(std::string key, bool is_uid) {
    const std::string index = (is_uid ? "u" : "n") + key;
    const auto known = known_.find(index);
    if (known != known_.end() && known->second.until_usec > now_usec()) {
        co_return known->second.account;
    }
    auto work = [key, is_uid] { return look_up(key, is_uid); };
    Result<std::optional<Account>> found = co_await offload(std::move(work));
    if (found) {
        if (known_.size() >= kMaxKnown) {
            known_.clear();
        }
        known_[index] = Known{*found, now_usec() + kKeepUsec};
    }
    co_return found;
}

}  // namespace postern::local
