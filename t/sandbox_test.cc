/// lib/sandbox: what a confined process can still do.  Each case confines a forked child and looks from inside.
#include "lib/base/sanitizer.h"
#include "lib/sandbox/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "lib/log/capture.h"
#include "lib/sandbox/forked_child.h"
#include "lib/sandbox/identity.h"

using namespace postern;

namespace {

constexpr uid_t kNobody = 65534;

/// Status of a child that ran `body`: its return value, or 1000 + the signal that ended it.
template <class Body>
int in_child(Body body) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGSYS, SIG_DFL);
        ::_exit(body());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void become_nobody() {
    const bool ok = ::setgroups(0, nullptr) == 0 && ::setresgid(kNobody, kNobody, kNobody) == 0 &&
                    ::setresuid(kNobody, kNobody, kNobody) == 0;
    if (!ok) {
        ::_exit(99);
    }
}

/// Two directories, "in" and "out", that everybody may write to.
struct Directories {
    Directories() {
        char name[] = "/tmp/postern-sandbox-XXXXXX";
        root = ::mkdtemp(name);
        for (const char* sub : {"", "/in", "/out"}) {
            const std::string path = root + sub;
            ::mkdir(path.c_str(), 0777);
            ::chmod(path.c_str(), 0777);
        }
    }
    ~Directories() {
        const std::string command = "rm -rf '" + root + "'";
        if (std::system(command.c_str()) != 0) {
            WARN("left behind: " << root);
        }
    }
    std::string root;
};

int open_errno(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), flags, 0600);
    if (fd >= 0) {
        ::close(fd);
        return 0;
    }
    return errno;
}

ConfineContext nobody_context(const Directories& directories) {
    ConfineContext context;
    context.user_name = "nobody";
    context.queue_directory = directories.root;
    return context;
}

bool has_root() {
    if (::geteuid() == 0) {
        return true;
    }
    WARN("not root: skipped");
    return false;
}

bool has_landlock() {
    if (!kSanitizer && landlock_version() > 0) {
        return true;
    }
    WARN("no Landlock here: skipped");
    return false;
}

}  // namespace

TEST_CASE("root becomes the user without a way back", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    const Directories directories;
    CHECK(in_child([&] {
              confine({.readable = "/", .writable = "/", .syscalls = Syscalls::unrestricted}, nobody_context(directories));
              uid_t r = 0, e = 0, s = 0;
              ::getresuid(&r, &e, &s);
              if (r != kNobody || e != kNobody || s != kNobody || ::setuid(0) == 0) {
                  return 1;
              }
              if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
                  return 2;
              }
              const cap_t caps = ::cap_get_proc();
              const cap_t none = ::cap_init();
              if (::cap_compare(caps, none) != 0) {
                  return 3;
              }
              return ::cap_get_bound(CAP_SYS_ADMIN) == 0 ? 0 : 4;
          }) == 0);
}

TEST_CASE("listed capabilities stay and no others", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    const Directories directories;
    CHECK(in_child([&] {
              confine({.capabilities = "cap_setuid,cap_setgid", .readable = "/", .writable = "/", .syscalls = Syscalls::launcher},
                      nobody_context(directories));
              cap_flag_value_t setuid_there = CAP_CLEAR, chown_there = CAP_SET;
              const cap_t caps = ::cap_get_proc();
              ::cap_get_flag(caps, CAP_SETUID, CAP_EFFECTIVE, &setuid_there);
              ::cap_get_flag(caps, CAP_CHOWN, CAP_PERMITTED, &chown_there);
              if (setuid_there != CAP_SET || chown_there != CAP_CLEAR) {
                  return 1;
              }
              return ::setresuid(12345, 12345, 12345) == 0 ? 0 : 2;
          }) == 0);
}

TEST_CASE("the user \"root\" keeps uid 0 with the listed capabilities only", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    const Directories directories;
    CHECK(in_child([&] {
              confine({.user = "root", .capabilities = "cap_setuid", .readable = "/", .writable = "/", .syscalls = Syscalls::delivery},
                      nobody_context(directories));
              if (::geteuid() != 0 || ::chown(directories.root.c_str(), 1, 1) == 0) {
                  return 1;
              }
              return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : 2;   // set-id programs of users work
          }) == 0);
}

