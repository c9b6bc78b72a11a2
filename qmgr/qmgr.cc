/// qmgr - decides which message goes where, when, and how many at a time.
///
/// Standards: RFC 3461 (DSN: which outcomes are reported), RFC 5321 section 4.5.4 (retry strategies).
/// Speaks to: cleanup(8), which tells of new mail; delivery agents, which get a read-only descriptor of the queue
/// file and answer for each recipient; bounce(8); postqueue(1) and postsuper(1).
/// If taken over: can read, delay and destroy queued mail, and have it delivered wrongly.  Never sees the network.
#include <set>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/queue/log_options.h"
#include "lib/queue/messages.h"
#include "lib/route/router.h"
#include "lib/service/service.h"
#include "lib/table/match_list.h"
#include "qmgr/agent_pool.h"
#include "qmgr/manager.h"
#include "qmgr/probes.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",                              // none
    .chroot = "queue_directory",
    .readable = "$config_directory system",          // transport_maps and other tables, when they change
    .writable = "$queue_directory $queue_directory/transit",
    .syscalls = postern::Syscalls::files,
};

namespace postern::qmgr {
namespace {

using Request = std::variant<queue::NewMessage, queue::FlushAll, queue::FlushOne, queue::FlushSite, queue::Rescan,
                             queue::Altered, queue::AskQueueStatus, Trigger>;
using ClientChannel = Channel<queue::FromQmgr, Request>;

constexpr std::size_t kMaxRequest = 8 * 1024 * 1024;   // postsuper names many files at once

/// One client of public/qmgr.  The socket is open to members of setgid_group (postqueue); only the owner of the
/// queue and root may speak of files.
class Client {
public:
    Client(Manager& manager, MatchList& flushed, ClientChannel channel, bool trusted)
        : manager_(manager), flushed_(flushed), channel_(std::move(channel)), trusted_(trusted) {}

    /// The conversation ends; cleanup then turns to our successor.
    void close() { channel_.close(); }

    Task<> run() {
        for (;;) {
            Result<Request> request = co_await channel_.receive(kForever);
            if (!request) {
                break;
            }
            const auto dispatch = [this](auto& message) { return handle(message); };
            co_await std::visit(dispatch, *request);
        }
        if (told_of_mail_) {
            manager_.want_rescan();   // cleanup may have ended between making a file and telling us
        }
    }

private:
    Task<> answer(Result<void> result) {
        queue::QmgrAnswer reply;
        reply.ok = result.ok();
        reply.text = result ? std::string() : result.error().what;
        const Result<void> sent = co_await channel_.send(std::move(reply));
        if (!sent) {
            channel_.close();   // the next receive ends the conversation
        }
    }
    Task<> accept() { return answer(Result<void>()); }
    Task<> refuse() { return answer(Error(Errc::denied, "permission denied")); }

    Task<> handle(queue::NewMessage& message) {
        if (trusted_) {
            told_of_mail_ = true;
            manager_.new_message(message.queue_id, std::move(message.file), std::move(message.place));
        }
        co_return;
    }
    Task<> handle(queue::FlushAll&) {
        manager_.flush_all();
        spawn(manager_.rescan(true, true));   // also what somebody has put there by hand
        co_await accept();
    }
    Task<> handle(queue::FlushOne& message) {
        const Result<void> done = manager_.flush_one(message.queue_id);
        co_await answer(done);
    }
    Task<> handle(queue::FlushSite& message) {
        const Result<void> may = may_flush(message.domain);
        if (may) {
            spawn(manager_.flush_site(std::move(message.domain)));
        }
        co_await answer(may);
    }
    /// In Postfix it is flush(8) that says this.
    Result<void> may_flush(const std::string& site) {
        const Result<bool> flushed = flushed_.matches(site);
        if (!flushed) {
            log_warning("{}", flushed.error().what);
            return Error(Errc::temporary, "Cannot flush mail queue - mail system is down");
        }
        return *flushed ? Result<void>()
                        : Error(Errc::denied, fmt::format("Flush service is not configured for destination \"{}\"", printable(site, 300)));
    }
    Task<> handle(queue::Rescan& message) {
        if (!trusted_) {
            co_return co_await refuse();
        }
        co_await manager_.rescan(message.incoming, message.deferred);
        co_await accept();
    }
    Task<> handle(queue::Altered& message) {
        if (!trusted_) {
            co_return co_await refuse();
        }
        manager_.altered(message.change, message.queue_ids);
        co_await accept();
    }
    Task<> handle(queue::AskQueueStatus& message) {
        queue::QueueStatus status = manager_.status(message.after, message.limit);
        const Result<void> sent = co_await channel_.send(std::move(status));
        if (!sent) {
            channel_.close();
        }
    }
    Task<> handle(Trigger&) {
        manager_.want_rescan();
        co_return;
    }

