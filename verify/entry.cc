#include "verify/entry.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"

namespace postern::verify {
namespace {

/// The number before the next colon, which is taken off too.
std::optional<std::int64_t> take_number(std::string_view& text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos || colon > 18) {
        return std::nullopt;
    }
    const auto number = parse_number(text.substr(0, colon));
    if (!number) {
        return std::nullopt;
    }
    text.remove_prefix(colon + 1);
    return static_cast<std::int64_t>(*number);
}

}  // namespace

std::string format_entry(const Entry& entry) {
    return fmt::format("{}:{}:{}:{}", entry.status, entry.probed, entry.updated, entry.text);
}

std::optional<Entry> parse_entry(std::string_view value) {
    if (!value.empty() && value.back() == '\0') {   // Postfix may have written it with one
        value.remove_suffix(1);
    }
    const auto status = take_number(value);
    const auto probed = status ? take_number(value) : std::nullopt;
    const auto updated = probed ? take_number(value) : std::nullopt;
    if (!updated || *status < 0 || *status > kUnknown) {
        return std::nullopt;
    }
    Entry entry;
    entry.status = static_cast<std::uint8_t>(*status);
    entry.probed = *probed;
    entry.updated = *updated;
    entry.text = value.substr(0, kMaxVerifyText);
    return entry;
}

Lifetimes::Lifetimes(const Config& config)
    : positive_expire(config.address_verify_positive_expire_time().count()),
      positive_refresh(config.address_verify_positive_refresh_time().count()),
      negative_expire(config.address_verify_negative_expire_time().count()),
      negative_refresh(config.address_verify_negative_refresh_time().count()) {}

bool Lifetimes::is_expired(const Entry& entry, std::int64_t now) const {
    const std::int64_t lifetime = entry.status == kDeliverable ? positive_expire : negative_expire;
    return now - entry.probed > kProbeLifetime && entry.updated + lifetime < now;
}

bool Lifetimes::wants_probe(const Entry& entry, std::int64_t now) const {
    const std::int64_t fresh = entry.status == kDeliverable ? positive_refresh : negative_refresh;
    return now - entry.probed > kProbeLifetime && entry.updated + fresh < now;
}

}  // namespace postern::verify
