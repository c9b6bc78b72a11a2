/// Reading a queue directory that may hold a million files: in pieces, so that neither names nor answers are ever all in
/// memory, and by several threads.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"

namespace postern::queue {

class DirectoryReader {
public:
    /// Errors: as open(2).
    static Result<DirectoryReader> open(const std::string& path);
    static Result<DirectoryReader> open_at(int directory, const std::string& path);

    struct Name {
        std::uint64_t inode = 0;
        std::string name;
    };
    /// Up to `limit` more names that do not begin with a dot, files of other programs included; none at the end.
    /// They come in the order of their inodes, in which the disk is read fastest.  A name that is added or removed
    /// meanwhile may or may not be among them, as with readdir(3).
    std::vector<Name> next(std::size_t limit);

    /// For the ..at() calls.
    int fd() const { return ::dirfd(directory_.get()); }

private:
    struct Close {
        void operator()(DIR* directory) const { ::closedir(directory); }
    };
    explicit DirectoryReader(DIR* directory) : directory_(directory) {}
    std::unique_ptr<DIR, Close> directory_;
};

/// rename(2) that does not write over another message: EEXIST then.
bool rename_without_replacing(const std::string& from, const std::string& to);

}  // namespace postern::queue
