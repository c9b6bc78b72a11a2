/// cleanup - makes a queue file of every message that enters the system.
///
/// Standards: RFC 5321 sections 4.4 (trace information) and 6.1 (reliable delivery), RFC 5322 section 3.6.
/// Speaks to: smtpd(8), pickup(8), bounce(8) and local(8), which submit messages; qmgr(8), which it tells about them;
/// proxymap(8) for tables that need rights.
#include <csignal>

#include "cleanup/committer.h"
#include "cleanup/qmgr_notifier.h"
#include "cleanup/session.h"
#include "lib/log/log.h"
#include "lib/queue/log_options.h"
#include "lib/queue/peers.h"
#include "lib/service/service.h"

namespace {

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",
    .chroot = "queue_directory",
    .readable = "system $config_directory",
    .writable = "$queue_directory $queue_directory/transit",
    .syscalls = postern::Syscalls::files,
};

template <class T>
T or_fatal(postern::Result<T> result) {
    if (!result) {
        postern::fatal("{}", result.error().what);
    }
    return std::move(*result);
}

}  // namespace

int main(int argc, char** argv) {
    using namespace postern;
    Service service("cleanup", argc, argv);
    const Config& config = service.config();
    const TableContext tables = table_context(config);
    const std::unique_ptr<Router> router = or_fatal(Router::create(config, tables));
    const std::unique_ptr<cleanup::AddressMaps> maps = or_fatal(cleanup::AddressMaps::open(config, tables, *router));
    const std::unique_ptr<ContentChecks> checks = or_fatal(ContentChecks::open(config, tables));
    const queue::TrustedPeers submitters(config);
    std::optional<queue::Transit> transit;
    if (!config.transit_directory().empty()) {
        transit = queue::Transit::open(".", ".");
    }
    queue::LogOptions log = queue::log_options(config, transit ? &*transit : nullptr);
    service.work_in_batches();
    service.confine(kRights);

    cleanup::Committer committer(std::move(log));
    cleanup::Shared shared(config, *maps, *checks);
    shared.committer = &committer;
    service.on_end([&] { committer.close(); });
    cleanup::QmgrNotifier qmgr("public/" + config.queue_service_name());
    const cleanup::SessionHooks hooks{
        .tell_qmgr = [&](queue::NewMessage message) { qmgr.notify(std::move(message)); },
        .draining = [&] {
            if (tables_are_stale() && !service.draining()) {
                ::raise(SIGHUP);   // a fresh process sees the new tables
            }
            return service.draining() || tables_are_stale();
        },
    };
    return service.serve([&](Connection client) -> Task<> {
        return cleanup::serve_connection(std::move(client), submitters, shared, hooks);
    });
}
