/// Where a domain wants its TLS reports (RFC 8460 section 3).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::tlspolicy {

inline constexpr std::size_t kMaxReportUris = 10;   ///< of one record; more are passed over

/// One "rua": mail to `address`, or POST to `url`; the other is empty.
struct ReportUri {
    std::string address;   ///< internal form
    std::string url;
};

/// "mailto:tls@example.com" or "https://..."; nothing for others, and for what is malformed.
std::optional<ReportUri> parse_report_uri(std::string_view uri);

/// Among the TXT records of _smtp._tls.DOMAIN the one that begins "v=TLSRPTv1;": its URIs, those of kinds that are not known
/// left out.  Empty when there is none, when there are several (section 3), or when it is malformed.
std::vector<ReportUri> find_report_uris(const std::vector<std::string>& records);

}  // namespace postern::tlspolicy
