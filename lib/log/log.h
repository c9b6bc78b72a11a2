/// Logging: one line per event, in the shapes that log analysers know from Postfix.
///
/// A line goes to syslog, to a file, or to standard error.  Whatever the text
/// contains, a line stays one line: control characters and bytes that are not UTF-8 are replaced by
/// '?', so that nobody on the network can forge a log entry.
///
/// Cost: under two microseconds and one system call a line.  Logging is safe from any thread;
/// log_open() and log_set_sink() are for the time before the process has threads.
#pragma once

#include <fmt/core.h>

#include <sys/types.h>

#include <string>
#include <string_view>

namespace postern {

enum class LogLevel : unsigned char { debug, info, warning, error, fatal, panic };

/// Where lines go.
struct LogDestination {
    enum class Kind : unsigned char {
        syslog,           ///< datagrams to /dev/log; standard error when there is none
        file,             ///< appended to `path`; "/dev/stdout" and "/dev/stderr" mean those descriptors
        standard_error,   ///< "program: text", for commands
    };
    Kind kind = Kind::standard_error;
    std::string path;            ///< of the file (maillog_file)
    bool json = false;           ///< log_format = json: one object a line; not for standard_error
    bool echo_stderr = false;    ///< warnings and worse also on standard error, as commands do
    int verbosity = 0;           ///< number of -v options; log_debug() is silent at 0
    int facility = 2;            ///< of syslog (RFC 5424 section 6.2.1): mail, unless syslog_facility says otherwise
    mode_t mode = 0600;          ///< of a file that is made (maillog_file_permissions)
};

/// Opens the log; call it before chroot and before rights are given up.  `program_tag` is
/// "$syslog_name/program", such as "postfix/smtpd".  May be called again, for instance after the
/// configuration was read or in a forked child.  False when a file cannot be opened (errno says why): lines
/// then go to standard error.  Without any call, lines go to standard error.
bool log_open(std::string program_tag, LogDestination destination);

/// Changes the tag only, as a session process does when it takes on a role.
void log_set_tag(std::string program_tag);

/// Opens a log file again after it was rotated.  When that is not permitted any more the old one stays
/// in use.
void log_reopen();

/// From now on every line is also written to standard error: for commands that tell what they do.
void log_echo_all();

/// Receives what would have been logged; `text` has the "warning: " and similar in front, and is already
/// clean.  While a sink is set nothing goes anywhere else.  nullptr takes it away.
using LogSink = void (*)(void* context, LogLevel level, std::string_view text);
void log_set_sink(LogSink sink, void* context);

/// The descriptor lines go to, or -1: a process that closes "everything else" keeps this one.
int log_descriptor();

bool log_debug_enabled();

void log_line(LogLevel level, fmt::string_view format, fmt::format_args args);
[[noreturn]] void log_and_exit(fmt::string_view format, fmt::format_args args);
[[noreturn]] void log_and_abort(fmt::string_view format, fmt::format_args args);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
    if (log_debug_enabled()) {
        log_line(LogLevel::debug, format, fmt::make_format_args(args...));
    }
}

/// What happened, in ordinary service.
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::info, format, fmt::make_format_args(args...));
}

/// "warning: " in front: somebody should look at this some time.
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::warning, format, fmt::make_format_args(args...));
}

/// "error: " in front: something was not done.
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::error, format, fmt::make_format_args(args...));
}

/// The process cannot do its job: "fatal: " in front, then exit status 1.
template <class... Args>
[[noreturn]] void fatal(fmt::format_string<Args...> format, Args&&... args) {
    log_and_exit(format, fmt::make_format_args(args...));
}

/// The program is wrong: "panic: " in front, then abort() for a core file.  Never because of input.
template <class... Args>
[[noreturn]] void panic(fmt::format_string<Args...> format, Args&&... args) {
    log_and_abort(format, fmt::make_format_args(args...));
}

}  // namespace postern