    Manager& manager_;
    MatchList& flushed_;   ///< fast_flush_domains
    ClientChannel channel_;
    bool trusted_;
    bool told_of_mail_ = false;
};

using Clients = std::set<Client*>;

Task<> serve(Manager& manager, MatchList& flushed, Clients& clients, Connection connection) {
    describe_peer(connection);
    const bool trusted = connection.peer_uid == 0 || connection.peer_uid == ::geteuid();
    Client client(manager, flushed, ClientChannel(std::move(connection.fd), kMaxRequest), trusted);
    clients.insert(&client);
    co_await client.run();
    clients.erase(&client);
}

/// After SIGHUP: nothing new, no more clients; the process ends when the agents have answered for what they have.
Task<> drain(Service& service, Manager& manager, AgentPool& agents, Clients& clients) {
    manager.drain();
    agents.keep_none();
    const Clients open = clients;
    for (Client* const client : open) {
        client->close();
    }
    while (!manager.quiet()) {
        co_await sleep_for(Millis(20));
    }
    service.end_work();
}

/// Wakes the manager whenever something is due.
Task<> keep_time(Manager& manager) {
    co_await manager.start();
    for (;;) {
        const std::int64_t wait_usec = manager.tick() - wall_clock_usec();
        co_await manager.changed().wait(Millis(std::max<std::int64_t>(1, wait_usec / 1000)));
    }
}

}  // namespace
}  // namespace postern::qmgr

int main(int argc, char** argv) {
    using namespace postern;
    Service service("qmgr", argc, argv);
    // It lives on and, confined, could not open a missing table later: mail would be put off for ever.  It ends instead, and
    // master tries it again.
    TableContext tables = table_context(service.config());
    tables.open_error_is_fatal = true;
    Result<std::unique_ptr<Router>> router = Router::create(service.config(), tables);
    if (!router) {
        fatal("{}", router.error().what);
    }
    std::unique_ptr<Router> probe_router;
    if (qmgr::probes_have_own_routes(service.config())) {
        Result<std::unique_ptr<Router>> own = Router::create(service.config(), tables, RouteFor::probes);
        if (!own) {
            fatal("{}", own.error().what);
        }
        probe_router = std::move(*own);
    }
    const Config& config = service.config();
    Result<MatchList> flushed = MatchList::open("fast_flush_domains", config.fast_flush_domains(), MatchKind::domain,
                                                matches_subdomains(config, "fast_flush_domains"), tables);
    if (!flushed) {
        fatal("{}", flushed.error().what);
    }
    const std::optional<queue::Transit> transit = queue::Transit::open(".", ".");
    queue::LogOptions logs = queue::log_options(config, transit ? &*transit : nullptr);
    service.work_in_batches();
    service.confine(kRights);
    qmgr::AgentPool agents(service.config());
    qmgr::BounceClient bounce(service.config());
    qmgr::Manager manager(service.config(), **router, agents, bounce, &qmgr::wall_clock_usec);
    agents.set_events(manager);
    manager.set_logs(std::move(logs));
    if (transit) {
        manager.set_transit(*transit);
    }
    service.on_end([&] { manager.end(); });
    qmgr::VerifyReporter verify(service.config());
    manager.set_probes(probe_router ? *probe_router : **router, verify);
    qmgr::Clients clients;
    service.keep_running();
    service.may_overlap();
    service.on_start([&] {
        spawn(qmgr::keep_time(manager));
        Loop::current().every(std::chrono::seconds(5), [&] { agents.close_idle(); });
    });
    service.on_drain([&] {
        service.begin_work();
        spawn(qmgr::drain(service, manager, agents, clients));
    });
    return service.serve([&](Connection client) { return qmgr::serve(manager, *flushed, clients, std::move(client)); });
}
