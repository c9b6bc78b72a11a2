/// anvil - counts the connections and the rates of clients for all processes of a service together.
///
/// Speaks to: smtpd(8) on private/anvil (lib/limits/anvil_messages.h).
/// If taken over: can say that clients are within their limits, or that they are not; and log.
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "proxymap/anvil_server.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",
    .chroot = "queue_directory",
    .readable = "",
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

int main(int argc, char** argv) {
    using namespace postern;
    Service service("anvil", argc, argv);
    service.confine(kRights);
    const Millis window = service.config().anvil_rate_time_unit();
    anvil::Server server(window);
    bool keeps_books = false;   // a process that still remembers somebody's rates is not idle
    Loop::current().every(window, [&] {
        server.counts().forget_old(anvil::Counts::Clock::now());
        if (keeps_books && server.counts().clients() == 0) {
            keeps_books = false;
            service.end_work();
        }
    });
    Loop::current().every(service.config().anvil_status_update_time(), [&server] { server.log_statistics(); });
    service.on_drain([&] {      // a successor serves the processes; they tell it what is open
        server.close_all();
        if (keeps_books) {
            keeps_books = false;
            service.end_work();
        }
    });
    service.on_end([&server] { server.log_statistics(); });
    return service.serve([&](Connection process) {
        if (!keeps_books && !service.draining()) {
            keeps_books = true;
            service.begin_work();
        }
        return server.serve(std::move(process.fd));
    });
}
