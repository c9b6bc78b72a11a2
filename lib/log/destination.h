/// Where main.cf wants log lines to go.
#pragma once

#include "lib/log/log.h"

namespace postern {

class Config;

/// maillog_file, or else syslog; as JSON when log_format says so.  Nothing is echoed and nothing verbose: that is the caller's affair.
LogDestination log_destination(const Config& config);

}  // namespace postern
