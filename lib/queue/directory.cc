#include "lib/queue/directory.h"

#include <algorithm>

namespace postern::queue {

Result<DirectoryReader> DirectoryReader::open(const std::string& path) {
    DIR* const directory = ::opendir(path.c_str());
    if (directory == nullptr) {
        return errno_error("open " + path);
    }
    return DirectoryReader(directory);
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

}  // namespace postern::queue
