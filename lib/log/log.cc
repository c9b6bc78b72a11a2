#include "lib/log/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "lib/base/json.h"
#include "lib/base/unique_fd.h"
#include "lib/log/clean.h"

namespace postern {
namespace {

constexpr std::size_t kMaxText = 2000;   // as in Postfix; syslog daemons cut much longer ones
constexpr std::array<std::string_view, 6> kPrefix = {"", "", "warning: ", "error: ", "fatal: ", "panic: "};
constexpr std::array<std::string_view, 6> kLevelName = {"debug", "info", "warning", "error", "fatal", "panic"};
// RFC 5424 section 6.2.1: debug, info, warning, err, crit, crit.
constexpr std::array<int, 6> kSeverity = {7, 6, 4, 3, 2, 2};

/// The one place where the process keeps state that is not handed around: a line must be possible
/// wherever something goes wrong.
struct Log {
    std::string tag = "postern";
    std::string host;
    LogDestination destination;
    UniqueFd fd;
    std::atomic<int> pid{0};
    LogLevel echo_from = LogLevel::warning;   ///< with LogDestination::echo_stderr
    LogSink sink = nullptr;
    void* sink_context = nullptr;
};

Log& the_log() {
    static Log* const log = new Log;   // never destroyed: threads may log until the very end
    return *log;
}

int connect_syslog() {
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    // A stuck syslog daemon must not stop the mail: after a second the line is lost.
    const timeval patience{.tv_sec = 1, .tv_usec = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, "/dev/log", sizeof "/dev/log");
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        ::close(fd);
        return -1;
    }
    return fd;
}

int open_file(const std::string& path, mode_t mode) {
    if (path == "/dev/stdout" || path == "/dev/stderr") {   // these may be sockets, which cannot be opened
        return ::fcntl(path == "/dev/stdout" ? STDOUT_FILENO : STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    }
    constexpr int kHow = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY;
    const int existing = ::open(path.c_str(), kHow);
    if (existing >= 0 || errno != ENOENT) {
        return existing;
    }
    const int made = ::open(path.c_str(), kHow | O_CREAT | O_EXCL, 0600);
    if (made >= 0) {
        ::fchmod(made, mode);   // whatever the umask is
    }
    return made >= 0 || errno != EEXIST ? made : ::open(path.c_str(), kHow);   // another program was quicker
}

/// "Nov 22 10:55:01"; made once a second and thread.
std::string_view date_text(std::time_t now) {
    thread_local std::time_t cached = -1;
    thread_local std::array<char, 32> text{};
    thread_local std::size_t size = 0;
    if (now != cached) {
        std::tm parts{};
        ::localtime_r(&now, &parts);
        constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        const auto end = fmt::format_to_n(text.data(), text.size(), "{} {:2} {:02}:{:02}:{:02}",
                                          kMonths[parts.tm_mon], parts.tm_mday, parts.tm_hour, parts.tm_min,
                                          parts.tm_sec);
        size = end.size < text.size() ? end.size : text.size();
        cached = now;
    }
    return {text.data(), size};
}

void write_whole(int fd, const char* data, std::size_t size) {
    while (size > 0) {
        const ssize_t written = ::write(fd, data, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return;   // a full disk: there is nowhere to say it
        }
        data += written;
        size -= static_cast<std::size_t>(written);
    }
}

void to_stderr(const Log& log, std::string_view text) {
    const std::string_view tag = log.tag;
    const std::string_view program = tag.substr(tag.rfind('/') == tag.npos ? 0 : tag.rfind('/') + 1);
    fmt::memory_buffer line;
    fmt::format_to(std::back_inserter(line), "{}: {}\n", program, text);
    write_whole(STDERR_FILENO, line.data(), line.size());
}

/// "4FZxyz: ..." begins with a queue id; so does "warning: 4FZxyz: ...".
std::string_view queue_id_in(std::string_view text) {
    const std::size_t colon = text.find(": ");
    if (colon == text.npos || colon < 5 || colon > 20) {
        return {};
    }
    const std::string_view id = text.substr(0, colon);
    if (id == "warning" || id == "error" || id == "fatal" || id == "panic") {
        return id == "warning" || id == "error" ? queue_id_in(text.substr(colon + 2)) : std::string_view();
    }
    bool digit = false;
    for (const char c : id) {
        const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        digit = digit || (c >= '0' && c <= '9');
        if (!letter && (c < '0' || c > '9')) {
            return {};
        }
    }
    return digit ? id : std::string_view();
}

void to_json(const Log& log, LogLevel level, std::string_view text, const timespec& now) {
    std::tm parts{};
    ::gmtime_r(&now.tv_sec, &parts);
    std::string line = fmt::format(
        R"({{"time":"{}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z","host":"{}","program":"{}","pid":{},"level":"{}")",
        parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
        now.tv_nsec / 1000, log.host, log.tag, log.pid.load(), kLevelName[static_cast<std::size_t>(level)]);
    if (const std::string_view id = queue_id_in(text); !id.empty()) {
        line += fmt::format(R"(,"queue_id":"{}")", id);
    }
    line += R"(,"message":")";
    append_json_string(line, text);
    line += "\"}\n";
    write_whole(log.fd.get(), line.data(), line.size());
}

void to_syslog(Log& log, LogLevel level, std::string_view text, const timespec& now) {
    fmt::memory_buffer line;
    fmt::format_to(std::back_inserter(line), "<{}>{} {}[{}]: {}", log.destination.facility * 8 + kSeverity[static_cast<std::size_t>(level)],
                   date_text(now.tv_sec), log.tag, log.pid.load(std::memory_order_relaxed), text);
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (::send(log.fd.get(), line.data(), line.size(), MSG_NOSIGNAL) >= 0 || errno == EAGAIN) {
            return;
        }
        // The daemon was restarted.  dup3 keeps the descriptor's number for threads that are sending now.
        const UniqueFd fresh(connect_syslog());
        if (!fresh || ::dup3(fresh.get(), log.fd.get(), O_CLOEXEC) < 0) {
            return;
        }
    }
}

