/// Running somebody's program with a message on its standard input: |command in aliases and .forward,
/// mailbox_command, and pipe(8).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lib/async/task.h"
#include "lib/config/config.h"
#include "lib/sandbox/identity.h"
#include "local/message.h"
#include "local/outcome.h"

namespace postern::local {

struct Command {
    std::vector<std::string> argv;          ///< program and arguments; or, when empty:
    std::string shell_text;                 ///< as in an alias: run by /bin/sh when it has shell characters
    std::string shell;                      ///< local_command_shell: runs every shell_text when it is set
    UserIdentity user;
    std::vector<std::pair<std::string, std::string>> environment;   ///< all of it, but for PATH
    std::string directory;                  ///< working directory; empty: as ours
    std::string chroot;                     ///< pipe's chroot=; empty: none
    std::string prefix;                     ///< lines before the message
    BodyFilter filter;                      ///< for what follows, headers and body
    bool blank_at_end = false;              ///< an empty line after the message
    Seconds time_limit{1000};
    std::string success_text;               ///< "delivered to command: /usr/bin/x"
    bool show_output = false;               ///< the output of a successful command follows in ( )
};

/// Runs it and waits; the event loop goes on meanwhile.  Exit status and output become the outcome as in Postfix's
/// pipe_command(): sysexits(3) codes, "X.Y.Z text" in the output, death by signal or time limit.
Task<Outcome> run_command(Command command, MessagePtr message);

/// What export_environment lets through of our own environment, with its name=value words.
std::vector<std::pair<std::string, std::string>> exported_environment(const std::string& export_environment);

/// Replaces every byte that is not in `allowed` (command_expansion_filter) by '_'.
std::string censored(std::string_view text, std::string_view allowed);

/// " (first words of what a command printed)", or nothing.
std::string parenthesized(std::string_view output);

/// The outcome of a finished command; `wait_status` as waitpid(2) has it.
Outcome command_outcome(int wait_status, bool timed_out, std::string_view command_text, std::string_view output,
                        const std::string& success_text);

}  // namespace postern::local
