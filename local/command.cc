#include "local/command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "lib/async/loop.h"
#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "local/agent.h"

namespace postern::local {
namespace {

constexpr std::size_t kMaxOutput = 4096;      ///< of a command's output that is kept
constexpr std::size_t kPiece = 64 * 1024;
constexpr Millis kKillPatience = std::chrono::seconds(10);   ///< for SIGKILL to take effect
constexpr const char* kDefaultPath = "/usr/bin:/bin";   ///< _PATH_DEFPATH, as in Postfix

/// What the child needs, made before fork(2): after it only async-signal-safe calls are allowed.
struct ChildPlan {
    std::vector<std::string> words;
    std::vector<std::string> environment;
    std::vector<char*> argv;
    std::vector<char*> envp;

    void finish() {
        for (std::string& word : words) {
            argv.push_back(word.data());
        }
        argv.push_back(nullptr);
        for (std::string& entry : environment) {
            envp.push_back(entry.data());
        }
        envp.push_back(nullptr);
    }
};

/// Words that only a shell understands, when a command begins with one (as Postfix's exec_command).
bool is_shell_builtin(std::string_view word) {
    for (const char* builtin :
         {":", ".", "break", "case", "cd", "continue", "eval", "exec", "exit", "export", "for", "hash", "if", "return", "set",
          "shift", "test", "times", "trap", "type", "ulimit", "umask", "unset", "until", "wait", "while"}) {
        if (word == builtin) {
            return true;
        }
    }
    return false;
}

std::vector<std::string> words_of(const Command& command) {
    if (!command.argv.empty()) {
        return command.argv;
    }
    if (!command.shell.empty()) {
        std::vector<std::string> words = split(command.shell, " \t\r\n");
        words.push_back(command.shell_text);
        return words;
    }
    constexpr std::string_view kPlain =
        "1234567890!@%-_=+:,./\\ \tabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    std::vector<std::string> words = split(command.shell_text, " \t");
    const bool plain = command.shell_text.find_first_not_of(kPlain) == std::string::npos &&
                       command.shell_text.find('\\') == std::string::npos;
    if (plain && !words.empty() && !is_shell_builtin(words.front()) && words.front().find('=') == std::string::npos) {
        return words;
    }
    return {"/bin/sh", "-c", command.shell_text};
}

ChildPlan plan_for(const Command& command) {
    ChildPlan plan;
    plan.words = words_of(command);
    plan.environment.push_back(std::string("PATH=") + kDefaultPath);
    for (const auto& [name, value] : command.environment) {
        std::string entry = name + "=" + value;
        entry = entry.substr(0, entry.find('\0'));
        if (name == "PATH") {
            plan.environment.front() = std::move(entry);
        } else {
            plan.environment.push_back(std::move(entry));
        }
    }
    plan.finish();
    return plan;
}

/// In the child: says why on standard error, which is the output that goes into the bounce.
[[noreturn]] void child_failed(const char* what, const char* object) {
    const char* reason = strerrordesc_np(errno);
    for (const char* part : {"fatal: ", what, " ", object, ": ", reason ? reason : "error", "\n"}) {
        if (write(STDERR_FILENO, part, strlen(part)) < 0) {
            break;
        }
    }
    _exit(EX_TEMPFAIL);   // the system's fault: somebody can mend it before the message expires
}

/// execvp() with our PATH, which the C library's reads from the wrong environment.
void execute(const ChildPlan& plan) {
    const char* const program = plan.argv[0];
    if (strchr(program, '/')) {
        execve(program, plan.argv.data(), plan.envp.data());
        return;
    }
    char path[4096];
    for (const char* directory = kDefaultPath; *directory;) {
        const char* const end = strchrnul(directory, ':');
        const auto length = static_cast<std::size_t>(end - directory);
        if (length + 1 + strlen(program) < sizeof path) {
            memcpy(path, directory, length);
            path[length] = '/';
            strcpy(path + length + 1, program);
            execve(path, plan.argv.data(), plan.envp.data());
            if (errno != ENOENT && errno != ENOTDIR) {
                return;
            }
        }
        directory = *end ? end + 1 : end;
    }
}

[[noreturn]] void run_child(const Command& command, const ChildPlan& plan, int input, int output) {
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) {
        _exit(75);
    }
    close_range(3, ~0U, 0);
    setsid();   // a process group of its own, so that all of it can be ended
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int number = 1; number < NSIG; ++number) {   // what is ignored would stay so: "yes | head" would be told of a broken pipe
        signal(number, SIG_DFL);
    }
    const sched_param no_priority{};
    sched_setscheduler(0, SCHED_OTHER, &no_priority);   // we are batch work; what the command is, is its own affair
    if (!command.chroot.empty() && chroot(command.chroot.c_str()) != 0) {
        child_failed("chroot", command.chroot.c_str());
    }
    if (changes_user()) {
        const UserIdentity& user = command.user;
        if (user.uid == 0 || syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0 ||
            syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0 ||
            syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0) {
            child_failed("take on the rights of", "the recipient");
        }
    }
    if (!command.directory.empty() && chdir(command.directory.c_str()) != 0) {
        child_failed("chdir", command.directory.c_str());
    }
    umask(077);
    execute(plan);
    child_failed("execvp", plan.argv[0]);
}

