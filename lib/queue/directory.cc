#include "lib/queue/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "lib/base/unique_fd.h"

namespace postern::queue {

Result<DirectoryReader> DirectoryReader::open(const std::string& path) { return open_at(AT_FDCWD, path); }

Result<DirectoryReader> DirectoryReader::open_at(int directory, const std::string& path) {
    UniqueFd fd(::openat(directory, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR* const opened = fd ? ::fdopendir(fd.get()) : nullptr;
    if (opened == nullptr) {
        return errno_error("open " + path);
    }
    fd.release();
    return DirectoryReader(opened);
}

std::vector<DirectoryReader::Name> DirectoryReader::next(std::size_t limit) {
    std::vector<Name> names;
    while (names.size() < limit) {
        const dirent* const entry = ::readdir(directory_.get());
        if (entry == nullptr) {
            break;
        }
        if (entry->d_name[0] != '.') {
            names.push_back({entry->d_ino, entry->d_name});
        }
    }
    std::sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.inode < b.inode; });
    return names;
}

bool rename_without_replacing(const std::string& from, const std::string& to) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
        return true;
    }
    if (errno == EINVAL && ::access(to.c_str(), F_OK) != 0) {   // a file system without RENAME_NOREPLACE
        return std::rename(from.c_str(), to.c_str()) == 0;
    }
    return false;
}

}  // namespace postern::queue
