/// What the cache of verify(8) holds for one address, and how long it counts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/config/config.h"
#include "lib/verify/messages.h"

namespace postern::verify {

struct Entry {
    std::uint8_t status = kUnknown;
    std::int64_t probed = 0;      ///< when the last probe was sent, seconds since 1970; 0: none is under way
    std::int64_t updated = 0;     ///< when `status` was found out; 0: never
    std::string text;
};

/// As it stands in the cache: "status:probed:updated:text", Postfix's own format, so that a cache survives a change from and to it.
std::string format_entry(const Entry& entry);
/// Nothing when `value` is not such an entry.
std::optional<Entry> parse_entry(std::string_view value);

/// How long entries count, in seconds.
struct Lifetimes {
    explicit Lifetimes(const Config& config);
    std::int64_t positive_expire, positive_refresh, negative_expire, negative_refresh;

    /// No probe whose answer may still come, and too old to be believed.
    bool is_expired(const Entry& entry, std::int64_t now) const;
    /// Old enough to be probed again, and not probed just now.
    bool wants_probe(const Entry& entry, std::int64_t now) const;
};

/// A probe that has not come back after so many seconds is lost.
inline constexpr std::int64_t kProbeLifetime = 1000;

}  // namespace postern::verify
