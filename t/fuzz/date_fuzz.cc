// Dates: what parses formats to something that parses to the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/mail/date.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::optional<DateTime> mail = parse_rfc5322_date(text);
    const std::optional<DateTime> imap = parse_imap_date_time(text);
    (void)parse_imap_date(text);
    for (const std::optional<DateTime>& date : {mail, imap}) {
        const std::int64_t local = date ? date->unix_time + date->zone_minutes * 60 : 0;
        if (date && local > -30610224000 && local < 253402300800 &&   // years 1000 to 9999
            (parse_rfc5322_date(format_rfc5322_date(*date)) != date || parse_imap_date_time(format_imap_date_time(*date)) != date)) {
            std::abort();
        }
    }
    return 0;
}
