/// Starting one service process, with what service.h promises it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/config/master_cf.h"

namespace postern::master {

struct ChildPlan {
    const MasterEntry& entry;
    std::string program;                       ///< path
    std::vector<int> sockets;                  ///< become descriptors 3, 4, ...
    std::vector<std::string> socket_names;     ///< for LISTEN_FDNAMES
    int master_pipe = -1;                      ///< its end is master's
    std::string config_directory;
    std::string import_environment;            ///< the parameter: names, and NAME=value
    int verbosity = 0;                         ///< master's own -v
    bool stress = false;                       ///< the service was at its process limit a short time ago
};

struct StartedChild {
    pid_t pid = -1;
    UniqueFd status;   ///< our end of the status pipe: bytes of Status, its end when the child is gone
};

/// Forks and executes.  Errors: temporary when the kernel has no more processes or descriptors; a program that cannot
/// be executed ends as a child with status 127, having said why on standard error.
Result<StartedChild> start_child(const ChildPlan& plan);

/// The child's arguments (argv[0] included) and environment; public for tests.
std::vector<std::string> child_arguments(const ChildPlan& plan);
/// `status_fd` is what the status pipe will be; the next number is the master pipe's.
std::vector<std::string> child_environment(const ChildPlan& plan, int status_fd);

}  // namespace postern::master
