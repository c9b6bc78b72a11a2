/// What is done to a message is done to a file in a directory of the queue: messages in transit (lib/queue/transit.h) go there first.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "lib/queue/transit.h"

namespace postern::tools {

/// How long a running qmgr may take: it delivers a message, or keeps it within a second.
inline constexpr std::chrono::milliseconds kTransitPatience{3000};

/// Waits until none of these is in transit.  Those that nobody has locked, since no qmgr runs, are moved to incoming/.  Yields those that
/// are there still after `patience`.
std::vector<std::string> leave_transit(const queue::Transit& transit, std::vector<std::string> ids,
                                       std::chrono::milliseconds patience = kTransitPatience);

}  // namespace postern::tools
