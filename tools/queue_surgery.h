/// What postsuper(1) does to queue files.  The current directory is the queue directory.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace postern::tools {

enum class Surgery : unsigned char {
    remove,     ///< -d
    expire,     ///< -e: at the next attempt
    expire_now, ///< -f: the same, taken off hold, tried at once
    hold,       ///< -h
    release,    ///< -H
    requeue,    ///< -r
};

/// Where each operation looks when no queue names are given.
std::vector<std::string> default_queues(Surgery surgery);

/// Does it to one message.  Looks through `queues` twice, since a running qmgr moves files about.
/// True when the message was there.
bool operate(Surgery surgery, const std::string& queue_id, const std::vector<std::string>& queues);

/// Removes temporary files that a killed program left more than a day ago.  Yields how many.
std::size_t purge_temporary(const std::vector<std::string>& queues);

/// A file whose name does not fit its inode number (after a restore) is renamed, so that ids stay unique; those with random numbers are
/// so anyway.
/// Yields how many; `renamed` hears of each.
std::size_t fix_names(const std::vector<std::string>& queues,
                      const std::function<void(const std::string& from, const std::string& to)>& renamed);

/// The id that a file named `queue_id` should have with this inode number.
std::string id_for_inode(const std::string& queue_id, std::uint64_t inode);

}  // namespace postern::tools
