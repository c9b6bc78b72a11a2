#include "master/instance.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/sandbox/identity.h"
#include "master/transit_directory.h"

namespace postern::master {
namespace {

constexpr const char* kPidFile = "pid/master.pid";

/// Who owns a directory of the queue.
enum class Owner : unsigned char { root, mail, root_mail_group, mail_drop_group, mail_network_group };

struct Directory {
    const char* name;
    Owner owner;
    mode_t mode;
};

/// service.h says why: network programs may reach sockets, and nothing that holds mail.
constexpr Directory kQueueDirectories[] = {
    {"", Owner::root, 0755},
    {"pid", Owner::root, 0755},
    {"incoming", Owner::mail, 0700},
    {"active", Owner::mail, 0700},
    {"deferred", Owner::mail, 0700},
    {"hold", Owner::mail, 0700},
    {"corrupt", Owner::mail, 0700},
    {"commit", Owner::mail, 0700},
    {"bounce", Owner::mail, 0700},
    {"defer", Owner::mail, 0700},
    {"trace", Owner::mail, 0700},
    {"flush", Owner::mail, 0700},
    {"saved", Owner::mail, 0700},
    {"maildrop", Owner::mail_drop_group, 01730},
    {"public", Owner::mail_drop_group, 0711},
    {"private", Owner::mail_network_group, 0710},
    {"empty", Owner::root, 0755},
};

struct Ids {
    uid_t mail_user = 0;
    gid_t mail_group = 0, drop_group = 0, network_group = 0;
};

/// A lock of an open file description: a daemon keeps it when its parent ends, and asking for it disturbs nobody.
struct flock whole_file(short type) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    return lock;
}

/// Session processes do not start without them.
Result<void> check_mail_groups(const Config& config) {
    const auto check = [](std::string_view parameter, const std::string& name) -> Result<void> {
        const Result<gid_t> group = find_group(name);
        return group ? Result<void>() : Error(Errc::config, fmt::format("{} = {}: {}", parameter, name, group.error().what));
    };
    for (const std::string& name : split_list(config.mail_access_groups())) {
        if (const Result<void> known = check("mail_access_groups", name); !known) {
            return known;
        }
    }
    const std::string& privileged = config.mail_privileged_group();
    return privileged.empty() ? Result<void>() : check("mail_privileged_group", privileged);
}

Result<Ids> find_ids(const Config& config) {
    Ids ids;
    if (::geteuid() != 0) {
        ids.mail_user = ::geteuid();
        ids.mail_group = ids.drop_group = ids.network_group = ::getegid();
        return ids;
    }
    const passwd* const owner = ::getpwnam(config.mail_owner().c_str());
    if (owner == nullptr) {
        return Error(Errc::config, fmt::format("mail_owner = {}: unknown user; accepted: an existing user that owns nothing "
                                               "else", config.mail_owner()));
    }
    if (owner->pw_uid == 0) {
        return Error(Errc::config, fmt::format("mail_owner = {}: must not be root", config.mail_owner()));
    }
    ids.mail_user = owner->pw_uid;
    ids.mail_group = owner->pw_gid;
    const group* const drop = ::getgrnam(config.setgid_group().c_str());
    if (drop == nullptr) {
        return Error(Errc::config, fmt::format("setgid_group = {}: unknown group; accepted: an existing group that nobody is "
                                               "a member of", config.setgid_group()));
    }
    ids.drop_group = drop->gr_gid;
    const passwd* const network = ::getpwnam(config.network_owner().c_str());
    if (network == nullptr) {
        return Error(Errc::config, fmt::format("network_owner = {}: unknown user; accepted: an existing user that owns "
                                               "nothing", config.network_owner()));
    }
    ids.network_group = network->pw_gid;
    if (const Result<void> known = check_mail_groups(config); !known) {
        return known.error();
    }
    return ids;
}

Result<void> set_up(const std::string& path, const Directory& directory, const Ids& ids, bool correct,
                    DirectoryReport& report) {
    struct stat info {};
    const bool exists = ::lstat(path.c_str(), &info) == 0;
    if (exists && !S_ISDIR(info.st_mode)) {
        return Error(Errc::exists, path + ": exists and is not a directory");
    }
    if (!exists && ::mkdir(path.c_str(), 0700) != 0) {
        return errno_error("make directory " + path);
    }
    const bool root_owned = directory.owner == Owner::root;
    const uid_t user = root_owned ? ::geteuid() : ids.mail_user;
    gid_t group = root_owned ? ::getegid() : ids.mail_group;
    group = directory.owner == Owner::mail_drop_group ? ids.drop_group : group;
    group = directory.owner == Owner::mail_network_group ? ids.network_group : group;
    const bool wrong = !exists || info.st_uid != user || info.st_gid != group || (info.st_mode & 07777) != directory.mode;
    if (!wrong) {
        return {};
    }
    if (exists && !correct) {
        report.warnings.push_back(fmt::format("{}: owner {}:{} mode {:o}, expected {}:{} mode {:o}; \"postern set-permissions\" "
                                             "repairs it", path, info.st_uid, info.st_gid, info.st_mode & 07777, user, group,
                                             directory.mode));
        return {};
    }
    const bool change_owner = ::geteuid() == 0;
    if ((change_owner && ::lchown(path.c_str(), user, group) != 0) || ::chmod(path.c_str(), directory.mode) != 0) {
        return errno_error("set owner and mode of " + path);
    }
    return {};
}

}  // namespace

