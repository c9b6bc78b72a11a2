// How the scheduler's destinations stand, for postern queue.
#include <algorithm>

#include "qmgr/scheduler_parts.h"

namespace postern::qmgr {
namespace {

constexpr std::size_t kMaxReason = 300;   // of what a remote server said

}  // namespace

Scheduler::Status Scheduler::status_of(const Transport& transport, const Destination& destination, std::string order) {
    Status status;
    status.order = std::move(order);
    status.transport = transport.name;
    const std::size_t end = destination.key.find('\0');
    status.nexthop = destination.key.substr(0, end);
    status.mailbox = destination.key.substr(end + 1);
    status.window = destination.window.size();
    status.running = destination.busy;
    for (const auto& group : destination.waiting) {
        status.waiting += group->recipients.size() - group->given_out;
    }
    status.waiting += static_cast<std::size_t>(destination.admitted);   // whose turn it is next, one at least in each
    status.delayed_until = destination.not_before;
    const bool all = transport.dead_until > destination.dead_until;
    if (all || destination.window.closed()) {
        status.dead_until = all ? transport.dead_until : destination.dead_until;
        status.dsn = all ? transport.dsn : destination.dsn;
        status.reason = (all ? transport.reason : destination.reason).substr(0, kMaxReason);
    }
    return status;
}

Scheduler::Longest Scheduler::longest() const {
    Longest longest;
    for (const auto& [name, transport] : transports_) {
        for (const auto& [key, destination] : transport->destinations) {
            const std::size_t messages = destination->waiting.size() + static_cast<std::size_t>(destination->admitted + destination->busy);
            if (messages > longest.messages) {
                longest = {name, key.substr(0, key.find('\0')), messages};
            }
        }
    }
    return longest;
}

std::vector<Scheduler::Status> Scheduler::status(const std::string& after, std::size_t limit) const {
    struct Place {
        std::string order;
        const Transport* transport;
        const Destination* destination;
    };
    std::vector<Place> places;
    for (const auto& [name, transport] : transports_) {
        for (const auto& [key, destination] : transport->destinations) {
            std::string order = name + '\0' + key;
            if (order > after) {
                places.push_back({std::move(order), transport.get(), destination.get()});
            }
        }
    }
    const auto end = places.begin() + static_cast<std::ptrdiff_t>(std::min(limit, places.size()));
    std::partial_sort(places.begin(), end, places.end(), [](const Place& a, const Place& b) { return a.order < b.order; });
    std::vector<Status> page;
    for (auto place = places.begin(); place != end; ++place) {
        page.push_back(status_of(*place->transport, *place->destination, std::move(place->order)));
    }
    return page;
}

}  // namespace postern::qmgr