TEST_CASE("master.cf can keep a service privileged", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    const Directories directories;
    CHECK(in_child([&] {
              ConfineContext context = nobody_context(directories);
              context.keep_user = true;
              confine({.readable = "/", .writable = "/", .syscalls = Syscalls::files}, context);
              return ::geteuid() == 0 && ::chown(directories.root.c_str(), 1, 1) == 0 ? 0 : 1;
          }) == 0);
}

TEST_CASE("a missing user is fatal", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    CHECK(in_child([&] {
              log_set_sink([](void*, LogLevel, std::string_view) {}, nullptr);
              ConfineContext context;
              context.user_name = "no-such-user-here";
              confine({.syscalls = Syscalls::unrestricted}, context);
              return 0;
          }) == 1);
}

TEST_CASE("after chroot the directory is the root", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    const Directories directories;
    CHECK(in_child([&] {
              ConfineContext context = nobody_context(directories);
              context.chroot_directory = directories.root;
              confine({.chroot = "queue_directory", .readable = "$queue_directory/in", .writable = "$queue_directory/in"}, context);
              if (open_errno("/etc/passwd", O_RDONLY) == 0) {
                  return 1;
              }
              return ::access("/in", R_OK) == 0 && ::access("/out", F_OK) == 0 ? 0 : 2;
          }) == 0);
}

TEST_CASE("Landlock holds an ordinary user in its directories", "[sandbox]") {
    const Directories directories;
    if (!has_landlock()) {
        return;
    }
    CHECK(in_child([&] {
              if (::geteuid() == 0) {
                  become_nobody();
              }
              ConfineContext context;
              context.queue_directory = directories.root;
              confine({.readable = "system", .writable = "$queue_directory/in", .syscalls = Syscalls::files}, context);
              if (open_errno(directories.root + "/in/file", O_WRONLY | O_CREAT) != 0) {
                  return 1;
              }
              if (open_errno(directories.root + "/out/file", O_WRONLY | O_CREAT) != EACCES) {
                  return 2;
              }
              if (open_errno("/etc/passwd", O_RDONLY) != 0 || open_errno("/proc/1/stat", O_RDONLY) == 0) {
                  return 3;
              }
              ::mkdir((directories.root + "/in/sub").c_str(), 0700);
              const bool moved = ::rename((directories.root + "/in/file").c_str(), (directories.root + "/in/sub/file").c_str()) == 0;
              return moved ? 0 : 4;
          }) == 0);
}

TEST_CASE("a right to a link is one to where it leads, and to nothing when it leads nowhere", "[sandbox]") {
    const Directories directories;
    if (!has_landlock()) {
        return;
    }
    for (const bool is_there : {false, true}) {
        CHECK(in_child([&] {
                  const std::string link = directories.root + "/link";
                  ::unlink(link.c_str());
                  if (::symlink((directories.root + (is_there ? "/in" : "/nowhere")).c_str(), link.c_str()) != 0) {
                      return 2;
                  }
                  if (::geteuid() == 0) {
                      become_nobody();
                  }
                  ConfineContext context;
                  context.queue_directory = directories.root;
                  confine({.readable = "$queue_directory/link"}, context);
                  const bool readable = open_errno(directories.root + "/in", O_RDONLY | O_DIRECTORY) == 0;
                  const bool others = open_errno("/", O_RDONLY | O_DIRECTORY) == 0 || open_errno(directories.root, O_RDONLY | O_DIRECTORY) == 0;
                  return readable == is_there && !others ? 0 : 1;
              }) == 0);
    }
}

TEST_CASE("no files means no files", "[sandbox]") {
    const Directories directories;
    if (!has_landlock()) {
        return;
    }
    CHECK(in_child([&] {
              if (::geteuid() == 0) {
                  become_nobody();
              }
              confine({}, {});
              return open_errno("/etc/passwd", O_RDONLY) == EACCES && open_errno("/etc", O_RDONLY) == EACCES ? 0 : 1;
          }) == 0);
}

TEST_CASE("network_only makes no file and no process but threads and sockets", "[sandbox]") {
    if (kSanitizer) {
        return;
    }
    const Directories directories;
    CHECK(in_child([&] {
              if (::geteuid() == 0) {
                  become_nobody();
              }
              confine({.readable = "/", .writable = "/"}, {});
              if (open_errno(directories.root + "/in/x", O_WRONLY | O_CREAT) != ENOSYS) {
                  return 1;
              }
              if (open_errno("/etc/passwd", O_RDONLY) != 0) {
                  return 2;
              }
              if (::fork() >= 0) {
                  return 3;
              }
              int from_thread = 0;
              std::thread thread([&] { from_thread = ::socket(AF_INET, SOCK_STREAM, 0); });
              thread.join();
              int pair[2];
              return from_thread > 0 && ::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? 0 : 4;
          }) == 0);
}

