/// postqueue - shows the queue, and asks for delivery now.
///
/// Set-gid to setgid_group, which may connect to the services below public/; it reads no queue file unless whoever
/// runs it may (root, or the owner of an unprivileged suite) and the mail system is down.
///
/// Exit status: 0, or EX_UNAVAILABLE (69) as in Postfix.
#include <fmt/format.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/listing/listing.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/queue/queue_id.h"
#include "lib/queue/user_access.h"
#include "lib/sandbox/identity.h"
#include "tools/queue_command.h"
#include "tools/queue_listing.h"

namespace postern::tools {
namespace {

constexpr const char* kUsage =
    "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site";

enum class Action { none, text, json, flush, one, site };

struct Options {
    Action action = Action::none;
    std::string argument;
    std::string directory = Config::default_directory();
};

Options parse(int argc, char** argv) {
    Options options;
    for (int option = 0; (option = ::getopt(argc, argv, "c:fi:jps:v")) != -1;) {
        Action action = Action::none;
        switch (option) {
        case 'c': options.directory = optarg; continue;
        case 'v': continue;
        case 'f': action = Action::flush; break;
        case 'i': action = Action::one; options.argument = optarg; break;
        case 'j': action = Action::json; break;
        case 'p': action = Action::text; break;
        case 's': action = Action::site; options.argument = optarg; break;
        default: die(EX_UNAVAILABLE, kUsage);
        }
        if (options.action != Action::none) {
            die(EX_UNAVAILABLE, kUsage);
        }
        options.action = action;
    }
    if (options.action == Action::none || optind < argc) {
        die(EX_UNAVAILABLE, kUsage);
    }
    return options;
}

/// Writes the listing as it comes.
class Printer {
public:
    Printer(bool json, bool long_ids) : json_(json), text_(long_ids) {}
    void message(const ListedMessage& message) {
        put(json_ ? json_listing(message) : text_.message(message));
        if (++count_ == 1) {
            std::fflush(stdout);   // somebody may be waiting for a long list
        }
    }
    void end() {
        if (!json_) {
            put(text_.end());
        }
        if (std::fflush(stdout) != 0) {
            die(EX_UNAVAILABLE, errno_error("write").what);
        }
    }

private:
    static void put(const std::string& text) {
        if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
            die(EX_UNAVAILABLE, errno_error("write").what);
        }
    }
    bool json_;
    TextListing text_;
    std::uint64_t count_ = 0;
};

/// authorized_mailq_users and authorized_flush_users.  Root and the queue's owner are not asked for.
void require_listed(const Config& config, std::string_view name, std::string_view list, std::string_view what) {
    const uid_t uid = ::getuid();
    const Result<UserIdentity> owner = find_user(config.mail_owner());
    if (uid == 0 || (owner && owner->uid == uid)) {
        return;
    }
    const std::string user = queue::login_name();
    const Result<bool> listed = queue::user_listed(config, name, list, user);
    if (!listed) {
        die(EX_UNAVAILABLE, listed.error().what);
    }
    if (!*listed) {
        die(EX_UNAVAILABLE, fmt::format("User {}({}) is not allowed to {} the mail queue", user, uid, what));
    }
}

void show(const Config& config, bool json) {
    require_listed(config, "authorized_mailq_users", config.authorized_mailq_users(), "view");
    Printer printer(json, config.enable_long_queue_ids());
    const auto print = [&](const ListedMessage& message) { printer.message(message); };
    const std::string& queue = config.queue_directory();
    Result<UniqueFd> socket = connect_unix_blocking(queue + "/public/" + config.showq_service_name());
    if (socket) {
        const Result<void> read = list_by_showq(std::move(*socket), print);
        if (!read) {
            die(EX_UNAVAILABLE, "queue report: " + read.error().what);
        }
    } else if (::eaccess((queue + "/deferred").c_str(), R_OK | X_OK) == 0) {
        log_warning("Mail system is down -- accessing queue directly (Connect to the {} showq service: {})",
                    config.mail_name(), socket.error().what);
        list_by_files(queue, print);
    } else {
        die(EX_UNAVAILABLE, "Queue report unavailable - mail system is down");
    }
    printer.end();
}

void require_flusher(const Config& config) {
    require_listed(config, "authorized_flush_users", config.authorized_flush_users(), "flush");
}

/// fast_flush_domains decides, where qmgr runs: its tables need not be readable here.
void ask_for_site(const Config& config, const std::string& site) {
    if (!valid_mail_domain(site, true)) {
        die(EX_UNAVAILABLE, fmt::format("Cannot flush mail queue - invalid destination: \"{}{}\"", printable(site, 100),
                                        site.size() > 100 ? "..." : ""));
    }
    require_flusher(config);
    const Result<void> answer = ask_qmgr(config, queue::FlushSite{site});
    if (!answer) {
        die(EX_UNAVAILABLE, answer.error().code == Errc::io ? answer.error().what : "Cannot flush mail queue - mail system is down");
    }
}

/// What qmgr refuses is a warning, as in Postfix (the message may be gone by now); a qmgr that is not there is not.
void ask(const Config& config, const Options& options) {
    Result<void> answer;
    if (options.action == Action::flush) {
        require_flusher(config);
        const Result<void> woken = wake_service(config.queue_directory() + "/public/" + config.pickup_service_name(), config.trigger_timeout());
        if (!woken) {
            log_debug("{}", woken.error().what);   // qmgr's answer below says whether the system is up
        }
        answer = ask_qmgr(config, queue::FlushAll());
    } else if (options.action == Action::one) {
        if (!queue::is_queue_id(options.argument)) {
            die(EX_UNAVAILABLE, "Cannot flush queue ID - invalid name: \"" + options.argument + "\"");
        }
        require_flusher(config);
        answer = ask_qmgr(config, queue::FlushOne{options.argument});
    } else {
        ask_for_site(config, options.argument);
        return;
    }
    if (answer) {
        return;
    }
    if (answer.error().code == Errc::io) {
        log_warning("{}", answer.error().what);
    } else if (answer.error().code == Errc::denied) {
        die(EX_UNAVAILABLE, "Cannot flush mail queue - " + answer.error().what);
    } else {
        die(EX_UNAVAILABLE, "Cannot flush mail queue - mail system is down");
    }
}

}  // namespace
}  // namespace postern::tools

int main(int argc, char** argv) {
    using namespace postern;
    using namespace postern::tools;
    ::signal(SIGPIPE, SIG_DFL);
    log_open("postfix/postqueue", LogDestination());
    const Options options = parse(argc, argv);
    const Config config = load_command_config("postqueue", options.directory, EX_UNAVAILABLE);
    if (options.action == Action::text || options.action == Action::json) {
        show(config, options.action == Action::json);
    } else {
        ask(config, options);
    }
    return 0;
}
