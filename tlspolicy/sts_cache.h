/// The policies that have been fetched, on disk (LMDB), so that neither a restart nor a web server that is down makes us forget.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/mta_sts/policy.h"
#include "lib/store/lmdb_env.h"

namespace postern::tlspolicy {

struct StoredPolicy {
    std::string id;              ///< of the TXT record that announced it
    std::int64_t fetched = 0;    ///< seconds since 1970; max_age counts from here
    std::int64_t used = 0;       ///< when mail last asked, to the day
    StsPolicy policy;

    std::int64_t expires() const { return fetched + static_cast<std::int64_t>(policy.max_age); }
};

/// One entry a domain: version (1 byte), CRC-32C of the rest (4 bytes, little endian), fields (lib/ipc/codec.h).  What has
/// another version or fails its check counts as not there.  Thread-safe.
class StsCache {
public:
    /// Opens the data file, makes it when missing; one that LMDB finds damaged is renamed to PATH.corrupt.  Afterwards no
    /// file is looked up any more, so that the process may change its root and user.  Errors: denied, no_space, io.
    static Result<std::unique_ptr<StsCache>> open(const std::string& path);

    std::optional<StoredPolicy> find(const std::string& domain) const;
    /// On stable storage when it returns; blocks.  Errors: no_space, io.
    Result<void> store(const std::string& domain, const StoredPolicy& entry);
    Result<void> remove(const std::string& domain);
    std::vector<std::pair<std::string, StoredPolicy>> all() const;

    /// An entry's bytes; public for tests.
    static std::string encode(const StoredPolicy& entry);
    static std::optional<StoredPolicy> decode(std::string_view bytes);

private:
    explicit StsCache(std::shared_ptr<store::Env> env) : env_(std::move(env)) {}
    std::shared_ptr<store::Env> env_;   ///< LMDB's registry of open files has the other reference
};

}  // namespace postern::tlspolicy
