/// MTA-STS (RFC 8461): what a domain publishes about the TLS of its mail hosts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern {

enum class StsMode : std::uint8_t { none, testing, enforce };
std::string_view sts_mode_name(StsMode mode);

inline constexpr std::size_t kMaxStsPolicy = 64 * 1024;       ///< RFC 8461 section 3.3: what a sender may stop reading at
inline constexpr std::size_t kMaxStsPatterns = 1000;
inline constexpr std::uint64_t kMaxStsAge = 31'557'600;       ///< seconds, RFC 8461 section 3.2

/// A policy file (section 3.2).
struct StsPolicy {
    StsMode mode = StsMode::none;
    std::vector<std::string> mx;          ///< "mail.example.com", "*.example.net"; lower case
    std::uint64_t max_age = 0;            ///< seconds; what is more than kMaxStsAge counts as that
    std::vector<std::string> lines;       ///< what was written, "name: value", the fields above only; for TLS reports

    /// Section 4.1: whether mail for the domain may go to `host`.
    bool allows(std::string_view host) const;
};

/// Among the TXT records of _mta-sts.DOMAIN the one that is the domain's: the id.  Nothing when there is none, when there
/// are several, or when it is malformed (section 3.1).
std::optional<std::string> find_sts_id(const std::vector<std::string>& records);
/// One record, whole.  Nothing for what does not follow the grammar of section 3.1.
std::optional<std::string> parse_sts_record(std::string_view text);

/// Unknown fields are passed over, and of a field that comes twice the first counts (section 3.2).  Lines may end in LF or
/// CRLF; empty ones, which the grammar does not have and people's editors do, are passed over as well.
/// Errors: syntax.
Result<StsPolicy> parse_sts_policy(std::string_view text);

/// Section 4.1: "*.example.com" stands for any one label.
bool sts_pattern_matches(std::string_view pattern, std::string_view host);

}  // namespace postern
