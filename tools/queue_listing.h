/// The messages in the queue, for the commands that report on them.
#pragma once

#include <functional>
#include <string>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/listing/listing.h"

namespace postern::tools {

using VisitListed = std::function<void(const ListedMessage&)>;

/// Visits what showq(8), which `socket` is connected to, tells.  Errors: closed, timeout, syntax; io, with its words, when showq fails.
Result<void> list_by_showq(UniqueFd socket, const VisitListed& visit);

/// Visits what the files in `queue_directory` tell, as far as they may be read: for when nobody runs.
void list_by_files(const std::string& queue_directory, const VisitListed& visit);

}  // namespace postern::tools
