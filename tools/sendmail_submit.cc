#include "tools/sendmail_submit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/address.h"
#include "lib/mail/verp.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"
#include "lib/queue/drop_stream.h"
#include "lib/queue/maildrop.h"
#include "lib/queue/user_access.h"
#include "tools/sendmail_input.h"

namespace postern::sendmail {
namespace {

constexpr std::size_t kReadSize = 64 * 1024;

int status_of(const Error& error) { return error.code == Errc::too_big ? EX_UNAVAILABLE : EX_TEMPFAIL; }

std::string describe(const Error& error) { return error.code == Errc::too_big ? "message file too big" : error.what; }

/// Writes the maildrop file itself.
class DirectSubmission final : public Submission {
public:
    DirectSubmission(std::string pickup, std::unique_ptr<queue::QueueFileWriter> writer)
        : pickup_(std::move(pickup)), writer_(std::move(writer)) {}
    Result<void> content(std::string_view bytes) override { return writer_->body(bytes); }
    int finish(const queue::Envelope& envelope) override {
        Result<void> done = writer_->envelope(envelope);
        done = done ? writer_->write_out() : done;
        if (!done) {
            report_fatal(describe(done.error()));
            return status_of(done.error());
        }
        queue::trigger_service(pickup_);
        return EX_OK;
    }

private:
    std::string pickup_;   ///< its socket
    std::unique_ptr<queue::QueueFileWriter> writer_;
};

/// Lets postdrop(1) do it; it prints its own errors.
class PostdropSubmission final : public Submission {
public:
    PostdropSubmission(pid_t child, UniqueFd pipe) : child_(child), pipe_(std::move(pipe)), stream_(pipe_.get()) {}
    ~PostdropSubmission() override {
        if (child_ > 0) {
            pipe_.reset();   // without the envelope: nothing is queued
            wait_for_child();
        }
    }
    Result<void> content(std::string_view bytes) override { return stream_.content(bytes); }
    int finish(const queue::Envelope& envelope) override {
        const Result<void> sent = stream_.finish(envelope);
        pipe_.reset();
        const int status = wait_for_child();
        if (WIFEXITED(status) && WEXITSTATUS(status) == EX_OK && !sent) {
            report_fatal(sent.error().what);
            return EX_TEMPFAIL;
        }
        if (WIFEXITED(status)) {
            return WEXITSTATUS(status);
        }
        report_fatal("postdrop was killed");
        return EX_TEMPFAIL;
    }

private:
    int wait_for_child() {
        int status = 0;
        while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
        }
        child_ = -1;
        return status;
    }
    pid_t child_;
    UniqueFd pipe_;
    queue::DropStreamWriter stream_;
};

Result<std::unique_ptr<Submission>> start_postdrop(const Config& config) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return errno_error("pipe");
    }
    UniqueFd read_end(ends[0]), write_end(ends[1]);
    const std::string program = config.command_directory() + "/postdrop";
    const std::string directory = config.config_directory();
    const char* arguments[] = {"postdrop", "-r", "-c", directory.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, read_end.get(), STDIN_FILENO);
    pid_t child = -1;
    const int failure = ::posix_spawn(&child, program.c_str(), &actions, nullptr, const_cast<char**>(arguments), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) {
        return errno_error("execute " + program, failure);
    }
    return std::unique_ptr<Submission>(std::make_unique<PostdropSubmission>(child, std::move(write_end)));
}

Result<std::unique_ptr<Submission>> start_submission(const Config& config) {
    if (queue::submission_is_restricted(config)) {
        return start_postdrop(config);
    }
    Result<std::unique_ptr<queue::QueueFileWriter>> writer = queue::create_maildrop_file(
        config.queue_directory(), static_cast<std::uint64_t>(config.message_size_limit()));
    if (writer) {
        const std::string pickup = config.queue_directory() + "/public/" + config.pickup_service_name();
        return std::unique_ptr<Submission>(std::make_unique<DirectSubmission>(pickup, std::move(*writer)));
    }
    if (writer.error().code != Errc::denied) {
        return writer.error();
    }
    return start_postdrop(config);
}

/// -F, else $NAME, else the first part of the gecos field with "&" for the login name.
std::string full_name(const struct passwd* user) {
    const char* name = ::getenv("NAME");
    if (name != nullptr && *name != '\0') {
        return name;
    }
    std::string out;
    if (user == nullptr || user->pw_gecos == nullptr) {
        return out;
    }
    for (const char* at = user->pw_gecos; *at != '\0' && *at != ',' && *at != ';' && *at != '%'; ++at) {
        if (*at == '&') {
            std::string login = user->pw_name;
            login[0] = login.empty() ? '\0' : upper(login[0]);
            out += login;
        } else {
            out += *at;
        }
    }
    return out;
}

/// smtputf8_autodetect_classes: whether raw UTF-8 in a submission asks for SMTPUTF8 (RFC 6531).
bool detects_utf8(const Config& config) {
    const std::vector<std::string> classes = split_list(config.smtputf8_autodetect_classes());
    const bool listed = std::any_of(classes.begin(), classes.end(), [](const std::string& name) {
        return equals_ignoring_case(name, "sendmail") || equals_ignoring_case(name, "all");
    });
    return listed && config.smtputf8_enable();
}

