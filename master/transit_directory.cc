#include "master/transit_directory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "lib/base/result.h"
#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/transit.h"

namespace postern::master {
namespace {

constexpr std::size_t kRandomBytes = 8;   // of a name

/// What is written there goes to no disk, but for swap space; and it has an end, as ramfs has not.
bool is_in_memory(const std::string& path) {
    struct statfs info {};
    return ::statfs(path.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
}

/// transit_directory, made if need be.  Errors: not_found, unsupported, denied, io.
Result<void> prepare(const std::string& path) {
    if (path[0] != '/') {
        return Error(Errc::unsupported, path + ": not an absolute path");
    }
    struct stat info {};
    const bool missing = ::lstat(path.c_str(), &info) != 0;
    if (!is_in_memory(missing ? path.substr(0, path.rfind('/') + 1) : path)) {
        return Error(Errc::unsupported, path + ": not in memory (tmpfs)");
    }
    if (missing && (::mkdir(path.c_str(), 0755) != 0 || ::chmod(path.c_str(), 0755) != 0 || ::lstat(path.c_str(), &info) != 0)) {
        return errno_error("make directory " + path);
    }
    if (!S_ISDIR(info.st_mode)) {
        return Error(Errc::unsupported, path + ": not a directory");
    }
    if ((info.st_uid != 0 && info.st_uid != ::geteuid()) || ((info.st_mode & 0022) != 0 && (info.st_mode & S_ISVTX) == 0)) {
        return Error(Errc::denied, path + ": others may remove what is in it");
    }
    return {};
}

bool is_usable(const std::string& path, const std::string& below, uid_t mail_user) {
    struct stat info {};
    const std::size_t slash = path.rfind('/');
    return slash != path.npos && path.substr(0, slash) == below && ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
           info.st_uid == mail_user && (info.st_mode & 07777) == 0700 && is_in_memory(path);
}

/// A directory for the queue alone; its path.
Result<std::string> make_directory(const std::string& below, uid_t mail_user, gid_t mail_group) {
    std::string path = below + "/" + hex_encode(random_bytes(kRandomBytes));
    if (::mkdir(path.c_str(), 0700) != 0) {
        return errno_error("make directory " + path);
    }
    if (::chmod(path.c_str(), 0700) != 0 || (::geteuid() == 0 && ::lchown(path.c_str(), mail_user, mail_group) != 0)) {
        const Error error = errno_error("set owner and mode of " + path);
        ::rmdir(path.c_str());
        return error;
    }
    return path;
}

/// The same with the link to it.
Result<void> make_linked(const std::string& link, const std::string& below, uid_t mail_user, gid_t mail_group) {
    const Result<void> prepared = prepare(below);
    if (!prepared) {
        return prepared;
    }
    const Result<std::string> made = make_directory(below, mail_user, mail_group);
    if (made && ::symlink(made->c_str(), link.c_str()) != 0) {
        const Error error = errno_error("make link " + link);
        ::rmdir(made->c_str());
        return error;
    }
    return made ? Result<void>() : Result<void>(made.error());
}

/// The directories of transit_directory.  An ordinary user is not given one that was not asked for: at the user's log-out the system
/// may remove what is in it.
std::vector<std::string> wanted_places(const Config& config) {
    std::vector<std::string> places;
    if (config.commit_log_size() > 0 && (::geteuid() == 0 || config.is_set("transit_directory"))) {
        places = split_list(config.transit_directory());
    }
    for (std::string& place : places) {
        while (place.size() > 1 && place.back() == '/') {
            place.pop_back();
        }
    }
    return places;
}

/// Takes away the link, and the directory it leads to if that is ours.  False when there may be mail in that.
bool remove_old(const std::string& link, const std::string& old) {
    if (::rmdir(old.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) {
        return false;
    }
    return ::unlink(link.c_str()) == 0 || errno == ENOENT;
}

}  // namespace

TransitReport set_up_transit(const Config& config, uid_t mail_user, gid_t mail_group) {
    const std::string& queue = config.queue_directory();
    const std::string link = queue + "/transit";
    const std::vector<std::string> places = wanted_places(config);
    // One at a time: who came second would take the first one's directory away.
    const UniqueFd alone(::open((queue + "/commit").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (alone) {
        ::flock(alone.get(), LOCK_EX);
    }
    const std::string old = queue::read_transit_link(queue);
    if (std::any_of(places.begin(), places.end(), [&](const std::string& below) { return is_usable(old, below, mail_user) && prepare(below); })) {
        return {};
    }
    if (!old.empty() && !remove_old(link, old)) {
        return {.warning = fmt::format("{}: still in use for messages in transit", old), .notice = {}};
    }
    std::string trouble;
    for (const std::string& below : places) {
        const Result<void> done = make_linked(link, below, mail_user, mail_group);
        if (done) {
            return {};
        }
        trouble += (trouble.empty() ? "" : "; ") + done.error().what;
    }
    if (trouble.empty()) {
        return {};
    }
    std::string text = "messages in transit are kept on the disk: transit_directory: " + trouble;
    const bool asked_for = config.is_set("transit_directory");
    return {.warning = asked_for ? text : std::string(), .notice = asked_for ? std::string() : std::move(text)};
}

}  // namespace postern::master
