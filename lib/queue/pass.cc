#include "lib/queue/pass.h"

#include <fcntl.h>

#include <utility>

#include "lib/ipc/channel.h"

namespace postern::queue {
namespace {

constexpr Millis kConnectPatience = std::chrono::seconds(30);

RecipientDone deferred(std::string dsn, std::string reason) {
    RecipientDone done;
    done.outcome = kDeferred;
    done.dsn = dsn.empty() ? "4.3.0" : std::move(dsn);
    done.reason = std::move(reason);
    return done;
}

/// Takes one answer.  `rest` is the fate of those who get none: set when there will be no more.
void take(FromAgent answer, std::vector<PassedOn>& out, RecipientDone& rest) {
    if (auto* unavailable = std::get_if<Unavailable>(&answer)) {
        rest = deferred(std::move(unavailable->dsn), std::move(unavailable->reason));
        return;
    }
    auto* const done = std::get_if<RecipientDone>(&answer);
    if (done == nullptr) {
        rest = deferred("", "mail transport: bad answer");
        return;
    }
    for (PassedOn& one : out) {
        if (!one.logged && one.done.index == done->index) {
            one.done = std::move(*done);
            one.logged = true;
            break;
        }
    }
}

}  // namespace

Deliver copy_for_agent(const Deliver& from) {
    return {from.queue_id, UniqueFd(fcntl(from.message.get(), F_DUPFD_CLOEXEC, 3)), from.headers, from.body, from.transport, from.nexthop,
            from.sender, {}, from.arrival_usec, from.active_usec, from.handed_usec, from.dsn_envid, from.dsn_ret, from.encoding,
            from.smtputf8, from.requiretls, from.trace, from.verify_only, from.rewrite_local, from.origin, from.client};
}

Task<std::vector<PassedOn>> pass_on(Deliver request, std::string destination) {
    const std::size_t colon = destination.find(':');
    request.transport = destination.substr(0, colon);
    if (colon != std::string::npos && colon + 1 < destination.size()) {
        request.nexthop = destination.substr(colon + 1);
    }
    const std::string service = request.transport;
    std::vector<PassedOn> out(request.recipients.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
        out[i].done.index = request.recipients[i].index;
    }
    RecipientDone rest;
    Result<UniqueFd> socket = co_await connect_unix("private/" + service, kConnectPatience);
    if (!socket) {
        rest = deferred("", "mail transport " + service + " is not available: " + socket.error().what);
    } else {
        Channel<ToAgent, FromAgent> agent(std::move(*socket));
        Result<FromAgent> answer = co_await agent.receive(ipc_timeout());
        const bool ready = answer && std::holds_alternative<Ready>(*answer);
        if (answer && !ready) {
            take(std::move(*answer), out, rest);
        }
        if (ready) {
            agent.post(std::move(request));
        }
        for (std::size_t answers = 0; ready && answer && rest.dsn.empty() && answers < out.size(); ++answers) {
            answer = co_await agent.receive(ipc_timeout());
            if (answer) {
                take(std::move(*answer), out, rest);
            }
        }
        const std::string problem = answer ? "" : answer.error().what;
        if (rest.dsn.empty()) {
            rest = deferred("", "mail transport " + service + ": " + (problem.empty() ? "no answer" : problem));
        }
    }
    for (PassedOn& one : out) {
        if (!one.logged) {
            const std::uint32_t index = one.done.index;
            one.done = rest;
            one.done.index = index;
        }
    }
    co_return out;
}

}  // namespace postern::queue
