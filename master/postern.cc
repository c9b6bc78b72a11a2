/// postern - controls the mail system; also installed as postfix.
///
///     postern [-c directory] [-v] command
///
/// Runs as the administrator; keeps no rights and starts no service itself: postern-master(8) does.

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "master/control.h"

namespace {

using namespace postern::master;

/// Commands that are programs of their own, "postern-NAME", because they need what this program shall not link.
constexpr std::pair<const char*, const char*> kPrograms[] = {
    {"tlsrpt", "show what is counted for TLS reports (RFC 8460), and send them now"},
    {"password", "make the line of a user with a password"},
    {"queue", "show destinations, counts and ages of queued mail"},
    {"trace", "say how an address would be delivered, without sending anything"},
};

/// Returns when it cannot be run.
int run_program(const std::string& name, const std::string& directory, char** words) {
    const postern::Result<postern::Config> config = postern::Config::load(directory);
    if (!config) {
        fmt::print(stderr, "postern: fatal: {}\n", config.error().what);
        return 1;
    }
    const std::string program = config->command_directory() + "/postern-" + name;
    ::setenv("MAIL_CONFIG", directory.c_str(), 1);
    ::execv(program.c_str(), words);
    fmt::print(stderr, "postern: fatal: {}: {}\n", program, std::strerror(errno));
    return 1;
}

int help(bool asked_for) {
    std::FILE* const where = asked_for ? stdout : stderr;
    fmt::print(where, "usage: postern [-c directory] [-v] command\n\ncommands:\n");
    for (const ControlCommand& command : control_commands()) {
        fmt::print(where, "    {:<16} {}\n", command.name, command.help);
    }
    for (const auto& [name, what] : kPrograms) {
        fmt::print(where, "    {:<16} {}\n", name, what);
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
        const std::string_view called = argv[0];
        return help(called.substr(called.rfind('/') + 1) != "postfix");   // Postfix's fails without a command
    }
    context.directory = absolute(context.directory);
    const std::string name = argv[optind];
    for (const ControlCommand& command : control_commands()) {
        if (command.name == name && optind + 1 == argc) {
            return command.run(context);
        }
    }
    for (const auto& [program, what] : kPrograms) {
        if (name == program) {
            return run_program(name, context.directory, argv + optind);
        }
    }
    fmt::print(stderr, "postern: unknown command: {}\n", name);
    return help(false);
}
