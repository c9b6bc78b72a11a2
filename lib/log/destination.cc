#include "lib/log/destination.h"

#include <syslog.h>

#include <cstdlib>
#include <string_view>
#include <utility>

#include "lib/base/strings.h"
#include "lib/config/config.h"

namespace postern {
namespace {

constexpr std::pair<std::string_view, int> kFacilities[] = {
    {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},     {"daemon", LOG_DAEMON}, {"ftp", LOG_FTP},
    {"kern", LOG_KERN},     {"lpr", LOG_LPR},           {"mail", LOG_MAIL},     {"news", LOG_NEWS},     {"syslog", LOG_SYSLOG},
    {"user", LOG_USER},     {"uucp", LOG_UUCP},         {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7}};

/// The number of RFC 5424.  The table of choices has let nothing else pass.
int facility_number(std::string_view name) {
    for (const auto& [known, code] : kFacilities) {
        if (equals_ignoring_case(known, name)) {
            return LOG_FAC(code);
        }
    }
    return LOG_FAC(LOG_MAIL);
}

}  // namespace

LogDestination log_destination(const Config& config) {
    LogDestination destination;
    destination.kind = config.maillog_file().empty() ? LogDestination::Kind::syslog : LogDestination::Kind::file;
    destination.path = config.maillog_file();
    destination.json = config.log_format() == "json";
    destination.facility = facility_number(config.syslog_facility());
    destination.mode = static_cast<mode_t>(std::strtoul(config.maillog_file_permissions().c_str(), nullptr, 8));
    return destination;
}

}  // namespace postern
