#include "lib/login/launcher.h"

#include <unistd.h>

#include <cstdlib>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/login/launcher_state.h"
#include "lib/login/session_process.h"
#include "lib/service/service.h"

namespace postern {

namespace {

constexpr Rights kRights{
    .user = "root",
    .capabilities = "cap_setuid,cap_setgid",
    .chroot = "",                        // session processes live where the user's mail is
    .readable = kEverywhere,             // a session process confines itself to its user's files
    .writable = kEverywhere,
    .syscalls = Syscalls::launcher,
};

std::uint64_t number_in(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text == nullptr ? otherwise : parse_number(text).value_or(otherwise);
}

}  // namespace

int run_launcher(int argc, char** argv, const Launcher& launcher) {
    // Service consumes these; it serves with an event loop, which a process that forks must not have.
    const std::uint64_t listener_count = number_in("LISTEN_FDS", 0);
    const int status = static_cast<int>(number_in("POSTERN_STATUS_FD", ~std::uint64_t{0}));
    const int master_pipe = static_cast<int>(number_in("POSTERN_MASTER_FD", ~std::uint64_t{0}));
    Service service(launcher.name, argc, argv);
    log_set_tag(service.config().login_syslog_name());
    Result<MailGroups> groups = find_mail_groups(service.config());
    if (!groups) {
        fatal("{}", groups.error().what);
    }
    service.confine(kRights);
    (void)character_sets();
    std::vector<int> listeners;
    for (std::uint64_t i = 0; i < listener_count; ++i) {
        listeners.push_back(static_cast<int>(3 + i));
    }
    SessionLauncher state(launcher, service.config(), std::move(*groups), std::move(listeners), status, master_pipe);
    if (status >= 0) {
        const char available = static_cast<char>(Status::available);
        [[maybe_unused]] const ssize_t written = ::write(status, &available, 1);
    }
    state.run();
    std::_Exit(0);   // Service's descriptors are the kernel's to close
}

}  // namespace postern