void to_file(const Log& log, std::string_view text, const timespec& now) {
    fmt::memory_buffer line;
    fmt::format_to(std::back_inserter(line), "{} {} {}[{}]: {}\n", date_text(now.tv_sec), log.host, log.tag,
                   log.pid.load(std::memory_order_relaxed), text);
    write_whole(log.fd.get(), line.data(), line.size());
}

void emit(Log& log, LogLevel level, std::string_view text) {
    if (log.sink != nullptr) {
        log.sink(log.sink_context, level, text);
        return;
    }
    if (!log.fd || (log.destination.echo_stderr && level >= log.echo_from)) {
        to_stderr(log, text);
    }
    if (!log.fd) {
        return;
    }
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);   // answered without entering the kernel
    if (log.destination.kind == LogDestination::Kind::syslog) {
        to_syslog(log, level, text, now);
    } else if (log.destination.json) {
        to_json(log, level, text, now);
    } else {
        to_file(log, text, now);
    }
}

std::string short_host_name() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0) {
        return "localhost";
    }
    std::string host(name.data());
    if (const std::size_t dot = host.find('.'); dot != host.npos && dot > 0) {
        host.resize(dot);
    }
    return host;
}

}  // namespace

bool log_open(std::string program_tag, LogDestination destination) {
    Log& log = the_log();
    static const bool once = [] {
        ::pthread_atfork(nullptr, nullptr, [] { the_log().pid = ::getpid(); });
        return true;
    }();
    static_cast<void>(once);
    ::tzset();   // before chroot, where /etc/localtime is out of reach
    log.tag = std::move(program_tag);
    log.host = short_host_name();
    log.pid = ::getpid();
    log.destination = std::move(destination);
    log.fd.reset();
    if (log.destination.kind == LogDestination::Kind::standard_error) {
        return true;
    }
    if (log.destination.kind == LogDestination::Kind::syslog) {
        log.fd.reset(connect_syslog());
        return true;   // a machine without syslog is an ordinary container, not an error
    }
    log.fd.reset(open_file(log.destination.path, log.destination.mode));
    return static_cast<bool>(log.fd);
}

void log_set_tag(std::string program_tag) { the_log().tag = std::move(program_tag); }

void log_reopen() {
    Log& log = the_log();
    if (log.destination.kind != LogDestination::Kind::file || !log.fd) {
        return;
    }
    const UniqueFd fresh(open_file(log.destination.path, log.destination.mode));
    if (fresh) {
        ::dup3(fresh.get(), log.fd.get(), O_CLOEXEC);
    }
}

void log_echo_all() { the_log().echo_from = LogLevel::info; }

void log_set_sink(LogSink sink, void* context) {
    the_log().sink_context = context;
    the_log().sink = sink;
}

int log_descriptor() { return the_log().fd.get(); }

bool log_debug_enabled() { return the_log().destination.verbosity > 0; }

void log_line(LogLevel level, fmt::string_view format, fmt::format_args args) {
    const int saved_errno = errno;
    const std::string_view prefix = kPrefix[static_cast<std::size_t>(level)];
    fmt::memory_buffer text;
    text.append(prefix.data(), prefix.data() + prefix.size());
    fmt::vformat_to(fmt::appender(text), format, args);
    if (text.size() > kMaxText) {
        text.resize(kMaxText);
    }
    clean_log_text(text.data(), text.size());
    emit(the_log(), level, {text.data(), text.size()});
    errno = saved_errno;
}

void log_and_exit(fmt::string_view format, fmt::format_args args) {
    log_line(LogLevel::fatal, format, args);
    std::fflush(nullptr);
    ::_exit(1);   // no destructors: other threads may be at work
}

void log_and_abort(fmt::string_view format, fmt::format_args args) {
    log_line(LogLevel::panic, format, args);
    std::abort();
}

}  // namespace postern
