/// A day's report for one domain: RFC 8460 section 4.4 as JSON, section 5 as mail.
#pragma once

#include <string>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "tlspolicy/tlsrpt_book.h"

namespace postern::tlspolicy {

/// Who reports: tlsrpt_organization_name, tlsrpt_contact_info, tlsrpt_sender.
struct Reporter {
    std::string organization, contact, sender;
    std::string submitter;          ///< domain
    std::string host;               ///< makes report ids unique
    static Reporter from(const Config& config);
};

/// The same for the same day and domain each time, so that a receiver knows a report that comes twice.
std::string report_id(const Reporter& reporter, const BookKey& key);
std::string report_json(const Reporter& reporter, const BookKey& key, const DomainDay& counts);
/// RFC 1952.  Errors: io.
Result<std::string> gzip(std::string_view bytes);
/// The whole message with LF line ends (section 5.3), `compressed` as attachment, to `recipient` (internal form).
std::string report_message(const Reporter& reporter, const BookKey& key, const std::string& recipient, std::string_view compressed,
                           std::int64_t now);

/// The UTC day of a moment, "2026-11-22"; seconds of its begin, 0 for what is no such day.
std::string utc_day(std::int64_t seconds);
std::int64_t day_begin(std::string_view day);

}  // namespace postern::tlspolicy
