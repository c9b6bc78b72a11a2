/// What every daemon under master has in common: its start, its rights, its listening sockets, its end.
///
///     int main(int argc, char** argv) {
///         Service service("pop3d", argc, argv);      // a bad setting ends here, with file and line
///         service.confine(kRights);                  // before the first byte from the network
///         return service.serve([&](Connection client) { return pop3d::serve(std::move(client), service.config()); });
///     }
///
/// How master starts a service (also systemd, or a person):
///
///     argv   PROGRAM -n SERVICE_NAME -t inet|unix|unix-dgram|fifo|pass [-u|-P] [-c] [-v] [-o name=value]... [ARGUMENT...]
///            -u: unpriv column y (default); -P: unpriv column n: keeps its user; -c: chroot column y: may chroot
///            ARGUMENT...: what master.cf has after the program's name, options and all, except -o and -v
///     environment
///            MAIL_CONFIG         configuration directory
///            LISTEN_FDS=N        listening sockets are descriptors 3 .. 3+N-1 (systemd's convention; LISTEN_PID is
///                                obeyed when it is set), non-blocking, shared with master and with sibling processes
///            LISTEN_FDNAMES      their names, separated by ':' (address for inet, path otherwise), for the log
///            POSTERN_STATUS_FD   pipe to master, see Status
///            POSTERN_MASTER_FD   pipe that nobody writes to and only master can: its end is the end of the suite.  For what
///                                outlives the service process itself (lib/login's sessions)
///     directory
///            current directory is queue_directory
///
/// Without LISTEN_FDS and with -S, the connection is standard input (smtpd -bs, inetd).
///
/// Waking: for a service with a wakeup time master connects to its socket and sends ipc's kTriggerFrame.
///
/// Ending: SIGHUP and the loss of the status pipe's other end: take no new connection, end when the present ones
/// have ended.  SIGTERM: end now (but see on_stop()).  After max_idle without a connection (configuration), a process ends by itself;
/// master listens on, so nothing is lost.
///
/// Users: "mail_owner" owns the queue.  "network_owner" runs what talks to the network; it owns nothing and is in no
/// way able to read the queue: queue_directory is 0755 root, the message directories are 0700 mail_owner, public/ is
/// 0711 mail_owner:setgid_group, private/ is 0710 mail_owner:<network_owner's group>; sockets in them are 0666 (public/
/// names are for everybody, what is said there is not trusted).  Without root all of this is one user.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/sandbox/sandbox.h"

namespace postern {

/// What a child tells master, one byte each, on POSTERN_STATUS_FD.
enum class Status : char {
    available = 'A',   ///< takes connections (also sent once after start)
    busy = 'B',        ///< has process_session_limit sessions: master may start another process
    released = 'R',    ///< ends with its last session; a successor need not wait for that (see may_overlap())
};

/// An IP address as text, or a Unix socket.
struct SocketAddress {
    std::string ip;              ///< "192.0.2.1" or "2001:db8::1"; empty for a Unix socket
    std::uint16_t port = 0;
    bool is_ip() const { return !ip.empty(); }
    bool is_ipv6() const { return ip.find(':') != std::string::npos; }
    bool is_loopback() const { return ip == "::1" || ip.compare(0, 4, "127.") == 0; }
};

/// One accepted client.
struct Connection {
    Connection(UniqueFd socket, std::string name) : fd(std::move(socket)), listener(std::move(name)) {}
    UniqueFd fd;                 ///< non-blocking
    std::string listener;        ///< the LISTEN_FDNAMES name it came through
    SocketAddress peer;          ///< of the client
    SocketAddress local;         ///< of our end
    uid_t peer_uid = static_cast<uid_t>(-1);   ///< Unix sockets: who connected (SO_PEERCRED)
};

/// Fills peer and local from the socket (getpeername, getsockname; SO_PEERCRED only on Unix sockets).
void describe_peer(Connection& connection);

class Service {
public:
    /// Parses the command line, loads the configuration (fatal with file and line when it is bad), opens the log
    /// as "$syslog_name/NAME", changes to queue_directory.
    Service(std::string_view program, int argc, char** argv);
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    const Config& config() const;
    /// The name in master.cf's first column, and its type.
    const std::string& service_name() const;
    const std::string& service_type() const;
    /// What follows -- or the first word that is not an option of ours.
    const std::vector<std::string>& arguments() const;
    /// Standard input is the client (-S).
    bool on_standard_input() const;
    /// Runs as root, so users can be changed.
    static bool privileged();

    /// Gives up all rights but these.  Everything that reads files (tables, keys, resolv.conf) is opened before.
    /// "user" in the rights is the NAME of a parameter that holds the user: "mail_owner" (owner of the queue),
    /// "network_owner" (network-facing programs; may traverse and connect to public/ and private/, owns nothing),
    /// "auth_owner"; or "root" for programs that keep uid 0 with the listed capabilities.
    /// A program that stays root is made a member of network_owner's group, and of no other, so that it can reach
    /// private/ without the right to go everywhere.
    /// "chroot": "queue_directory", or empty for none.
    void confine(const Rights& rights);

    /// For mail in transit: the process is scheduled as batch work (SCHED_BATCH, sched(7)).  Whoever it wakes waits for a turn instead
    /// of interrupting it, and finds more to do when that comes; on a processor that is idle nobody waits.  Not for what people
    /// sit in front of (IMAP, POP3).  Before confine(); what systemd has set stays.
    void work_in_batches();

    using Handler = std::function<Task<>(Connection)>;
    /// Accepts until told to end; each connection's Task runs on its own.  Returns the exit status.
    int serve(Handler handler);
    /// Work that is to begin when the loop runs (first scan of the queue).
    void on_start(std::function<void()> work);
    /// Called once when the process begins to drain (SIGHUP, master gone).
    void on_drain(std::function<void()> work);
    /// SIGTERM ends a process in the middle of its sessions, unless this is set: then it takes no new connection, `work` is
    /// called once, to have the sessions say goodbye, and the process ends with the last one, or kFarewell later.
    void on_stop(std::function<void()> work);
    static constexpr Seconds kFarewell{3};
    /// Called at every end (SIGTERM included) before the process exits.
    void on_end(std::function<void()> work);
    /// Never ends for idleness or max_use (qmgr).
    void keep_running();
    /// After SIGHUP a successor may start while the last sessions of this process go on, whatever maxproc says.  For
    /// programs whose sessions may last (imapd); not for those that must be alone (qmgr).
    void may_overlap();
    /// A service may have work of its own beside connections: it is not idle while the count is above 0.
    void begin_work();
    void end_work();
    /// How many connections are open now.
    std::size_t sessions() const;
    /// True after SIGHUP or the loss of master: long sessions (IMAP IDLE) should say goodbye soon.
    bool draining() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace postern
