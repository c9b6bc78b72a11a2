/// Log-ins that servers have refused, so that a wrong password is not tried for every message (smtp_sasl_auth_cache_name).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/store/lmdb_env.h"

namespace postern::smtp {

/// An LMDB file that all smtp processes write to, opened before rights are given up.  Its keys are digests of server, user and
/// password; passwords are not in it.
class SaslCache {
public:
    SaslCache() = default;   ///< remembers nothing
    /// `name`: lmdb:PATH, btree:PATH or hash:PATH, perhaps with "proxy:" in front; PATH.lmdb is the file.  `title` is the parameter's name.
    /// A damaged file is set aside (store::open_or_begin_anew).  Errors: config (another type of table), denied, io.
    static Result<SaslCache> open(const std::string& title, const std::string& name, Seconds lifetime);

    /// What the server said to this log-in, unless it was too long ago at `now` (seconds since 1970).
    struct Refusal {
        std::string dsn;
        std::string reply;   ///< one line
        bool operator==(const Refusal&) const = default;
    };
    std::optional<Refusal> find(const std::string& server, const std::string& user, const std::string& password, std::int64_t now) const;
    /// Failures are warned about: then it is tried again next time.
    void store(const std::string& server, const std::string& user, const std::string& password, const Refusal& refusal, std::int64_t now);

private:
    std::shared_ptr<store::Env> env_;   ///< null: no cache.  The registry of environments has it too
    Seconds lifetime_{0};
};

}  // namespace postern::smtp
