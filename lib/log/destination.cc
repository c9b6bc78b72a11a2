#include "lib/log/destination.h"

#include "lib/config/config.h"

namespace postern {

LogDestination log_destination(const Config& config) {
    LogDestination destination;
    destination.kind = config.maillog_file().empty() ? LogDestination::Kind::syslog : LogDestination::Kind::file;
    destination.path = config.maillog_file();
    destination.json = config.log_format() == "json";
    return destination;
}

}  // namespace postern
