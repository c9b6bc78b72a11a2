/// local - delivers to the system's users: aliases, .forward files, mailboxes, commands.
///
/// Speaks to: qmgr(8) on private/local (lib/queue/deliver.h), cleanup(8) for what is forwarded, proxymap(8), other
/// delivery agents that mailbox_transport names.
/// If taken over: can become any user but root.
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "local/local_delivery.h"

constexpr postern::Rights kRights{
    .user = "root",
    .capabilities = "cap_setuid,cap_setgid",
    .chroot = "",
    .readable = postern::kEverywhere,
    .writable = postern::kEverywhere,          // mailboxes, and what users' commands write
    .syscalls = postern::Syscalls::delivery,
};

namespace {

using namespace postern;

Task<local::Outcome> deliver(local::LocalTables& shared, local::Agent& agent, local::MessagePtr message,
                             std::size_t index) {
    local::LocalDelivery delivery(shared, agent, std::move(message), index);
    co_return co_await delivery.run();
}

}  // namespace

int main(int argc, char** argv) {
    Service service("local", argc, argv);
    const Config& config = service.config();
    const TableContext tables = table_context(config);
    local::changes_user();
    auto shared = local::LocalTables::create(config, tables);
    if (!shared) {
        fatal("{}", shared.error().what);
    }
    StatusFilter filter =
        local::open_status_filter("local_delivery_status_filter", config.local_delivery_status_filter(), tables);
    service.work_in_batches();
    service.confine(kRights);
    local::Agent* self = nullptr;
    local::Agent agent(service.service_name(), std::move(filter),
                       [&shared, &self](local::MessagePtr message, std::size_t index) {
                           return deliver(**shared, *self, std::move(message), index);
                       });
    self = &agent;
    agent.obey(config);
    return service.serve([&](Connection client) { return agent.serve(std::move(client.fd)); });
}
