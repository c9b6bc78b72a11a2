/// One queue, one master: directories, lock and process id of an instance.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"

namespace postern::master {

/// Held by a running master: queue_directory/pid/master.pid, locked, with the process id in it.
class InstanceLock {
public:
    /// The current directory is queue_directory.  Errors: exists, when another master runs this queue.
    static Result<InstanceLock> take();

    InstanceLock(InstanceLock&&) noexcept = default;
    InstanceLock& operator=(InstanceLock&&) noexcept = default;
    ~InstanceLock();

    /// Writes the calling process's id: after it became a daemon.
    Result<void> write_pid();
    /// Leaves the file as it is when this object goes: for the parent of a daemon.
    void disown() { file_.reset(); }

private:
    explicit InstanceLock(UniqueFd file) : file_(std::move(file)) {}
    UniqueFd file_;
    pid_t owner_ = -1;
};

/// The process id of the master that runs `queue_directory`, or nothing when none does.
std::optional<pid_t> running_master(const std::string& queue_directory);

/// What set_up_directories() did, or would have liked to do.
struct DirectoryReport {
    std::vector<std::string> warnings;
    std::vector<std::string> notices;   ///< for whoever asks
};

/// Makes what is missing of queue_directory and data_directory, and sets owners and modes (as root; otherwise only
/// what is missing is made, for the present user).  `correct` also repairs what exists.  `transit`: then set_up_transit().
/// Errors: config when mail_owner or setgid_group is not known; io.
Result<DirectoryReport> set_up_directories(const Config& config, bool correct, bool transit);

}  // namespace postern::master
