#include "master/child.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "lib/base/strings.h"

namespace postern::master {
namespace {

constexpr int kFirstSocket = 3;
/// Descriptors are first moved above all that they will be, so that none overwrites another.
constexpr int kMoveAbove = 256;

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> result;
    for (std::string& word : words) {
        result.push_back(word.data());
    }
    result.push_back(nullptr);
    return result;
}

/// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void become_service(const char* program, char* const* arguments, char* const* environment,
                                 const std::vector<int>& sources) {
    int moved[kMoveAbove];
    for (std::size_t i = 0; i < sources.size(); ++i) {
        moved[i] = ::fcntl(sources[i], F_DUPFD_CLOEXEC, kMoveAbove);
        if (moved[i] < 0) {
            ::_exit(126);
        }
    }
    for (std::size_t i = 0; i < sources.size(); ++i) {
        if (::dup2(moved[i], kFirstSocket + static_cast<int>(i)) < 0) {
            ::_exit(126);
        }
    }
    for (const int number : {SIGTERM, SIGHUP, SIGCHLD, SIGINT, SIGQUIT, SIGPIPE, SIGUSR1}) {
        ::signal(number, SIG_DFL);
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);   // what came since the fork counts now
    ::execve(program, arguments, environment);
    const char* const why = std::strerror(errno);
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, program, std::strlen(program));
    written = ::write(STDERR_FILENO, ": ", 2);
    written = ::write(STDERR_FILENO, why, std::strlen(why));
    written = ::write(STDERR_FILENO, "\n", 1);
    ::_exit(127);
}

}  // namespace

std::vector<std::string> child_arguments(const ChildPlan& plan) {
    const MasterEntry& entry = plan.entry;
    std::vector<std::string> arguments{entry.command, "-n", entry.name, "-t", std::string(service_type_name(entry.type)),
                                       entry.unprivileged ? "-u" : "-P"};
    if (entry.chroot) {
        arguments.emplace_back("-c");
    }
    for (int i = 0; i < plan.verbosity + entry.verbosity(); ++i) {
        arguments.emplace_back("-v");
    }
    if (plan.stress) {
        arguments.emplace_back("-o");
        arguments.emplace_back("stress=yes");
    }
    for (const auto& [name, value] : entry.overrides()) {
        arguments.emplace_back("-o");
        arguments.push_back(name + "=" + value);
    }
    const std::vector<std::string> others = entry.other_arguments();
    arguments.insert(arguments.end(), others.begin(), others.end());
    return arguments;
}

std::vector<std::string> child_environment(const ChildPlan& plan, int status_fd) {
    std::vector<std::string> environment;
    for (const std::string& word : split(plan.import_environment, ", \t\r\n")) {
        const std::string name = word.substr(0, word.find('='));
        if (name == "MAIL_CONFIG" || name == "PATH") {
            continue;   // set below
        }
        if (name.size() < word.size()) {
            environment.push_back(word);
        } else if (const char* value = std::getenv(name.c_str())) {
            environment.push_back(name + "=" + value);
        }
    }
    std::string names;
    for (const std::string& name : plan.socket_names) {
        names += names.empty() ? name : ":" + name;
    }
    environment.push_back("MAIL_CONFIG=" + plan.config_directory);
    environment.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    environment.push_back(fmt::format("LISTEN_FDS={}", plan.sockets.size()));
    environment.push_back("LISTEN_FDNAMES=" + names);
    environment.push_back(fmt::format("POSTERN_STATUS_FD={}", status_fd));
    environment.push_back(fmt::format("POSTERN_MASTER_FD={}", status_fd + 1));
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"}) {   // for the tests under sanitizers
        if (const char* value = std::getenv(name)) {
            environment.push_back(fmt::format("{}={}", name, value));
        }
    }
    return environment;
}

Result<StartedChild> start_child(const ChildPlan& plan) {
    int ends[2];
    if (plan.sockets.size() > kMoveAbove / 2) {
        return Error(Errc::config, "too many addresses for one service");
    }
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return errno_error("pipe");
    }
    UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);   // ours alone: the child's end is another file description
    const int status_fd = kFirstSocket + static_cast<int>(plan.sockets.size());
    std::vector<std::string> arguments = child_arguments(plan);
    std::vector<std::string> environment = child_environment(plan, status_fd);
    const std::vector<char*> argument_pointers = pointers(arguments);
    const std::vector<char*> environment_pointers = pointers(environment);
    std::vector<int> sources = plan.sockets;
    sources.push_back(write_end.get());
    sources.push_back(plan.master_pipe);
    // Until the child has put our handlers away a signal to it would run them, which tell the loop that it shares with us:
    // a SIGTERM would be ours, and the child would go on.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::fork();
    const int why = errno;
    if (pid == 0) {
        become_service(plan.program.c_str(), argument_pointers.data(), environment_pointers.data(), sources);
    }
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) {
        return Error(Errc::temporary, errno_error("fork", why).what);
    }
    return StartedChild{pid, std::move(read_end)};
}

}  // namespace postern::master
