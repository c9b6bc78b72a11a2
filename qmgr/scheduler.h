/// Decides which delivery is next.  No input or output, and the time comes as a parameter.
///
/// A message is cut into groups, one for each destination (transport and next hop; where a delivery takes one
/// recipient only, as local(8) does, each recipient is a destination of its own).  Two rings give everybody a turn:
///
///   * groups wait at their destination, first come first served, and go back to its end after one delivery, so
///     a huge mailing and a single message to one host take turns;
///   * messages with something to deliver stand in a ring of their transport and go back to its end after one
///     delivery, so a mailing to 100,000 destinations and a message to one take turns.
///
/// A destination lets as many deliveries out as its window says.  One that could not be reached at all is
/// dead for minimal_backoff_time: what waits for it is handed back to be deferred.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "qmgr/window.h"

namespace postern::qmgr {

using Usec = std::int64_t;

/// The settings of one transport (transport_destination_..., falling back on default_destination_...).
struct TransportLimits {
    WindowLimits window;
    std::size_t recipients = 50;      ///< ..._destination_recipient_limit; 0: none
    std::size_t processes = 100;      ///< deliveries of the whole transport at the same time
    Usec rate_delay = 0;              ///< ..._destination_rate_delay
    Usec transport_rate_delay = 0;    ///< ..._transport_rate_delay; not 0: also one delivery at a time
    Usec dead_for = 300'000'000;      ///< minimal_backoff_time
    Usec transport_dead_for = 60'000'000;   ///< transport_retry_time
};

/// Names a message for the scheduler.
using MessageKey = std::uint64_t;

/// One request to a delivery agent.
struct Batch {
    std::uint64_t id = 0;             ///< for succeeded() and the others
    MessageKey message = 0;
    std::string transport;
    std::string nexthop;
    std::vector<std::uint32_t> recipients;
};

/// Recipients whose destination or transport is dead.
struct Suspended {
    MessageKey message = 0;
    std::vector<std::uint32_t> recipients;
    std::string dsn;
    std::string reason;               ///< why it died
    bool transport_dead = false;      ///< the transport, not only the destination
};

class Scheduler {
public:
    /// Asked once for each transport.
    using LimitsOf = TransportLimits (*)(const void* context, std::string_view transport);
    Scheduler(LimitsOf limits_of, const void* context);
    ~Scheduler();

    /// Recipients that share transport and next hop.  `destination` is what concurrency is counted by.
    void add(MessageKey message, std::string_view transport, std::string_view nexthop, std::string_view destination,
             std::vector<std::uint32_t> recipients, Usec now);
    /// Drops what has not been given out; batches in flight stay.  Also called when a message is through.
    void cancel(MessageKey message);
    /// True when each of the transport's deliveries takes one recipient, so that destinations are recipients.
    bool one_recipient_each(std::string_view transport);

    /// The next delivery to start, if one may.
    std::optional<Batch> next(Usec now);
    /// What died since the last call, or did not fit then: the oldest first, at most `limit`.
    std::vector<Suspended> take_suspended(std::size_t limit);
    bool has_suspended() const { return !suspended_.empty(); }

    /// The batch came to an end and reached its destination, whatever became of the recipients.
    void succeeded(std::uint64_t batch, Usec now);
    /// The destination could not be reached.
    void failed(std::uint64_t batch, std::string_view dsn, std::string_view reason, Usec now);
    /// The transport cannot be used at all.
    void transport_failed(std::uint64_t batch, std::string_view dsn, std::string_view reason, Usec now);
    /// The batch ended without saying anything about the destination (the agent died).
    void abandoned(std::uint64_t batch, Usec now);

    /// Gives the dead another chance (postqueue -f).
    void forgive_all();
    /// When next() may have an answer that it has not now (rate delays); nothing: only after an event.
    std::optional<Usec> next_event() const;

    /// The destination with most messages waiting, and how many they are.
    struct Longest {
        std::string transport, nexthop;
        std::size_t messages = 0;
    };
    Longest longest() const;

    /// How one destination stands.
    struct Status {
        std::string order;        ///< for the next page: transport, next hop and mailbox
        std::string transport, nexthop, mailbox;
        int window = 0;
        int running = 0;
        std::size_t waiting = 0;  ///< recipients
        Usec dead_until = 0, delayed_until = 0;
        std::string dsn, reason;
    };
    /// Up to `limit` destinations whose `order` comes after `after`, in that order.
    std::vector<Status> status(const std::string& after, std::size_t limit) const;

    std::size_t in_flight() const { return in_flight_.size(); }
    std::size_t destinations() const;

private:
    struct Transport;
    struct Destination;
    struct Job;
    struct Group;
    struct InFlight {
        Transport* transport;
        Destination* destination;
    };

    static Status status_of(const Transport& transport, const Destination& destination, std::string order);
    Transport& find_transport(std::string_view name);
    Destination& find_destination(Transport& transport, std::string_view nexthop, std::string_view key);
    void admit(Destination& destination, Usec now);
    std::optional<Batch> next_of(Transport& transport, Usec now);
    Batch start(Transport& transport, std::unique_ptr<Group> group, Usec now);
    void suspend(std::unique_ptr<Group> group, const std::string& dsn, const std::string& reason, bool transport_dead);
    void suspend_waiting(Destination& destination);
    void end(std::uint64_t batch, Usec now);
    void release_if_idle(Destination& destination);
    void revive(Usec now);

    LimitsOf limits_of_;
    const void* context_;
    std::map<std::string, std::unique_ptr<Transport>, std::less<>> transports_;
    std::unordered_map<std::uint64_t, InFlight> in_flight_;
    /// Shared with the groups of the job and the transport's ring; the last of them frees it.
    std::unordered_map<MessageKey, std::vector<std::weak_ptr<Job>>> jobs_;
    std::deque<Suspended> suspended_;
    std::multimap<Usec, Destination*> timed_;   ///< dead or delayed until then; an entry keeps its destination
    std::uint64_t last_batch_ = 0;
};

}  // namespace postern::qmgr