TEST_CASE("a session makes no connection to the network", "[sandbox]") {
    if (kSanitizer) {
        return;
    }
    const auto made = [](Syscalls profile, int family) {
        return in_child([&] {
                   confine({.readable = "/", .writable = "/", .syscalls = profile}, {.user_name = "nobody"});
                   return ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ? 0 : errno;
               });
    };
    CHECK(made(Syscalls::files, AF_INET) == 0);
    CHECK(made(Syscalls::session, AF_UNIX) == 0);
    CHECK(made(Syscalls::session, AF_INET) == ENOSYS);
    CHECK(made(Syscalls::session, AF_INET6) == ENOSYS);
    CHECK(made(Syscalls::session, AF_NETLINK) == ENOSYS);
}

TEST_CASE("a session may make files with its saved group, and nothing else with it", "[sandbox]") {
    if (kSanitizer || ::geteuid() != 0) {
        return;
    }
    constexpr gid_t kOwn = 65533, kSaved = 65532;
    CHECK(in_child([&] {
              if (::setgroups(0, nullptr) != 0 || ::setresgid(kOwn, kOwn, kSaved) != 0 || ::setresuid(65534, 65534, 65534) != 0) {
                  return 9;
              }
              ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              if (!PreparedFilter(Syscalls::session).load()) {
                  return 8;
              }
              const auto file_group = [] { return static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))); };
              bool right = SavedGroup::exists();
              std::atomic<bool> look = false;
              gid_t elsewhere = 0;
              std::thread thread([&] {
                  while (!look) {
                      ::usleep(1000);
                  }
                  elsewhere = file_group();
              });
              {
                  const SavedGroup group;
                  right = right && file_group() == kSaved;
                  look = true;
                  thread.join();
                  right = right && elsewhere == kOwn;
              }
              right = right && file_group() == kOwn && ::setfsgid(0) == static_cast<int>(kOwn) && file_group() == kOwn;
              return right && ::setresgid(kSaved, kSaved, kSaved) != 0 && errno == ENOSYS ? 0 : 1;
          }) == 0);
}

TEST_CASE("what only an attacker calls ends the process", "[sandbox]") {
    if (kSanitizer) {
        return;
    }
    for (const Syscalls profile : {Syscalls::network_only, Syscalls::files, Syscalls::session, Syscalls::launcher}) {
        CAPTURE(static_cast<int>(profile));
        const Rights rights{.readable = "/", .writable = "/", .syscalls = profile};
        const ConfineContext context{.user_name = "nobody"};
        CHECK(in_child([&] {
                  confine(rights, context);
                  ::execl("/bin/true", "true", nullptr);
                  return 0;
              }) == 1000 + SIGSYS);
        CHECK(in_child([&] {
                  confine(rights, context);
                  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
                  return 0;
              }) == 1000 + SIGSYS);
    }
}

TEST_CASE("a delivery agent runs programs and may not mount", "[sandbox]") {
    if (kSanitizer || !has_root()) {
        return;
    }
    const Rights rights{.user = "root", .capabilities = "cap_setuid,cap_setgid", .readable = "/", .writable = "/", .syscalls = Syscalls::delivery};
    CHECK(in_child([&] {
              confine(rights, {});
              ::execl("/bin/true", "true", nullptr);
              return 1;
          }) == 0);
    CHECK(in_child([&] {
              confine(rights, {});
              return ::syscall(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr) == -1 && errno == EPERM ? 0 : 1;
          }) == 0);
}

