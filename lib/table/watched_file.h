/// A file that a long-lived process has read and wants to hear about when it changes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

/// Keeps the file open, so that a change shows even when its path cannot be seen any more (chroot).
class WatchedFile {
public:
    WatchedFile() = default;
    /// Errors: as open(2).
    static Result<WatchedFile> open(const std::string& path);

    int fd() const { return fd_.get(); }
    const std::string& path() const { return path_; }
    const struct stat& info() const { return info_; }

    /// True when the path names another file now, or this one was written to.  Asks the kernel at most once a
    /// second; between that the answer is false.
    bool changed();

    /// Takes the present state as the one that was read.
    void accept_change();

private:
    std::string path_;
    UniqueFd fd_;
    struct stat info_ {};
    std::int64_t next_check_ms_ = 0;
};

/// Sets what tables_are_stale() answers.
void note_stale_table();

}  // namespace postern
