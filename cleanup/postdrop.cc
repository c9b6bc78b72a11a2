/// postdrop - puts a message from sendmail(1) into maildrop/, where ordinary users may not write.
///
/// Set-gid to setgid_group, so everything that comes from the caller is hostile: arguments, environment, standard
/// input.  It works whether the mail system runs or not.
///
/// Exit status (sysexits.h): 0 the message is on stable storage; EX_USAGE; EX_DATAERR no or a broken submission;
/// EX_NOPERM the user may not submit; EX_UNAVAILABLE message too big; EX_CONFIG; EX_TEMPFAIL the rest.
#include <fmt/format.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"
#include "lib/queue/drop_stream.h"
#include "lib/queue/maildrop.h"
#include "lib/queue/user_access.h"

namespace {

using namespace postern;

[[noreturn]] void die(int status, const std::string& text) {
    log_line(LogLevel::fatal, "{}", fmt::make_format_args(text));
    std::exit(status);
}

int status_of(const Error& error) {
    switch (error.code) {
    case Errc::too_big:
        return EX_UNAVAILABLE;
    case Errc::closed:
    case Errc::corrupt:
        return EX_DATAERR;
    default:
        return EX_TEMPFAIL;
    }
}

/// A set-gid program obeys a caller's MAIL_CONFIG or -c only when the default main.cf allows that directory
/// (alternate_config_directories).
Config load_config(std::string directory) {
    constexpr const char* kDefault = "/etc/postern";
    const bool privileged = ::getegid() != ::getgid() || ::geteuid() != ::getuid();
    if (privileged && ::getuid() != 0 && directory != kDefault) {
        const Result<Config> standard = Config::load(kDefault);
        const std::vector<std::string> allowed =
            standard ? split_list(standard->alternate_config_directories()) : std::vector<std::string>{};
        if (std::find(allowed.begin(), allowed.end(), directory) == allowed.end()) {
            die(EX_CONFIG, "unauthorized configuration directory name: " + printable(directory));
        }
    }
    Result<Config> config = Config::load(directory);
    if (!config) {
        die(EX_CONFIG, config.error().what);
    }
    return std::move(*config);
}

Result<void> drop_message(const Config& config, int input) {
    Result<std::unique_ptr<queue::QueueFileWriter>> writer = queue::create_maildrop_file(
        config.queue_directory(), static_cast<std::uint64_t>(config.message_size_limit()));
    if (!writer) {
        return writer.error();
    }
    queue::DropStreamReader reader(input);
    for (;;) {
        const Result<std::string> piece = reader.content();
        if (!piece) {
            return piece.error();
        }
        if (piece->empty()) {
            break;
        }
        const Result<void> written = (*writer)->body(*piece);
        if (!written) {
            return written;
        }
    }
    Result<queue::Envelope> envelope = reader.envelope();
    if (!envelope) {
        return envelope.error();
    }
    if (envelope->recipients.empty()) {
        return Error(Errc::corrupt, "no recipients");
    }
    const Result<void> sender = queue::check_login_sender(config, envelope->sender);
    if (!sender) {
        return sender;
    }
    envelope->arrival_usec = 0;   // now, not what the caller says
    const std::int64_t now = static_cast<std::int64_t>(::time(nullptr)) * 1000000;
    const Result<void> described = (*writer)->envelope(queue::user_envelope(std::move(*envelope), ::getuid(), now));
    return described ? (*writer)->write_out() : described;
}

}  // namespace

int main(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
    log_open("postfix/postdrop", LogDestination{LogDestination::Kind::syslog, {}, false, true, 0});
    std::string directory = Config::default_directory();
    for (int option = 0; (option = ::getopt(argc, argv, "c:rv")) != -1;) {
        if (option == 'c') {
            directory = optarg;
        } else if (option == '?') {
            die(EX_USAGE, "usage: postdrop [-c config_dir] [-r] [-v]");
        }
    }
    const Config config = load_config(directory);
    LogDestination destination = log_destination(config);
    destination.kind = LogDestination::Kind::syslog;   // the caller may not write the mail log
    destination.echo_stderr = true;
    log_open(config.syslog_name() + "/postdrop", std::move(destination));
    if (config.authorized_submit_users() != "static:anyone") {
        const std::string user = queue::login_name();
        const Result<bool> allowed =
            queue::user_listed(config, "authorized_submit_users", config.authorized_submit_users(), user);
        if (!allowed) {
            die(EX_CONFIG, allowed.error().what);
        }
        if (!*allowed) {
            die(EX_NOPERM, fmt::format("User {}({}) is not allowed to submit mail", user, ::getuid()));
        }
    }
    const Result<void> dropped = drop_message(config, STDIN_FILENO);
    if (!dropped) {
        const int status = status_of(dropped.error());
        if (dropped.error().code == Errc::denied) {
            die(status, dropped.error().what);
        }
        die(status, fmt::format("uid={}: {}", ::getuid(),
                                status == EX_UNAVAILABLE ? "message file too big" : dropped.error().what));
    }
    queue::trigger_service(config.queue_directory() + "/public/" + config.pickup_service_name());
    return EX_OK;
}
