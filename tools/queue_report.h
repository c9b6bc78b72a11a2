/// What postern queue(1) prints: the table of the queue's shape and that of qmgr's destinations, or both as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/queue/messages.h"
#include "tools/queue_shape.h"

namespace postern::tools {

struct ReportOptions {
    std::vector<std::string> queues;   ///< which were looked at
    std::size_t rows = 0;              ///< at most so many domains; 0: all
    bool reasons = false;              ///< a line with the reason below each domain
    bool colour = false;
    std::int64_t now_seconds = 0;
};

/// What qmgr said, all pages together; only destinations that have something to tell.
struct ManagerReport {
    queue::QueueStatus status;
    std::string error;                 ///< why it could not be asked; then `status` is empty
};

/// Worth a line: something runs or waits there, or it is dead or delayed.
bool worth_telling(const queue::DestinationStatus& destination);

std::string text_report(const QueueShape& shape, const ManagerReport& manager, const ReportOptions& options);
/// One object, with its LF.
std::string json_report(const QueueShape& shape, const ManagerReport& manager, const ReportOptions& options);

}  // namespace postern::tools
