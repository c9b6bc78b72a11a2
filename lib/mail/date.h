/// Dates in messages (RFC 5322 sections 3.3 and 4.3) and in IMAP (RFC 9051 date-time).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// A moment and the zone it was written in.  `zone_minutes` is east of Greenwich.
struct DateTime {
    std::int64_t unix_time = 0;
    int zone_minutes = 0;
    bool operator==(const DateTime&) const = default;
};

/// The value of a Date field: optional day name, 2 to 4 digit years, obsolete and military zones (RFC 5322
/// section 4.3: unknown ones are -0000), comments, missing seconds, a leap second (counted as the
/// second before it).  Nothing when it is no date or names no existing day.
std::optional<DateTime> parse_rfc5322_date(std::string_view text);
/// `Thu, 13 Feb 1969 23:32:54 -0330`.
std::string format_rfc5322_date(DateTime date);
/// The current zone rules applied to a moment (for Date fields that the suite writes itself).
DateTime local_date(std::int64_t unix_time);

/// IMAP date-time without its quotes: `17-Jul-1996 02:44:25 -0700` (the day may be ` 7` or `7`).
std::optional<DateTime> parse_imap_date_time(std::string_view text);
std::string format_imap_date_time(DateTime date);
/// IMAP date, with or without quotes: `1-Feb-1994`.  Returns 00:00 UTC of that day.
std::optional<std::int64_t> parse_imap_date(std::string_view text);

/// Days since 1970-01-01 of a Gregorian date; no checks.
std::int64_t days_from_civil(std::int64_t year, int month, int day);

}  // namespace postern
