/// error - refuses (as "error") or puts off (as "retry") every recipient, for the reason that is the next hop.
///
/// Speaks to: qmgr(8) on private/error and private/retry (lib/queue/deliver.h).
/// If taken over: can tell qmgr lies about the messages it is given to refuse, and read them.
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

/// "X.Y.Z text", or text alone.  "error" always refuses and "retry" always defers: a code of the other class is not believed, as in
/// Postfix.
local::Outcome refuse(std::string_view reason, bool retry) {
    std::string_view text = trim(reason);
    const std::size_t space = text.find(' ');
    std::string dsn(text.substr(0, space));
    const bool has_code = dsn.size() >= 5 && (dsn[0] == '4' || dsn[0] == '5') && dsn[1] == '.' &&
                          dsn.find_first_not_of("0123456789.") == std::string::npos;
    if (has_code) {
        text = space == std::string_view::npos ? std::string_view("mail is undeliverable") : trim(text.substr(space));
    }
    if (!has_code || dsn[0] != (retry ? '4' : '5')) {
        dsn = retry ? "4.0.0" : "5.0.0";
    }
    local::Outcome outcome = local::failed(std::move(dsn), std::string(text));
    outcome.relay = "none";
    return outcome;
}

Task<local::Outcome> deliver(local::MessagePtr message, bool retry) {
    co_return refuse(message->request().nexthop, retry);
}

}  // namespace

int main(int argc, char** argv) {
    Service service("error", argc, argv);
    const Config& config = service.config();
    StatusFilter filter = local::open_status_filter("default_delivery_status_filter",
                                                 config.default_delivery_status_filter(), table_context(config));
    service.work_in_batches();
    service.confine(kRights);
    const bool retry = service.service_name() == "retry";
    local::Agent agent("none", std::move(filter),
                       [retry](local::MessagePtr message, std::size_t) { return deliver(std::move(message), retry); });
    agent.obey(config);
    return service.serve([&](Connection client) { return agent.serve(std::move(client.fd)); });
}
