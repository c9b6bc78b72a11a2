#include <algorithm>
#include <utility>

#include "lib/log/log.h"
#include "qmgr/scheduler_parts.h"

namespace postern::qmgr {

Scheduler::Scheduler(LimitsOf limits_of, const void* context) : limits_of_(limits_of), context_(context) {}

/// A job's ready groups hold the job: the circle is cut here.
Scheduler::~Scheduler() {
    for (auto& [name, transport] : transports_) {
        for (const std::shared_ptr<Job>& job : transport->ring) {
            job->ready.clear();
        }
    }
}

Scheduler::Transport& Scheduler::find_transport(std::string_view name) {
    const auto found = transports_.find(name);
    if (found != transports_.end()) {
        return *found->second;
    }
    auto transport = std::make_unique<Transport>();
    transport->name = name;
    transport->limits = limits_of_(context_, name);
    return *transports_.emplace(std::string(name), std::move(transport)).first->second;
}

bool Scheduler::one_recipient_each(std::string_view transport) {
    return find_transport(transport).limits.recipients == 1;
}

Scheduler::Destination& Scheduler::find_destination(Transport& transport, std::string_view nexthop, std::string_view key) {
    std::string name(nexthop);
    name += '\0';
    name += key;
    auto& slot = transport.destinations[name];
    if (slot == nullptr) {
        slot = std::make_unique<Destination>(transport, std::move(name), transport.limits.window);
    }
    return *slot;
}

void Scheduler::suspend(std::unique_ptr<Group> group, const std::string& dsn, const std::string& reason, bool transport_dead) {
    if (!group->job->cancelled) {
        group->recipients.erase(group->recipients.begin(), group->recipients.begin() + static_cast<std::ptrdiff_t>(group->given_out));
        suspended_.push_back({group->job->message, std::move(group->recipients), dsn, reason, transport_dead});
    }
}

void Scheduler::suspend_waiting(Destination& destination) {
    while (!destination.waiting.empty()) {
        suspend(std::move(destination.waiting.front()), destination.dsn, destination.reason, false);
        destination.waiting.pop_front();
    }
}

void Scheduler::add(MessageKey message, std::string_view transport_name, std::string_view nexthop,
                    std::string_view destination_key, std::vector<std::uint32_t> recipients, Usec now) {
    Transport& transport = find_transport(transport_name);
    auto& jobs = jobs_[message];
    std::shared_ptr<Job> job;
    for (const std::weak_ptr<Job>& known : jobs) {
        std::shared_ptr<Job> alive = known.lock();
        if (alive != nullptr && &alive->transport == &transport && !alive->cancelled) {
            job = std::move(alive);
            break;
        }
    }
    if (job == nullptr) {
        job = std::make_shared<Job>(message, transport);
        jobs.push_back(job);
    }
    auto group = std::make_unique<Group>();
    group->job = std::move(job);
    group->nexthop = nexthop;
    group->recipients = std::move(recipients);
    if (transport.dead_until > now) {
        suspend(std::move(group), transport.dsn, transport.reason, true);
        return;
    }
    revive(now);
    Destination& destination = find_destination(transport, nexthop, destination_key);
    if (destination.window.closed()) {
        suspend(std::move(group), destination.dsn, destination.reason, false);
        return;
    }
    group->destination = &destination;
    destination.waiting.push_back(std::move(group));
    admit(destination, now);
}

void Scheduler::cancel(MessageKey message) {
    const auto found = jobs_.find(message);
    if (found == jobs_.end()) {
        return;
    }
    for (const std::weak_ptr<Job>& known : found->second) {
        if (const std::shared_ptr<Job> job = known.lock()) {
            job->cancelled = true;
        }
    }
    jobs_.erase(found);
}

/// Moves groups into their jobs' ready lists as far as the destination's window allows.
void Scheduler::admit(Destination& destination, Usec now) {
    Transport& transport = destination.transport;
    if (transport.limits.rate_delay > 0 && !destination.waiting.empty()) {
        if (destination.not_before > now) {
            if (!destination.timed) {
                destination.timed = true;
                timed_.emplace(destination.not_before, &destination);
            }
            return;
        }
        if (destination.busy + destination.admitted > 0) {
            return;   // a rate limit means one at a time
        }
    }
    while (!destination.waiting.empty() && destination.busy + destination.admitted < destination.window.size()) {
        std::unique_ptr<Group> group = std::move(destination.waiting.front());
        destination.waiting.pop_front();
        const std::shared_ptr<Job> job = group->job;
        if (job->cancelled) {
            continue;
        }
        ++destination.admitted;
        job->ready.push_back(std::move(group));
        if (!job->in_ring) {
            job->in_ring = true;
            transport.ring.push_back(job);
        }
        if (transport.limits.rate_delay > 0) {
            return;
        }
    }
}

Batch Scheduler::start(Transport& transport, std::unique_ptr<Group> group, Usec now) {
    Destination& destination = *group->destination;
    Batch batch;
    batch.id = ++last_batch_;
    batch.message = group->job->message;
    batch.transport = transport.name;
    batch.nexthop = group->nexthop;
    const std::size_t left = group->recipients.size() - group->given_out;
    const std::size_t limit = transport.limits.recipients;
    const std::size_t count = limit == 0 ? left : std::min(left, limit);
    const auto first = group->recipients.begin() + static_cast<std::ptrdiff_t>(group->given_out);
    batch.recipients.assign(first, first + static_cast<std::ptrdiff_t>(count));
    group->given_out += count;
    ++destination.busy;
    ++transport.in_flight;
    in_flight_.emplace(batch.id, InFlight{&transport, &destination});
    if (group->given_out < group->recipients.size()) {
        destination.waiting.push_back(std::move(group));
    }
    admit(destination, now);
    return batch;
}

std::optional<Batch> Scheduler::next_of(Transport& transport, Usec now) {
    while (!transport.ring.empty() && transport.in_flight < transport.may_run() && transport.not_before <= now) {
        const std::shared_ptr<Job> job = std::move(transport.ring.front());
        transport.ring.pop_front();
        std::optional<Batch> batch;
        while (!job->ready.empty() && !batch) {
            std::unique_ptr<Group> group = std::move(job->ready.front());
            job->ready.pop_front();
            Destination& destination = *group->destination;
            --destination.admitted;
            if (job->cancelled) {
                admit(destination, now);
                release_if_idle(destination);
            } else if (transport.dead_until > now) {
                suspend(std::move(group), transport.dsn, transport.reason, true);
                release_if_idle(destination);
            } else if (destination.window.closed()) {
                suspend(std::move(group), destination.dsn, destination.reason, false);
            } else {
                batch = start(transport, std::move(group), now);
            }
        }
        job->in_ring = !job->ready.empty();
        if (job->in_ring) {
            transport.ring.push_back(job);
        }
        if (batch) {
            return batch;
        }
    }
    return std::nullopt;
}

std::optional<Batch> Scheduler::next(Usec now) {
    revive(now);
    for (auto& [name, transport] : transports_) {
        if (std::optional<Batch> batch = next_of(*transport, now)) {
            return batch;
        }
    }
    return std::nullopt;
}

std::vector<Suspended> Scheduler::take_suspended(std::size_t limit) {
    const auto end = suspended_.begin() + static_cast<std::ptrdiff_t>(std::min(limit, suspended_.size()));
    std::vector<Suspended> some(std::make_move_iterator(suspended_.begin()), std::make_move_iterator(end));
    suspended_.erase(suspended_.begin(), end);
    return some;
}

void Scheduler::release_if_idle(Destination& destination) {
    if (destination.busy == 0 && destination.admitted == 0 && destination.waiting.empty() && !destination.timed) {
        Transport& transport = destination.transport;
        transport.destinations.erase(std::string(destination.key));
    }
}

void Scheduler::end(std::uint64_t batch, Usec now) {
    const InFlight flight = in_flight_.at(batch);
    in_flight_.erase(batch);
    Destination& destination = *flight.destination;
    --flight.transport->in_flight;
    --destination.busy;
    if (flight.transport->limits.transport_rate_delay > 0) {
        flight.transport->not_before = now + flight.transport->limits.transport_rate_delay;
    }
    if (flight.transport->limits.rate_delay > 0) {
        destination.not_before = now + flight.transport->limits.rate_delay;
        if (!destination.timed) {   // remembered even when nothing waits: the next message must keep the distance
            destination.timed = true;
            timed_.emplace(destination.not_before, &destination);
        }
    }
    admit(destination, now);
    release_if_idle(destination);
}

void Scheduler::succeeded(std::uint64_t batch, Usec now) {
    const auto found = in_flight_.find(batch);
    if (found == in_flight_.end()) {
        return;
    }
    Destination& destination = *found->second.destination;
    const WindowLimits& limits = found->second.transport->limits.window;
    destination.window.succeeded(limits, destination.busy);
    if (limits.debug) {
        log_info("qmgr_queue_unthrottle: queue {}: {}", destination.nexthop(), destination.window.text(limits));
    }
    end(batch, now);
}

void Scheduler::abandoned(std::uint64_t batch, Usec now) {
    if (in_flight_.count(batch) != 0) {
        end(batch, now);
    }
}

void Scheduler::failed(std::uint64_t batch, std::string_view dsn, std::string_view reason, Usec now) {
    const auto found = in_flight_.find(batch);
    if (found == in_flight_.end()) {
        return;
    }
    Destination& destination = *found->second.destination;
    const TransportLimits& limits = found->second.transport->limits;
    destination.window.failed(limits.window);
    if (limits.window.debug) {
        log_info("qmgr_queue_throttle: queue {}: {}", destination.nexthop(), destination.window.text(limits.window));
    }
    if (destination.window.closed()) {
        destination.dsn = dsn;
        destination.reason = reason;
        destination.dead_until = now + limits.dead_for;
        if (!destination.timed) {
            destination.timed = true;
            timed_.emplace(destination.dead_until, &destination);
        }
        suspend_waiting(destination);
    }
    end(batch, now);
}

void Scheduler::transport_failed(std::uint64_t batch, std::string_view dsn, std::string_view reason, Usec now) {
    const auto found = in_flight_.find(batch);
    if (found == in_flight_.end()) {
        return;
    }
    Transport& transport = *found->second.transport;
    transport.dead_until = now + transport.limits.transport_dead_for;
    transport.dsn = dsn;
    transport.reason = reason;
    std::vector<Destination*> waiting;
    for (auto& [key, destination] : transport.destinations) {
        if (!destination->waiting.empty()) {
            waiting.push_back(destination.get());
        }
    }
    for (Destination* destination : waiting) {
        while (!destination->waiting.empty()) {
            suspend(std::move(destination->waiting.front()), transport.dsn, transport.reason, true);
            destination->waiting.pop_front();
        }
    }
    end(batch, now);
}

/// Opens destinations whose time has come.
void Scheduler::revive(Usec now) {
    while (!timed_.empty() && timed_.begin()->first <= now) {
        Destination& destination = *timed_.begin()->second;
        timed_.erase(timed_.begin());
        destination.timed = false;
        if (destination.window.closed() && destination.dead_until > now) {   // was here for a rate delay
            destination.timed = true;
            timed_.emplace(destination.dead_until, &destination);
            continue;
        }
        if (destination.window.closed()) {
            destination.window.reset(destination.transport.limits.window);
        }
        admit(destination, now);
        release_if_idle(destination);
    }
}

void Scheduler::forgive_all() {
    for (auto& [name, transport] : transports_) {
        transport->dead_until = 0;
    }
    for (auto& [until, destination] : timed_) {
        if (destination->window.closed()) {
            destination->window.reset(destination->transport.limits.window);
        }
    }
}

std::optional<Usec> Scheduler::next_event() const {
    std::optional<Usec> next;
    bool delays = false;
    for (const auto& [name, transport] : transports_) {
        delays = delays || transport->limits.rate_delay > 0;
        if (transport->limits.transport_rate_delay > 0 && transport->in_flight == 0 && !transport->ring.empty()) {
            next = std::min(next.value_or(transport->not_before), transport->not_before);
        }
    }
    if (delays && !timed_.empty()) {   // otherwise only the dead are there, which have nothing waiting
        next = std::min(next.value_or(timed_.begin()->first), timed_.begin()->first);
    }
    return next;
}

std::size_t Scheduler::destinations() const {
    std::size_t count = 0;
    for (const auto& [name, transport] : transports_) {
        count += transport->destinations.size();
    }
    return count;
}

}  // namespace postern::qmgr
