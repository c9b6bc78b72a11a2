/// proxymap - looks things up in tables for programs that have no rights to do so themselves.
///
/// Speaks to: any of the suite's programs on private/proxymap (lib/table/proxy_messages.h).
/// If taken over: can read what mail_owner can read, and answer lookups wrongly.
#include "lib/async/wait_here.h"
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "proxymap/server.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",
    .chroot = "",                              // tables and name services are everywhere
    .readable = postern::kEverywhere,          // proxy_read_maps may name any file
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

int main(int argc, char** argv) {
    using namespace postern;
    Service service("proxymap", argc, argv);
    service.confine(kRights);
    allow_waiting_here();                      // tables are opened when they are asked for; a slow one delays only who asks it
    proxymap::Server server(service.config());
    return service.serve([&](Connection client) { return server.serve(std::move(client.fd)); });
}
