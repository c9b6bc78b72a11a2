#include "lib/login/session_process.h"

#include <fmt/format.h>
#include <glob.h>
#include <grp.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "lib/async/offload.h"
#include "lib/base/sanitizer.h"
#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "lib/login/sync_channel.h"
#include "lib/sandbox/identity.h"

namespace postern {

namespace {

constexpr std::size_t kThreads = 4;
constexpr Millis kReturnPatience = std::chrono::seconds(10);
constexpr std::string_view kReadable =
    "/etc/localtime /usr/share/zoneinfo /etc/nsswitch.conf /dev/null /dev/urandom /proc/self "
    "/proc/sys/kernel/random/boot_id";   // whether a cache is from before the last crash of the machine

/// The absolute paths in a mail_location: "maildir:/a:INDEX=/b".
std::vector<std::string> paths_in(std::string_view mail_location) {
    std::vector<std::string> paths;
    for (const std::string& part : split_exact(mail_location, ':')) {
        const std::size_t slash = part.find('/');
        const bool after_name = slash != std::string::npos && slash > 0 && part[slash - 1] == '=';
        if (slash == 0 || after_name) {
            paths.push_back(part.substr(slash));
        }
    }
    return paths;
}

bool is_inbox_file(std::string_view mail_location, const std::string& path) {
    return mail_location.substr(0, 5) == "mbox:" && mail_location.find("INBOX=" + path) != std::string_view::npos;
}

/// Makes a directory and those above it that are missing, as the user: what may not be made is somebody else's.
void make_directories(const std::string& path) {
    if (::access(path.c_str(), F_OK) == 0) {
        return;
    }
    for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        ::mkdir(path.substr(0, slash).c_str(), 0700);
    }
    ::mkdir(path.c_str(), 0700);
}

void become(const AuthUser& user, const MailGroups& more) {
    if (::geteuid() != 0) {
        return;   // an unprivileged suite: the launcher has checked that it is the same user
    }
    std::vector<gid_t> groups(user.groups.begin(), user.groups.end());
    groups.insert(groups.end(), more.access.begin(), more.access.end());
    if (::setgroups(groups.size(), groups.data()) != 0 ||
        ::setresgid(user.gid, user.gid, more.privileged.value_or(user.gid)) != 0 ||
        ::setresuid(user.uid, user.uid, user.uid) != 0) {
        fatal("change to uid {} gid {}: {}", user.uid, user.gid, errno_error("").what);
    }
    if (::setresuid(0, 0, 0) == 0 || ::geteuid() != user.uid || ::getegid() != user.gid) {
        panic("still root after becoming uid {}", user.uid);
    }
    keep_capabilities("");
}

void limit_rights(const AuthUser& user, const PreparedFilter& filter) {
    if (!user.home.empty()) {
        make_directories(user.home);
    }
    for (const std::string& path : paths_in(user.mail_location)) {
        if (!is_inbox_file(user.mail_location, path)) {
            make_directories(path);
        }
    }
    if (user.home.empty() || ::chdir(user.home.c_str()) != 0) {
        [[maybe_unused]] const int status = ::chdir("/");
    }
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!kSanitizer) {
        if (!restrict_files(session_paths(user))) {
            log_debug("no Landlock for user {}", user.user);
        }
        if (!filter.load()) {
            log_debug("no seccomp filter for user {}", user.user);
        }
    }
}

/// A directory by what it is, not by its name.
struct Place {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;

    explicit Place(std::string name) : path(std::move(name)) { look(device, inode); }
    bool is_unchanged() const {
        dev_t device_now = 0;
        ino_t inode_now = 0;
        look(device_now, inode_now);
        return device_now == device && inode_now == inode;
    }

private:
    void look(dev_t& where, ino_t& what) const {
        struct stat status {};
        if (::stat(path.c_str(), &status) == 0) {
            where = status.st_dev;
            what = status.st_ino;
        }
    }
};

std::vector<Place> places_of(const AuthUser& user) {
    std::vector<Place> places;
    for (std::string& path : split(session_paths(user).writable, " ")) {
        places.emplace_back(std::move(path));
    }
    return places;
}

/// What the coroutines of one session process share; lives in run_session_process.
struct Process {
    Channel<FromSessionProcess, ToSessionProcess> control;
    std::shared_ptr<const AuthUser> user;   // also held by each connection
    const Launcher& launcher;
    const Config& config;
    std::size_t connections = 0;
    bool launcher_gone = false;
    Timer farewell{};
    std::vector<Place> places{};        ///< that the process is confined to
    UniqueFd master_pipe{};
    FdEvents master_watch{};
    bool master_gone = false;
    bool saying_goodbye = false;

    void end_if_done() const {
        if (launcher_gone && connections == 0) {
            Loop::current().stop();
        }
    }
};

Task<> serve_client(Process& process, ServeClient request) {
    SessionConnection connection;
    connection.stream = make_socket_stream(std::move(request.client));
    connection.stream->unread(request.info.input);
    std::string().swap(request.info.input);
    connection.info = std::move(request.info);
    connection.user = process.user;
    ++process.connections;
    co_await process.launcher.serve(std::move(connection), process.config);
    --process.connections;
    if (!process.launcher_gone) {
        ClientEnded ended;
        ended.id = request.id;
        (void)co_await process.control.send(std::move(ended), std::chrono::seconds(10));
    }
    process.end_if_done();
}

