/// What becomes of commit logs (commit_log.h) whose process has ended.  For qmgr; everything blocks.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "lib/queue/commit_log.h"

namespace postern::queue {

struct LogRecovery {
    std::size_t put_back = 0;            ///< messages that the file system had lost
    std::vector<std::string> trouble;    ///< for the log; what failed is tried again by the next call
};

/// Of each log that is in use and nobody's, and was written in another life of the file system (a power failure): each message in
/// it that is not done with, and is in no queue directory, or damaged there, is written to incoming/.  Then the log is free again,
/// unless messages are in transit: their records stay, for a later call.  Before the queue is read.  Logs are also taken for those of
/// another life, without need, when a service manager gives each start of the mail system a mount of its own; since all that is
/// finished is marked, nothing comes of that.
LogRecovery replay_logs(const LogOptions& options);

/// The same for logs of this life: a process was killed, or ended, and its files are all there.  The file system is flushed,
/// which takes as long as it takes, and then they are free again, those apart whose messages are in transit.  Free logs of another
/// size than `options` says are removed.
LogRecovery settle_logs(const LogOptions& options);

struct LoggedMessage {
    std::string queue_id;
    LogPlace place;
};
/// What is in logs of this life and not done with, whoever has them: for a queue manager that was not told, or has forgotten.
std::vector<LoggedMessage> read_places(const LogOptions& options);

}  // namespace postern::queue