TEST_CASE("a thread takes on a user and gives it back", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    const Directories directories;
    const std::string secret = directories.root + "/secret";
    std::ofstream(secret) << "root only";
    ::chmod(secret.c_str(), 0600);
    for (const char* base : {"root", "mail_owner"}) {
        CAPTURE(base);
        CHECK(in_child([&] {
                  ConfineContext context = nobody_context(directories);
                  confine({.user = base, .capabilities = "cap_setuid,cap_setgid", .readable = "/", .writable = "/", .syscalls = Syscalls::delivery},
                          context);
                  const uid_t before = ::geteuid();
                  int wrong = 0;
                  std::thread worker([&] {
                      const UserIdentity user{.uid = 12345, .gid = 23456, .groups = {34567}};
                      const UserIdentity again{.uid = 54321, .gid = 54321, .groups = {}};
                      const auto is_user = [] {
                          gid_t group = 0;
                          return ::geteuid() == 12345 && ::getegid() == 23456 && ::getgroups(1, &group) == 1 && group == 34567;
                      };
                      if (!assume_identity(user) || !is_user() || !assume_identity(user) || !is_user()) {
                          wrong = 1;
                          return;
                      }
                      const std::string mine = directories.root + "/in/" + std::to_string(before);
                      const int fd = ::open(mine.c_str(), O_WRONLY | O_CREAT, 0600);
                      struct stat info {};
                      if (fd < 0 || ::fstat(fd, &info) != 0 || info.st_uid != 12345 || info.st_gid != 23456 ||
                          open_errno(secret, O_RDONLY) != EACCES) {
                          wrong = 2;
                      }
                      if (!assume_identity(again) || ::geteuid() != 54321 || ::getgroups(0, nullptr) != 0) {
                          wrong = 4;
                      }
                      const UserIdentity root;
                      const bool refused = before == 0 || !assume_identity(root);
                      leave_identity();
                      if (!refused || ::geteuid() != before) {
                          wrong = 3;
                      }
                  });
                  const bool others_untouched = ::geteuid() == before;
                  worker.join();
                  return others_untouched ? wrong : 5;
              }) == 0);
    }
}

TEST_CASE("uid 0 is never taken on by one who has it not", "[sandbox]") {
    if (!has_root()) {
        return;
    }
    CHECK(in_child([&] {
              const ConfineContext context{.user_name = "nobody"};
              confine({.capabilities = "cap_setuid,cap_setgid", .readable = "/", .writable = "/", .syscalls = Syscalls::delivery}, context);
              const UserIdentity root;
              const Result<void> identity = assume_identity(root);
              return !identity && identity.error().code == Errc::denied ? 0 : 1;
          }) == 0);
}

TEST_CASE("without capabilities a thread has its own identity only", "[sandbox]") {
    CHECK(in_child([&] {
              if (::geteuid() == 0) {
                  become_nobody();
              }
              const UserIdentity self{.uid = ::geteuid(), .gid = ::getegid(), .groups = {}};
              const UserIdentity other{.uid = 12345, .gid = 12345, .groups = {}};
              if (!assume_identity(self)) {
                  return 1;
              }
              const Result<void> identity = assume_identity(other);
              return !identity && identity.error().code == Errc::denied ? 0 : 2;
          }) == 0);
}

TEST_CASE("users are found with their groups", "[sandbox]") {
    const Result<UserIdentity> root = find_user("root");
    REQUIRE(root);
    CHECK(root->uid == 0);
    CHECK(!root->groups.empty());
    CHECK(find_user("no-such-user-here").error().code == Errc::not_found);
}

TEST_CASE("a forked child has its socket and what it is to keep, and nothing else that was open", "[sandbox]") {
    const UniqueFd secret(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const UniqueFd kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto run = [&](UniqueFd socket) {
        char question = 0;
        const bool asked = ::read(socket.get(), &question, 1) == 1 && question == '?';
        const char answer[] = {asked ? 'y' : 'n', ::fcntl(kept.get(), F_GETFD) >= 0 ? 'y' : 'n',
                               ::fcntl(secret.get(), F_GETFD) >= 0 ? 'y' : 'n'};
        if (::write(socket.get(), answer, sizeof answer) != sizeof answer) {
            ::_exit(1);
        }
    };
    const Result<ForkedChild> child = fork_child(SOCK_STREAM, {kept.get(), -1}, run);
    REQUIRE(child);
    REQUIRE(::write(child->socket.get(), "?", 1) == 1);
    char answer[4] = {};
    CHECK(::read(child->socket.get(), answer, sizeof answer) == 3);
    CHECK(std::string(answer) == "yyn");
    CHECK(::read(child->socket.get(), answer, 1) == 0);   // its end of the socket was open in the child alone
    int status = -1;
    REQUIRE(::waitpid(child->pid, &status, 0) == child->pid);
    CHECK(status == 0);
}
