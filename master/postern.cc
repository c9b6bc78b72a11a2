/// postern - controls the mail system; also installed as postfix.
///
///     postern [-c directory] [-v] command
///
/// Runs as the administrator; keeps no rights and starts no service itself: postern-master(8) does.

#include <unistd.h>

#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "master/control.h"

namespace {

using namespace postern::master;

int help(bool asked_for) {
    std::FILE* const where = asked_for ? stdout : stderr;
    fmt::print(where, "usage: postern [-c directory] [-v] command\n\ncommands:\n");
    for (const ControlCommand& command : control_commands()) {
        fmt::print(where, "    {:<16} {}\n", command.name, command.help);
    }
    return asked_for ? 0 : 1;
}

/// Programs that are started later run elsewhere, so the name has to begin at the root.
std::string absolute(const std::string& directory) {
    char* const path = ::realpath(directory.c_str(), nullptr);
    const std::string result = path == nullptr ? directory : path;
    std::free(path);
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    ControlContext context;
    context.directory = postern::Config::default_directory();
    for (int option; (option = ::getopt(argc, argv, "+c:vDh")) != -1;) {
        switch (option) {
        case 'c': context.directory = optarg; break;
        case 'v': ++context.verbosity; break;
        case 'D': break;   // accepted for old scripts; debugger_command does not exist here
        case 'h': return help(true);
        default: return help(false);
        }
    }
    if (optind == argc) {
        return help(true);
    }
    context.directory = absolute(context.directory);
    const std::string name = argv[optind];
    for (const ControlCommand& command : control_commands()) {
        if (command.name == name && optind + 1 == argc) {
            return command.run(context);
        }
    }
    fmt::print(stderr, "postern: unknown command: {}\n", name);
    return help(false);
}