/// The sessions have been told, or will not listen.
void end_at_once(void*) { Loop::current().stop(); }

void say_goodbye(Process& process) {
    process.saying_goodbye = true;
    if (process.launcher.stop == nullptr) {
        process.connections = 0;
        return;
    }
    process.farewell.start(kSessionFarewell, &end_at_once, nullptr);
    process.launcher.stop();
}

/// The launcher ends its sessions when the suite is stopped.  One that was killed cannot.
Task<> watch_master(Process& process) {
    const Wake wake = co_await process.master_watch.readable(kForever);   // nobody writes: that is its end
    if (wake != Wake::ready) {
        co_return;
    }
    process.master_watch.close();
    process.master_gone = true;
    if (process.launcher_gone) {
        say_goodbye(process);
        process.end_if_done();
    }
}

Task<> take_clients(Process& process) {
    for (;;) {
        Result<ToSessionProcess> message = co_await process.control.receive(kForever);
        if (!message) {
            break;
        }
        if (std::holds_alternative<StopSessions>(*message)) {
            say_goodbye(process);
            break;
        }
        ServeClient request = std::get<ServeClient>(std::move(*message));
        const bool unchanged = std::all_of(process.places.begin(), process.places.end(),
                                           [](const Place& place) { return place.is_unchanged(); });
        if (unchanged || request.returned) {
            spawn(serve_client(process, std::move(request)));
            continue;
        }
        ClientReturned back;
        back.client = std::move(request);
        (void)co_await process.control.send(std::move(back), kReturnPatience);
    }
    process.launcher_gone = true;
    process.control.close();
    if (process.master_gone && !process.saying_goodbye) {
        say_goodbye(process);
    }
    process.end_if_done();
}

}  // namespace

const std::string& character_sets() {
    static const std::string found = [] {
        std::string paths = " /usr/lib/locale/C.utf8 /usr/lib/locale/C.UTF-8";
        glob_t matches{};
        if (::glob("/usr/{lib,lib64,lib/*}/gconv", GLOB_BRACE | GLOB_ONLYDIR, nullptr, &matches) == 0) {
            for (std::size_t i = 0; i < matches.gl_pathc; ++i) {
                paths += " ";
                paths += matches.gl_pathv[i];
            }
        }
        ::globfree(&matches);
        return paths;
    }();
    return found;
}

Result<MailGroups> find_mail_groups(const Config& config) {
    MailGroups groups;
    if (::geteuid() != 0) {
        return groups;
    }
    for (const std::string& name : split_list(config.mail_access_groups())) {
        const Result<gid_t> group = find_group(name);
        if (!group) {
            return {Errc::config, fmt::format("mail_access_groups = {}: {}", config.mail_access_groups(), group.error().what)};
        }
        groups.access.push_back(*group);
    }
    if (const std::string& name = config.mail_privileged_group(); !name.empty()) {
        const Result<gid_t> group = find_group(name);
        if (!group) {
            return {Errc::config, fmt::format("mail_privileged_group = {}: {}", name, group.error().what)};
        }
        groups.privileged = *group;
    }
    return groups;
}

FilePaths session_paths(const AuthUser& user) {
    FilePaths paths;
    paths.readable = std::string(kReadable) + character_sets();
    paths.writable = user.home;
    for (const std::string& path : paths_in(user.mail_location)) {
        const std::string place =
            is_inbox_file(user.mail_location, path) ? path.substr(0, path.rfind('/')) : path;
        if (place != user.home) {
            paths.writable += (paths.writable.empty() ? "" : " ") + place;
        }
    }
    return paths;
}

void run_session_process(UniqueFd control, UniqueFd master_pipe, const AuthUser& user, const MailGroups& groups,
                         const Launcher& launcher, const Config& config, const PreparedFilter& filter) {
    ::mallopt(M_ARENA_MAX, 1);               // threads here wait for disks, they do not compete for memory
    ::mallopt(M_TRIM_THRESHOLD, 64 * 1024);
    std::signal(SIGTERM, SIG_DFL);
    std::signal(SIGHUP, SIG_IGN);
    std::signal(SIGPIPE, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    become(user, groups);
    limit_rights(user, filter);
    set_offload_threads(kThreads);
    Process process{Channel<FromSessionProcess, ToSessionProcess>(std::move(control), kMaxHandOver),
                    std::make_shared<const AuthUser>(user), launcher, config, 0, false, {}, places_of(user), std::move(master_pipe), {}, false, false};
    if (launcher.prepare != nullptr) {
        launcher.prepare(*process.user, config);
    }
    if (process.master_pipe) {
        process.master_watch.open(process.master_pipe.get());
        spawn(watch_master(process));
    }
    spawn(take_clients(process));
    Loop::current().run();
    if (launcher.end != nullptr && process.connections == 0) {
        launcher.end();
    }
    std::fflush(nullptr);
    std::_Exit(0);   // what is still open in other coroutines is closed by the kernel
}

}  // namespace postern
