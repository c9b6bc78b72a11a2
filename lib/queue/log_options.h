/// What a daemon says of commit logs and transit, from its configuration.
#pragma once

#include "lib/config/config.h"
#include "lib/queue/commit_log.h"

namespace postern::queue {

/// The current directory is the queue directory, and will be.  `transit`, or null, outlives what is returned.  Before rights are given up.
LogOptions log_options(const Config& config, const Transit* transit);

}  // namespace postern::queue
