/// pickup - brings mail that local users submitted from maildrop/ into the queue.
///
/// Speaks to: postdrop(1) and sendmail(1), which write the files and wake it; master(8), which wakes it once a minute;
/// cleanup(8), which it submits the messages to; qmgr(8), which it wakes when a message was made of a file by somebody who died.
#include "cleanup/picker.h"
#include "lib/service/service.h"

namespace {

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",
    .chroot = "queue_directory",
    .readable = "system",
    .writable = "$queue_directory",
    .syscalls = postern::Syscalls::files,
};

/// Whatever comes over a connection, it means "look": nothing of it is used.  The connection stays open meanwhile,
/// so that who wakes us can finish writing.
postern::Task<> woken(postern::Connection, postern::pickup::Picker& picker, postern::Service& service) {
    service.begin_work();
    co_await picker.scan();
    service.end_work();
}

postern::Task<> first_scan(postern::pickup::Picker& picker, postern::Service& service) {
    service.begin_work();
    co_await picker.scan();
    service.end_work();
}

}  // namespace

int main(int argc, char** argv) {
    using namespace postern;
    Service service("pickup", argc, argv);
    service.confine(kRights);
    pickup::Picker picker(service.config(), ".");
    service.on_drain([&] { picker.drain(); });
    service.on_start([&] { spawn(first_scan(picker, service)); });
    return service.serve([&](Connection client) { return woken(std::move(client), picker, service); });
}
