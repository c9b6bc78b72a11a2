/// showq - lists the queue for postqueue(1), which has no right to read it.
///
/// Speaks to: postqueue(1) and whoever else may connect to public/showq: any local user.
/// If taken over: can read queued mail.
#include "lib/ipc/channel.h"
#include "lib/listing/listing.h"
#include "lib/log/log.h"
#include "lib/service/service.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",                              // none
    .chroot = "queue_directory",
    .readable = "$queue_directory /etc/localtime /usr/share/zoneinfo",
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

namespace postern::qmgr {
namespace {

using ToLister = std::variant<ListedMessage, ListingEnd>;
using ListChannel = Channel<ToLister, std::variant<Trigger>>;

constexpr std::size_t kEnough = 256 * 1024;   // bytes that wait before we wait for the reader

/// Everything, as soon as the client connects; it asks nothing.
Task<> serve(Connection client) {
    ListChannel channel(std::move(client.fd));
    for (const std::string& name : kListedDirectories) {
        for (const std::string& id : queue_ids_in(name)) {
            ListedMessage message;
            if (!read_listed(".", name, id, message)) {
                continue;
            }
            channel.post(std::move(message));
            if (channel.pending_output() < kEnough) {
                continue;
            }
            const Result<void> sent = co_await channel.flush();
            if (!sent) {
                co_return;
            }
            co_await yield_to_others();
        }
    }
    ListingEnd end;
    const Result<void> sent = co_await channel.send(std::move(end));
    if (!sent) {
        log_debug("postqueue went away: {}", sent.error().what);
    }
}

}  // namespace
}  // namespace postern::qmgr

int main(int argc, char** argv) {
    using namespace postern;
    Service service("showq", argc, argv);
    service.confine(kRights);
    return service.serve([](Connection client) { return qmgr::serve(std::move(client)); });
}
