#include "lib/mail/date.h"

#include <array>
#include <cstdio>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/mail/scan.h"

namespace postern {

namespace {

constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

/// A date and time as read, before it is known to exist.
struct Civil {
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
};

int days_in_month(int year, int month) {
    constexpr std::array<int, 12> kLength = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : kLength[static_cast<std::size_t>(month - 1)];
}

/// The moment, if there is such a day; a leap second counts as the second before it.
std::optional<DateTime> to_moment(const Civil& at, int zone_minutes) {
    if (at.month < 1 || at.month > 12 || at.day < 1 || at.day > days_in_month(at.year, at.month) || at.hour > 23 ||
        at.minute > 59 || at.second > 60) {
        return std::nullopt;
    }
    const int second = at.second == 60 ? 59 : at.second;
    const std::int64_t seconds = days_from_civil(at.year, at.month, at.day) * 86400 + at.hour * 3600 + at.minute * 60 + second;
    return DateTime{seconds - std::int64_t{zone_minutes} * 60, zone_minutes};
}

int month_number(std::string_view name) {
    for (std::size_t i = 0; i < kMonths.size(); ++i) {
        if (equals_ignoring_case(name, kMonths[i])) {
            return static_cast<int>(i) + 1;
        }
    }
    return 0;
}

/// 1 to `max_digits` digits; -1 otherwise.  `count` tells how many.
int number(Scanner& in, int max_digits, int* count = nullptr) {
    int value = 0;
    int digits = 0;
    while (!in.at_end() && in.peek() >= '0' && in.peek() <= '9') {
        if (++digits > max_digits) {
            return -1;
        }
        value = value * 10 + (in.take() - '0');
    }
    if (count != nullptr) {
        *count = digits;
    }
    return digits == 0 ? -1 : value;
}

std::string letters(Scanner& in) {
    std::string word;
    while (!in.at_end() && ((in.peek() >= 'a' && in.peek() <= 'z') || (in.peek() >= 'A' && in.peek() <= 'Z'))) {
        word += in.take();
    }
    return word;
}

/// Minutes east; unknown zones are 0 (RFC 5322 section 4.3).
int zone(Scanner& in) {
    if (in.at('+') || in.at('-')) {
        const bool west = in.take() == '-';
        std::string digits;
        while (!in.at_end() && digits.size() < 4 && ((in.peek() >= '0' && in.peek() <= '9') || (in.at(':') && digits.size() == 2))) {
            const char c = in.take();
            if (c != ':') {
                digits += c;
            }
        }
        if (digits.size() != 4) {
            return 0;
        }
        const int value = (digits[0] - '0') * 600 + (digits[1] - '0') * 60 + (digits[2] - '0') * 10 + (digits[3] - '0');
        if (value >= 24 * 60 || digits[2] > '5') {   // no place on earth
            return 0;
        }
        return west ? -value : value;
    }
    struct Zone {
        const char* name;
        int hours;
    };
    constexpr std::array<Zone, 8> kZones = {{{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
                                             {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}}};
    const std::string name = letters(in);
    for (const Zone& known : kZones) {
        if (equals_ignoring_case(name, known.name)) {
            return known.hours * 60;
        }
    }
    return 0;
}

/// hour ":" minute [":" second]
bool time_of_day(Scanner& in, Civil& at) {
    at.hour = number(in, 2);
    in.skip_cfws();
    if (at.hour < 0 || !in.at(':')) {
        return false;
    }
    in.take();
    in.skip_cfws();
    at.minute = number(in, 2);
    in.skip_cfws();
    if (in.at(':')) {
        in.take();
        in.skip_cfws();
        at.second = number(in, 2);
    }
    return at.minute >= 0 && at.second >= 0;
}

int full_year(int year, int digits) {
    if (digits == 2) {
        return year < 50 ? 2000 + year : 1900 + year;
    }
    return digits == 3 ? 1900 + year : year;
}

/// The other way: broken down in its own zone.
Civil civil_from(DateTime date, int& weekday) {
    const std::int64_t local = date.unix_time + std::int64_t{date.zone_minutes} * 60;
    std::int64_t days = local / 86400;
    std::int64_t rest = local % 86400;
    if (rest < 0) {
        rest += 86400;
        --days;
    }
    weekday = static_cast<int>(((days % 7) + 11) % 7);
    const std::int64_t z = days + 719468;   // Howard Hinnant's civil_from_days
    const std::int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    const std::int64_t doe = z - era * 146097;
    const std::int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const std::int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    const std::int64_t mp = (5 * doy + 2) / 153;
    Civil at;
    at.day = static_cast<int>(doy - (153 * mp + 2) / 5 + 1);
    at.month = static_cast<int>(mp < 10 ? mp + 3 : mp - 9);
    at.year = static_cast<int>(yoe + era * 400 + (at.month <= 2 ? 1 : 0));
    at.hour = static_cast<int>(rest / 3600);
    at.minute = static_cast<int>(rest / 60 % 60);
    at.second = static_cast<int>(rest % 60);
    return at;
}

std::string format(DateTime date, bool imap) {
    int weekday = 0;
    const Civil at = civil_from(date, weekday);
    const int zone_size = date.zone_minutes < 0 ? -date.zone_minutes : date.zone_minutes;
    const char* month = kMonths[static_cast<std::size_t>(at.month - 1)];
    const char sign = date.zone_minutes < 0 ? '-' : '+';
    char text[80];
    if (imap) {
        std::snprintf(text, sizeof text, "%02d-%s-%04d %02d:%02d:%02d %c%02d%02d", at.day, month, at.year, at.hour, at.minute,
                      at.second, sign, zone_size / 60 % 100, zone_size % 60);
    } else {
        std::snprintf(text, sizeof text, "%s, %d %s %04d %02d:%02d:%02d %c%02d%02d", kDays[static_cast<std::size_t>(weekday)],
                      at.day, month, at.year, at.hour, at.minute, at.second, sign, zone_size / 60 % 100, zone_size % 60);
    }
    return text;
}

/// `17-Jul-1996`
bool imap_date(Scanner& in, Civil& at) {
    at.day = number(in, 2);
    if (at.day < 0 || !in.at('-')) {
        return false;
    }
    in.take();
    at.month = month_number(letters(in));
    if (at.month == 0 || !in.at('-')) {
        return false;
    }
    in.take();
    int digits = 0;
    at.year = number(in, 4, &digits);
    return digits == 4;
}

}  // namespace

std::int64_t days_from_civil(std::int64_t year, int month, int day) {
    year -= month <= 2 ? 1 : 0;
    const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
    const std::int64_t yoe = year - era * 400;
    const std::int64_t doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

std::optional<DateTime> parse_rfc5322_date(std::string_view text) {
    Scanner in(text);
    in.skip_cfws();
    if (!letters(in).empty()) {   // the day's name; nobody checks it
        in.skip_cfws();
        if (in.at(',')) {
            in.take();
        }
        in.skip_cfws();
    }
    Civil at;
    at.day = number(in, 2);
    in.skip_cfws();
    if (in.at('-')) {   // 17-Jul-1996, as old programs wrote it
        in.take();
    }
    at.month = month_number(letters(in));
    in.skip_cfws();
    if (in.at('-')) {
        in.take();
    }
    int digits = 0;
    const int year = number(in, 4, &digits);
    if (at.day < 0 || at.month == 0 || year < 0 || digits < 2) {
        return std::nullopt;
    }
    at.year = full_year(year, digits);
    in.skip_cfws();
    if (!time_of_day(in, at)) {
        return std::nullopt;
    }
    in.skip_cfws();
    return to_moment(at, zone(in));
}

std::string format_rfc5322_date(DateTime date) { return format(date, false); }
std::string format_imap_date_time(DateTime date) { return format(date, true); }

DateTime local_date(std::int64_t unix_time) {
    const std::time_t time = unix_time;
    std::tm broken_down{};
    localtime_r(&time, &broken_down);
    return {unix_time, static_cast<int>(broken_down.tm_gmtoff / 60)};
}

std::optional<DateTime> parse_imap_date_time(std::string_view text) {
    Scanner in(text);
    while (in.at(' ')) {
        in.take();
    }
    Civil at;
    if (!imap_date(in, at) || !in.at(' ')) {
        return std::nullopt;
    }
    in.take();
    if (!time_of_day(in, at) || !in.at(' ')) {
        return std::nullopt;
    }
    in.take();
    const std::string_view rest = in.rest();
    if (rest.size() != 5 || (rest[0] != '+' && rest[0] != '-') || !parse_number(rest.substr(1))) {
        return std::nullopt;
    }
    return to_moment(at, zone(in));
}

std::optional<std::int64_t> parse_imap_date(std::string_view text) {
    if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
        text = text.substr(1, text.size() - 2);
    }
    Scanner in(text);
    Civil at;
    if (!imap_date(in, at) || !in.at_end()) {
        return std::nullopt;
    }
    const std::optional<DateTime> moment = to_moment(at, 0);
    return moment ? std::optional(moment->unix_time) : std::nullopt;
}

}  // namespace postern