/// A running command and our ends of its pipes.
struct Child {
    pid_t pid = -1;
    UniqueFd input;
    UniqueFd output;
};

Result<Child> start(const Command& command) {
    ChildPlan plan = plan_for(command);
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0) {
        return errno_error("pipe");
    }
    UniqueFd in_read(in[0]);
    UniqueFd in_write(in[1]);
    if (pipe2(out, O_CLOEXEC) != 0) {
        return errno_error("pipe");
    }
    UniqueFd out_read(out[0]);
    UniqueFd out_write(out[1]);
    fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
    fcntl(out_read.get(), F_SETFL, O_NONBLOCK);
    const pid_t pid = fork();
    if (pid < 0) {
        return errno_error("fork");
    }
    if (pid == 0) {
        run_child(command, plan, in_read.get(), out_write.get());
    }
    return Child{pid, std::move(in_write), std::move(out_read)};
}

/// Feeds the message and collects the output; both on the loop.
class Conversation {
public:
    Conversation(Command& command, MessagePtr message, Child child)
        : command_(command), message_(std::move(message)), child_(std::move(child)) {}

    Task<> run(Seconds limit) {
        deadline_ = now_usec() + std::chrono::microseconds(limit).count();
        input_events_.open(child_.input.get());
        output_events_.open(child_.output.get());
        feeding_ = true;
        spawn(feed());
        co_await collect();
        while (feeding_) {
            stop_feeding_ = true;
            input_events_.close();   // wakes feed() when it waits
            co_await fed_.wait(kForever);
        }
        output_events_.close();
    }

    const std::string& output() const { return output_; }
    bool timed_out() const { return timed_out_; }
    bool unreadable() const { return unreadable_; }   ///< the command waits for the rest of the message in vain
    Millis left() const {
        const std::int64_t rest = (deadline_ - now_usec()) / 1000;
        return Millis(rest > 0 ? rest : 0);
    }

private:
    /// Writes the whole message; stops early when the command does not want it (its exit status tells the rest).
    Task<> feed() {
        std::string out = command_.prefix;
        command_.filter.add(message_->headers(), out);
        std::string buffer(message_->has_body() ? 0 : kPiece, '\0');
        std::uint64_t at = 0;
        if (message_->has_body()) {
            command_.filter.add(message_->body(), out);
            at = message_->body_length();
        }
        bool more = true;
        while (more && !stop_feeding_) {
            if (at < message_->body_length()) {
                const Result<std::size_t> got = message_->read_body(at, buffer.data(), buffer.size());
                if (!got) {
                    log_warning("{}: {}", message_->request().queue_id, got.error().what);
                    unreadable_ = true;
                    break;   // its input stays open: the end of it would tell the command that this is all
                }
                command_.filter.add(std::string_view(buffer.data(), *got), out);
                at += *got;
            }
            if (at >= message_->body_length()) {
                command_.filter.finish(out);
                out += command_.blank_at_end ? command_.filter.eol : "";
                more = false;
            }
            const bool written = co_await write_out(out);
            more = more && written;
            out.clear();
        }
        if (unreadable_) {
            output_events_.close();   // wakes collect()
        } else {
            input_events_.close();
            child_.input.reset();
        }
        feeding_ = false;
        fed_.notify_all();
    }

    Task<bool> write_out(const std::string& bytes) {
        std::size_t at = 0;
        while (at < bytes.size() && !stop_feeding_) {
            const ssize_t put = write(child_.input.get(), bytes.data() + at, bytes.size() - at);
            if (put > 0) {
                at += static_cast<std::size_t>(put);
            } else if (put < 0 && errno == EAGAIN) {
                const Wake wake = co_await input_events_.writable(left());
                if (wake != Wake::ready) {
                    co_return false;
                }
            } else if (errno != EINTR) {
                co_return false;
            }
        }
        co_return at >= bytes.size();
    }

