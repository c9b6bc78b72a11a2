#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/sandbox/sandbox.h"

namespace postern {
namespace {

// Newer than the headers of the oldest supported system; values from linux/landlock.h.
constexpr std::uint64_t kRefer = 1ULL << 13;      // version 2
constexpr std::uint64_t kTruncate = 1ULL << 14;   // version 3
constexpr std::uint64_t kIoctlDevice = 1ULL << 15;  // version 5
constexpr std::uint64_t kVersion1 = (1ULL << 13) - 1;

constexpr std::uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr std::uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWriteFile = LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;
constexpr std::uint64_t kWrite = kWriteFile | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                 LANDLOCK_ACCESS_FS_MAKE_SYM | kRefer;

std::uint64_t handled_by(int version) {
    return kVersion1 | (version >= 2 ? kRefer : 0) | (version >= 3 ? kTruncate : 0) |
           (version >= 5 ? kIoctlDevice : 0);
}

/// Allows `access` below `path`; a path that does not exist is left out.
void allow(int ruleset, const std::string& path, std::uint64_t directory_access, std::uint64_t file_access) {
    const UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    struct stat info {};
    if (!fd || ::fstat(fd.get(), &info) != 0) {
        return;
    }
    landlock_path_beneath_attr rule{};
    rule.allowed_access = S_ISDIR(info.st_mode) ? directory_access : file_access;
    rule.parent_fd = fd.get();
    if (rule.allowed_access != 0) {
        ::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
}

}  // namespace

int landlock_version() {
    const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? static_cast<int>(version) : 0;
}

/// In two steps, since paths are opened before chroot and the rules hold afterwards.
int make_landlock_ruleset(const FilePaths& paths) {
    const int version = landlock_version();
    // Version 1 forbids renaming from one directory to another, which the queue and Maildir live on.
    if (version == 0 || (version == 1 && !paths.writable.empty())) {
        errno = ENOSYS;
        return -1;
    }
    landlock_ruleset_attr attributes{};
    const std::uint64_t handled = handled_by(version);
    attributes.handled_access_fs = handled;
    UniqueFd ruleset(static_cast<int>(
        ::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes.handled_access_fs, 0)));
    if (!ruleset) {
        return -1;
    }
    for (const std::string& path : split(paths.readable, " ")) {
        allow(ruleset.get(), path, kRead & handled, kReadFile & handled);
    }
    for (const std::string& path : split(paths.writable, " ")) {
        allow(ruleset.get(), path, (kRead | kWrite) & handled, (kReadFile | kWriteFile) & handled);
    }
    return ruleset.release();
}

bool enter_landlock_ruleset(int ruleset) { return ::syscall(SYS_landlock_restrict_self, ruleset, 0) == 0; }

bool restrict_files(const FilePaths& paths) {
    const UniqueFd ruleset(make_landlock_ruleset(paths));
    return ruleset && enter_landlock_ruleset(ruleset.get());
}

}  // namespace postern
