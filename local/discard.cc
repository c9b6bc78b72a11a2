/// discard - says that every message was delivered, and forgets it.  The next hop is the reason, for the log.
///
/// Speaks to: qmgr(8) on private/discard (lib/queue/deliver.h).
/// If taken over: can read what is to be discarded.
#include "lib/base/strings.h"
#include "lib/service/service.h"
#include "local/agent.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",
    .chroot = "queue_directory",
    .readable = "",
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

namespace {

using namespace postern;

Task<local::Outcome> deliver(local::MessagePtr message) {
    const std::string& reason = message->request().nexthop;
    local::Outcome outcome = local::sent(reason.empty() ? "discarded" : reason);
    outcome.relay = "none";
    co_return outcome;
}

}  // namespace

int main(int argc, char** argv) {
    Service service("discard", argc, argv);
    const Config& config = service.config();
    StatusFilter filter = local::open_status_filter("default_delivery_status_filter",
                                                 config.default_delivery_status_filter(), table_context(config));
    service.work_in_batches();
    service.confine(kRights);
    local::Agent agent("none", std::move(filter),
                       [](local::MessagePtr message, std::size_t) { return deliver(std::move(message)); });
    agent.obey(config);
    return service.serve([&](Connection client) { return agent.serve(std::move(client.fd)); });
}
