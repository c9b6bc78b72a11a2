/// What the scheduler is made of; for its own files only.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "qmgr/scheduler.h"

namespace postern::qmgr {

/// What one message has for one transport.
struct Scheduler::Job {
    Job(MessageKey key, Transport& owner) : message(key), transport(owner) {}
    MessageKey message;
    Transport& transport;
    std::deque<std::unique_ptr<Group>> ready;   ///< have a place in their destination's window
    bool in_ring = false;
    bool cancelled = false;
};

/// What one message has for one destination.
struct Scheduler::Group {
    std::shared_ptr<Job> job;   ///< shared with its other groups and the transport's ring
    Destination* destination = nullptr;
    std::string nexthop;
    std::vector<std::uint32_t> recipients;
    std::size_t given_out = 0;
};

struct Scheduler::Destination {
    Destination(Transport& owner, std::string name, const WindowLimits& limits)
        : transport(owner), key(std::move(name)), window(limits) {}
    std::string_view nexthop() const { return std::string_view(key).substr(0, key.find('\0')); }
    Transport& transport;
    std::string key;
    Window window;
    int busy = 0;          ///< batches in flight
    int admitted = 0;      ///< groups that stand in a job's ready list
    std::deque<std::unique_ptr<Group>> waiting;
    Usec not_before = 0;   ///< rate delay
    Usec dead_until = 0;
    bool timed = false;    ///< has an entry in timed_
    std::string dsn, reason;   ///< why it is dead
};

struct Scheduler::Transport {
    std::string name;
    TransportLimits limits;
    std::unordered_map<std::string, std::unique_ptr<Destination>> destinations;
    std::deque<std::shared_ptr<Job>> ring;
    std::size_t in_flight = 0;
    Usec not_before = 0;   ///< transport rate delay
    Usec dead_until = 0;
    std::string dsn, reason;
    std::size_t may_run() const { return limits.transport_rate_delay > 0 ? 1 : limits.processes; }
};

}  // namespace postern::qmgr