Result<InstanceLock> InstanceLock::take() {
    for (;;) {
        UniqueFd file(::open(kPidFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
        if (!file) {
            return errno_error(fmt::format("open lock file {}", kPidFile));
        }
        struct flock lock = whole_file(F_WRLCK);
        if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
            return Error(Errc::exists, fmt::format("open lock file {}: unable to set exclusive lock: the mail system is already "
                                                   "running", kPidFile));
        }
        struct stat info {};
        if (::fstat(file.get(), &info) == 0 && info.st_nlink > 0) {
            return InstanceLock(std::move(file));
        }
        // The master that had it removed it between our two steps, and locks nobody out any more.
    }
}

InstanceLock::~InstanceLock() {
    if (file_ && owner_ == ::getpid()) {
        ::unlink(kPidFile);
    }
}

Result<void> InstanceLock::write_pid() {
    const std::string text = fmt::format("{:>10}\n", ::getpid());   // Postfix's layout
    if (::ftruncate(file_.get(), 0) != 0 ||
        ::pwrite(file_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
        return errno_error(fmt::format("write {}", kPidFile));
    }
    owner_ = ::getpid();
    return {};
}

std::optional<pid_t> running_master(const std::string& queue_directory) {
    const UniqueFd file(::open((queue_directory + "/" + kPidFile).c_str(), O_RDONLY | O_CLOEXEC));
    struct flock lock = whole_file(F_RDLCK);
    if (!file || ::fcntl(file.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
        return std::nullopt;   // nobody holds the lock, whatever the file says
    }
    char text[32] = "";
    const ssize_t size = ::read(file.get(), text, sizeof(text) - 1);
    const auto pid = parse_number(trim(std::string_view(text, size > 0 ? static_cast<std::size_t>(size) : 0)));
    return pid && *pid > 1 ? std::optional(static_cast<pid_t>(*pid)) : std::nullopt;
}

Result<DirectoryReport> set_up_directories(const Config& config, bool correct, bool transit) {
    const Result<Ids> ids = find_ids(config);
    if (!ids) {
        return ids.error();
    }
    DirectoryReport report;
    for (const Directory& directory : kQueueDirectories) {
        const std::string path = *directory.name == '\0' ? config.queue_directory() : config.queue_directory() + "/" + directory.name;
        if (Result<void> done = set_up(path, directory, *ids, correct, report); !done) {
            return done.error();
        }
    }
    const Directory data{"", Owner::mail, 0700};
    if (Result<void> done = set_up(config.data_directory(), data, *ids, correct, report); !done) {
        return done.error();
    }
    TransitReport said = transit ? set_up_transit(config, ids->mail_user, ids->mail_group) : TransitReport{};
    if (!said.warning.empty()) {
        report.warnings.push_back(std::move(said.warning));
    }
    if (!said.notice.empty()) {
        report.notices.push_back(std::move(said.notice));
    }
    return report;
}

}  // namespace postern::master
