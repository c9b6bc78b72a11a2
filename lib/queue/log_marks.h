/// Marks in commit logs (commit_log.h): qmgr says which messages need no copy any more.
#pragma once

#include <map>
#include <string>

#include "lib/base/unique_fd.h"
#include "lib/queue/commit_log_format.h"

namespace postern::queue {

class LogMarks {
public:
    explicit LogMarks(std::string queue_directory) : directory_(std::move(queue_directory)) {}

    /// The message at `place` is done with.  A mark that cannot be made costs nothing but that a power failure within the
    /// next seconds would have the message delivered again.  Becomes durable with the next flush of the log.
    void mark(const LogPlace& place);
    /// Logs may have been removed and made anew.
    void forget() { logs_.clear(); }

private:
    std::string directory_;
    std::map<std::string, UniqueFd> logs_;   ///< those of 64 processes at the most
};

}  // namespace postern::queue
