/// A session process: one user's, forked by the launcher, serving all of that user's connections.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/login/launcher.h"
#include "lib/login/session_messages.h"
#include "lib/sandbox/sandbox.h"
#include "lib/sasl/auth_messages.h"

namespace postern {

/// One more connection for the process.
struct ServeClient {
    std::uint32_t id = 0;
    SessionInfo info;
    UniqueFd client;
    bool returned = false;             ///< another process of the user gave it back
};
template <class A>
void fields(A& a, ServeClient& m) { a(m.id, m.info, m.client, m.returned); }

/// End as soon as the clients have been told: the suite is being stopped.
struct StopSessions {
    bool unused = false;
};
template <class A>
void fields(A& a, StopSessions& m) { a(m.unused); }

/// The connection has ended.
struct ClientEnded {
    std::uint32_t id = 0;
};
template <class A>
void fields(A& a, ClientEnded& m) { a(m.id); }

/// The user's home or mail is not where it was when the process confined itself to it (it was removed, or a backup was put
/// in its place), so the process cannot serve this client, nor any more: another one has to.
struct ClientReturned {
    ServeClient client;
};
template <class A>
void fields(A& a, ClientReturned& m) { a(m.client); }

using ToSessionProcess = std::variant<ServeClient, StopSessions>;
using FromSessionProcess = std::variant<ClientEnded, ClientReturned>;

/// The groups that mail_access_groups and mail_privileged_group name.
struct MailGroups {
    std::vector<std::uint32_t> access;                ///< supplementary groups of every session process
    std::optional<std::uint32_t> privileged;          ///< its saved group: lib/sandbox/identity.h
};
/// Asks the system's database, as root only: else there are no groups to be given.  Errors: config, naming the parameter.
Result<MailGroups> find_mail_groups(const Config& config);

/// In the forked child: becomes the user, confines itself, serves what comes over `control` until that is closed and
/// the last connection has ended.
/// `filter` is the one for Syscalls::files.  `master_pipe`, if there is one, ends when the suite does: then also a process
/// ends whose launcher was killed.
[[noreturn]] void run_session_process(UniqueFd control, UniqueFd master_pipe, const AuthUser& user, const MailGroups& groups,
                                      const Launcher& launcher, const Config& config, const PreparedFilter& filter);

/// The files, each after a space, that the C library loads when SEARCH meets a letter beyond ASCII or a character set: the
/// letters' cases, and iconv's modules.  It looks for them once: the launcher calls this, so that no session has to.
const std::string& character_sets();

/// What a user's process may touch: home and every place mail_location names, with the directory of an INBOX that is a
/// file (its locks are made beside it).
FilePaths session_paths(const AuthUser& user);

}  // namespace postern
