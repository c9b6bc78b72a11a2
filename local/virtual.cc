/// virtual - delivers to mailboxes of virtual users: Maildir and mbox files that tables name.
///
/// Speaks to: qmgr(8) on private/virtual (lib/queue/deliver.h), proxymap(8).
/// If taken over: can become any user but root, and so read and change all virtual users' mail.
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "local/virtual_delivery.h"

constexpr postern::Rights kRights{
    .user = "root",
    .capabilities = "cap_setuid,cap_setgid",
    .chroot = "",
    .readable = postern::kEverywhere,
    .writable = postern::kEverywhere,          // mailboxes are wherever virtual_mailbox_maps says
    .syscalls = postern::Syscalls::delivery,
};

int main(int argc, char** argv) {
    using namespace postern;
    Service service("virtual", argc, argv);
    const Config& config = service.config();
    const TableContext tables = table_context(config);
    auto delivery = local::VirtualDelivery::create(config, tables);
    if (!delivery) {
        fatal("{}", delivery.error().what);
    }
    StatusFilter filter = local::open_status_filter("virtual_delivery_status_filter",
                                                 config.virtual_delivery_status_filter(), tables);
    local::changes_user();
    service.work_in_batches();
    service.confine(kRights);
    local::Agent agent(
        service.service_name(), std::move(filter),
        [&](local::MessagePtr message, std::size_t index) { return (*delivery)->deliver(std::move(message), index); });
    agent.obey(config);
    return service.serve([&](Connection client) { return agent.serve(std::move(client.fd)); });
}
