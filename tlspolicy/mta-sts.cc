/// mta-sts - knows the MTA-STS policies of the domains that mail goes to.
///
/// Standards: RFC 8461 (MTA-STS).
/// Speaks to: smtp(8) on private/mta-sts (lib/mta_sts/messages.h); name servers; the web servers of the domains asked for.
/// If taken over: can say that domains have no policy, or a wrong one, and talk to the network.  Sees no mail.
#include <ctime>

#include "lib/log/log.h"
#include "lib/service/service.h"
#include "tlspolicy/sts_server.h"
#include "tlspolicy/web.h"

constexpr postern::Rights kRights{
    .user = "network_owner",
    .capabilities = "",                        // none
    .chroot = "queue_directory",
    .readable = "",                            // no files: the cache and the authorities are open by then
    .writable = "",
    .syscalls = postern::Syscalls::files,      // fdatasync of the cache
};

int main(int argc, char** argv) {
    using namespace postern;
    Service service("mta-sts", argc, argv);
    Result<std::unique_ptr<tlspolicy::StsCache>> cache =
        tlspolicy::StsCache::open(service.config().data_directory() + "/mta_sts.mdb");
    if (!cache) {
        fatal("{}", cache.error().what);
    }
    const tlspolicy::Web web = tlspolicy::open_web(service.config());
    service.confine(kRights);
    tlspolicy::StsServer server(*web.dns, *web.https, **cache, [] { return static_cast<std::int64_t>(std::time(nullptr)); });
    service.keep_running();   // what is known is refreshed, whether or not mail is under way
    service.on_start([&server] { spawn(server.refresh()); });
    Loop::current().every(std::chrono::hours(1), [&server] { spawn(server.refresh()); });
    service.on_drain([&server] { server.close_all(); });
    return service.serve([&server](Connection process) { return server.serve(std::move(process.fd)); });
}