/// Sender, full name and recipients from the arguments.  A text when something is wrong.
Result<void> complete_envelope(const Config& config, Options& options) {
    const struct passwd* user = ::getpwuid(::getuid());
    if (!options.has_sender) {
        if (user == nullptr) {
            return Error(Errc::not_found, fmt::format("no login name found for user ID {}", ::getuid()));
        }
        options.envelope.sender = user->pw_name;
    }
    std::string& verp = options.envelope.verp_delimiters;
    if (options.verp) {
        verp = verp.empty() ? config.default_verp_delimiters() : verp;
        if (!valid_verp_delimiters(verp, config.verp_delimiter_filter())) {
            return Error(Errc::syntax, fmt::format("-XV requires two characters from {}", config.verp_delimiter_filter()));
        }
        if (options.envelope.sender.empty()) {
            return Error(Errc::syntax, "-XV requires a sender address");
        }
    }
    if (options.envelope.sender_full_name.empty()) {
        options.envelope.sender_full_name = full_name(user);
    }
    if (config.authorized_submit_users() != "static:anyone") {
        const std::string name = user != nullptr ? user->pw_name : "unknown";
        const Result<bool> allowed =
            queue::user_listed(config, "authorized_submit_users", config.authorized_submit_users(), name);
        if (!allowed) {
            return allowed.error();
        }
        if (!*allowed) {
            return Error(Errc::denied, fmt::format("User {}({}) is not allowed to submit mail", name, ::getuid()));
        }
    }
    for (const std::string& argument : options.recipients) {
        for (const std::string& address : recipients_in_argument(argument)) {
            queue::Recipient recipient;
            recipient.address = address;
            options.envelope.recipients.push_back(std::move(recipient));
        }
    }
    return {};
}

int status_before_reading(const Error& error) {
    switch (error.code) {
    case Errc::not_found:
        return EX_OSERR;
    case Errc::denied:
        return EX_NOPERM;
    case Errc::config:
        return EX_CONFIG;
    default:
        return EX_USAGE;
    }
}

FixLineEndings fix_line_endings(const Config& config) {
    const std::string& value = config.sendmail_fix_line_endings();
    return value == "never" ? FixLineEndings::never : value == "strict" ? FixLineEndings::strict : FixLineEndings::always;
}

/// Copies the message; EX_OK or why not.
int copy_content(int input, InputFilter& filter, Submission& submission) {
    std::string buffer(kReadSize, '\0');
    while (!filter.ended()) {
        const ssize_t got = ::read(input, buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            report_fatal(errno_error("read message").what);
            return EX_DATAERR;
        }
        const std::string content =
            got == 0 ? filter.finish() : filter.feed(std::string_view(buffer).substr(0, static_cast<std::size_t>(got)));
        const Result<void> written = submission.content(content);
        if (!written && written.error().code != Errc::closed) {
            report_fatal(describe(written.error()));
            return status_of(written.error());
        }
        if (got == 0 || !written) {
            break;   // after "closed", finish() has postdrop's exit status
        }
    }
    return EX_OK;
}

}  // namespace

void open_log(const Config* config) {
    LogDestination destination = config == nullptr ? LogDestination() : log_destination(*config);
    destination.kind = LogDestination::Kind::syslog;   // a user may not write the mail log
    destination.echo_stderr = true;
    log_open((config == nullptr ? "postfix" : config->syslog_name()) + "/sendmail", std::move(destination));
}

void report_fatal(const std::string& text) { log_line(LogLevel::fatal, "{}", fmt::make_format_args(text)); }

int submit(const Config& config, Options options, int input) {
    if (options.recipients.empty() && !options.recipients_from_header) {
        report_fatal("Recipient addresses must be specified on the command line or via the -t option");
        return EX_USAGE;
    }
    for (const std::string& warning : options.warnings) {
        log_warning("{}", warning);
    }
    const Result<void> complete = complete_envelope(config, options);
    if (!complete) {
        report_fatal(complete.error().what);
        return status_before_reading(complete.error());
    }
    Result<std::unique_ptr<Submission>> submission = start_submission(config);
    if (!submission) {
        report_fatal(submission.error().what);
        return EX_TEMPFAIL;
    }
    InputFilter filter({.dot_ends = options.dot_ends, .want_header = true, .fix = fix_line_endings(config)});
    if (const int status = copy_content(input, filter, **submission); status != EX_OK) {
        return status;
    }
    queue::Envelope& envelope = options.envelope;
    if (options.recipients_from_header) {
        for (std::string& address : recipients_in_header(filter.header())) {
            queue::Recipient recipient;
            recipient.address = std::move(address);
            envelope.recipients.push_back(std::move(recipient));
        }
        if (envelope.recipients.empty()) {
            report_fatal("No recipient addresses found in message header");
            return EX_USAGE;
        }
    }
    bool utf8 = has_eight_bit(envelope.sender) || has_eight_bit(filter.header());
    for (queue::Recipient& recipient : envelope.recipients) {
        recipient.notify = options.notify;
        utf8 = utf8 || has_eight_bit(recipient.address);
    }
    envelope.smtputf8 = envelope.smtputf8 || (utf8 && detects_utf8(config));
    envelope.origin = queue::kOriginSendmail;
    envelope.submit_uid = ::getuid();
    envelope.arrival_usec = static_cast<std::int64_t>(::time(nullptr)) * 1000000;
    const bool reports = envelope.trace || envelope.verify_only;
    const std::string to = external_form(envelope.sender);
    const int status = (*submission)->finish(envelope);
    if (status == EX_OK && reports) {
        fmt::print("Mail Delivery Status Report will be mailed to <{}>.\n", printable(to));
    }
    return status;
}

}  // namespace postern::sendmail
