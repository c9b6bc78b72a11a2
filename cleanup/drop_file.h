/// One file of maildrop/ as pickup(8) sees it.
#pragma once

#include <sys/types.h>

#include <string>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/queue_file.h"

namespace postern::pickup {

struct DropFile {
    std::string name;
    UniqueFd fd;
    uid_t owner = 0;
    queue::QueueFile file;
    bool requeued = false;      ///< a queue file that postsuper -r put here
};

/// Opens and checks maildrop/<name>.  Errors: not_found (it went meanwhile), corrupt (to be set aside), temporary
/// (not to be touched now), io.
Result<DropFile> open_drop_file(const std::string& queue_directory, const std::string& name, uid_t queue_owner);

/// The envelope and flags to submit the file with; a requeued message has only its unfinished recipients.
/// Errors: io.
Result<queue::Envelope> envelope_to_submit(const DropFile& drop, std::int64_t now_usec);

}  // namespace postern::pickup