    /// Reads until the command, and whatever it started, has closed its output.
    Task<> collect() {
        char chunk[4096];
        for (;;) {
            const ssize_t got = read(child_.output.get(), chunk, sizeof chunk);
            if (got == 0) {
                co_return;
            }
            if (got > 0) {
                const std::size_t room = kMaxOutput - output_.size();
                output_.append(chunk, std::min(room, static_cast<std::size_t>(got)));
                continue;
            }
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN || unreadable_) {
                co_return;
            }
            const Wake wake = co_await output_events_.readable(left());
            if (wake != Wake::ready) {
                timed_out_ = true;
                co_return;
            }
        }
    }

    Command& command_;
    MessagePtr message_;
    Child child_;
    FdEvents input_events_;
    FdEvents output_events_;
    Notice fed_;
    std::string output_;
    std::int64_t deadline_ = 0;
    bool feeding_ = false;
    bool stop_feeding_ = false;
    bool timed_out_ = false;
    bool unreadable_ = false;
};

/// Ends the command's process group; signals need the rights it has.
Task<> end_group(pid_t pid, UserIdentity user) {
    auto work = [pid]() -> Outcome {
        kill(-pid, SIGKILL);
        return Outcome{};
    };
    const Outcome done = co_await work_as(std::move(user), std::move(work));
    (void)done;
}

/// The exit status, or nothing when `limit` passes first.
Task<std::optional<int>> wait_for(pid_t pid, Millis limit) {
    int status = 0;
    const UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    FdEvents events;
    if (handle) {
        events.open(handle.get());
    }
    // Linux before 5.3 has no such handle: look again from time to time.
    constexpr Millis kLookAgain{100};
    Millis waited{0};
    pid_t ended = 0;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        if (handle) {
            const Wake wake = co_await events.readable(limit);
            if (wake != Wake::ready) {
                co_return std::nullopt;
            }
            continue;
        }
        if (waited >= limit) {
            co_return std::nullopt;
        }
        co_await sleep_for(kLookAgain);
        waited += kLookAgain;
    }
    if (ended < 0) {
        status = W_EXITCODE(EX_OSERR, 0);   // nobody can say how it ended: try again later
    }
    co_return status;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> exported_environment(const std::string& export_environment) {
    std::vector<std::pair<std::string, std::string>> environment;
    for (const std::string& word : split_list(export_environment)) {
        std::string_view text = word;
        if (text.size() > 1 && text.front() == '{' && text.back() == '}') {
            text = trim(text.substr(1, text.size() - 2));
        }
        const std::size_t equals = text.find('=');
        if (equals != std::string_view::npos) {
            environment.emplace_back(trim(text.substr(0, equals)), trim(text.substr(equals + 1)));
        } else if (const char* value = getenv(std::string(text).c_str())) {
            environment.emplace_back(text, value);
        }
    }
    return environment;
}

std::string censored(std::string_view text, std::string_view allowed) {
    std::string clean(text);
    for (char& c : clean) {
        if (allowed.find(c) == std::string_view::npos) {
            c = '_';
        }
    }
    return clean;
}

Task<Outcome> run_command(Command command, MessagePtr message) {
    const std::string text = command.argv.empty() ? command.shell_text : command.argv.front();
    Result<Child> child = start(command);
    if (!child) {
        co_return failed("4.3.0", "cannot run command: " + child.error().what);
    }
    const pid_t pid = child->pid;
    Conversation conversation(command, std::move(message), std::move(*child));
    co_await conversation.run(command.time_limit);
    std::optional<int> status;
    if (!conversation.timed_out() && !conversation.unreadable()) {
        status = co_await wait_for(pid, conversation.left());
    }
    const bool timed_out = !status;
    if (timed_out) {
        co_await end_group(pid, command.user);
        status = co_await wait_for(pid, kKillPatience);
    }
    if (conversation.unreadable()) {
        co_return failed("4.3.0", "queue file read error");
    }
    const std::string success =
        command.success_text + (command.show_output ? parenthesized(conversation.output()) : std::string());
    co_return command_outcome(status.value_or(0), timed_out, text, conversation.output(), success);
}

}  // namespace postern::local
