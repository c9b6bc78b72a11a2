#include "qmgr/manager.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/base/strings.h"
#include "lib/log/delivery.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/mail/logged_address.h"
#include "lib/mail/verp.h"
#include "lib/queue/maildrop.h"
#include "lib/queue/queue_id.h"

namespace postern::qmgr {
namespace {

/// Every active message holds a file open: no more of them than the process may have, with room for connections.
std::size_t limit_by_descriptors(std::size_t wanted) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return wanted;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        ::getrlimit(RLIMIT_NOFILE, &limit);
    }
    const auto usable = static_cast<std::size_t>(std::min<rlim_t>(limit.rlim_cur, 1U << 20));
    return std::max<std::size_t>(10, std::min(wanted, usable > 400 ? usable - 300 : usable / 4));
}

long limit_for(const Config& config, std::string_view transport, std::string_view suffix, long fallback) {
    return config.lookup_number(std::string(transport) + "_" + std::string(suffix)).value_or(fallback);
}

Feedback feedback_for(const Config& config, std::string_view transport, const std::string& suffix, const std::string& fallback) {
    const std::string name = std::string(transport) + "_" + suffix;
    const std::string text = config.lookup(name).value_or(fallback);
    const Result<Feedback> feedback = Feedback::parse(text);
    if (!feedback) {
        fatal("{}: {}", name, feedback.error().what);
    }
    return *feedback;
}

}  // namespace

TransportLimits Manager::limits_of(const void* self, std::string_view transport) {
    const Config& config = static_cast<const Manager*>(self)->config_;
    TransportLimits limits;
    limits.window.initial = static_cast<double>(
        limit_for(config, transport, "initial_destination_concurrency", config.initial_destination_concurrency()));
    limits.window.maximum = static_cast<double>(
        limit_for(config, transport, "destination_concurrency_limit", config.default_destination_concurrency_limit()));
    limits.window.failed_cohorts = static_cast<double>(
        limit_for(config, transport, "destination_concurrency_failed_cohort_limit",
                  config.default_destination_concurrency_failed_cohort_limit()));
    limits.window.positive = feedback_for(config, transport, "destination_concurrency_positive_feedback",
                                          config.default_destination_concurrency_positive_feedback());
    limits.window.negative = feedback_for(config, transport, "destination_concurrency_negative_feedback",
                                          config.default_destination_concurrency_negative_feedback());
    limits.window.debug = config.destination_concurrency_feedback_debug();
    const auto recipients = static_cast<std::size_t>(
        limit_for(config, transport, "destination_recipient_limit", config.default_destination_recipient_limit()));
    limits.recipients = recipients == 0 ? kMaxBatch : std::min(recipients, kMaxBatch);
    limits.processes = static_cast<std::size_t>(config.default_process_limit());
    const Seconds rate = config.lookup_time(std::string(transport) + "_destination_rate_delay")
                             .value_or(config.default_destination_rate_delay());
    limits.rate_delay = rate.count() * kSecond;
    const Seconds transport_rate = config.lookup_time(std::string(transport) + "_transport_rate_delay")
                                       .value_or(config.default_transport_rate_delay());
    limits.transport_rate_delay = transport_rate.count() * kSecond;
    limits.dead_for = config.minimal_backoff_time().count() * kSecond;
    limits.transport_dead_for = config.transport_retry_time().count() * kSecond;
    return limits;
}

Manager::Manager(const Config& config, Router& router, Agents& agents, Notifier& notifier, Clock clock)
    : config_(config), router_(router), agents_(agents), notifier_(notifier), clock_(clock),
      scheduler_(&Manager::limits_of, this), defer_transports_(split(config.defer_transports(), ", \t\r\n")),
      active_limit_(limit_by_descriptors(static_cast<std::size_t>(config.qmgr_message_active_limit()))),
      started_usec_(clock()) {}

Manager::~Manager() = default;

Message* Manager::find(const std::string& id) {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : active_.at(found->second).get();
}

// --- taking messages up -------------------------------------------------------------------------------------

void Manager::new_message(const std::string& queue_id, UniqueFd file, queue::LogPlace place) {
    if (draining_) {
        return;   // it is found in incoming/ by the successor
    }
    if (!queue::is_queue_id(queue_id)) {
        log_warning("message with a bad queue id: {}", printable(queue_id, 100));
        return;
    }
    remember_place(queue_id, std::move(place));
    if (!room() || !incoming_.empty()) {
        incoming_.put(queue_id, clock_() / kSecond);
        fill_active();
        keep_waiting(queue_id);
        return;
    }
    activate(queue_id, "incoming", std::move(file));
    pump();
}

/// New mail and old mail take turns, so that neither can keep the other out.  A few at a time: what comes in meanwhile
/// need not wait until thousands are open.
void Manager::fill_active() {
    const std::int64_t now = clock_() / kSecond;
    more_is_due_ = false;
    for (std::size_t taken = 0; room() && !draining_; ++taken) {
        const bool has_incoming = !incoming_.empty() && incoming_.first_due() <= now;
        const bool has_deferred = !deferred_.empty() && deferred_.first_due() <= now && room_for_old();
        if (!has_incoming && !has_deferred) {
            break;
        }
        if (taken == kTurn) {
            more_is_due_ = true;
            changed_.notify_all();
            break;
        }
        const bool old = has_deferred && (take_deferred_next_ || !has_incoming);
        take_deferred_next_ = !old;
        if (old) {
            activate(deferred_.pop(), "deferred", UniqueFd());
        } else {
            activate(incoming_.pop(), "incoming", UniqueFd());
        }
    }
    pump();
}

/// Opens, locks and reads the file.  What is new is in transit or in incoming/.  Errors: not_found (somebody took it away), temporary (an agent of an earlier
/// queue manager still works on it), corrupt, io.
Result<std::unique_ptr<Message>> Manager::load(const std::string& id, const std::string& directory, UniqueFd file) {
    const std::string path = queue::queue_path(directory, id);
    auto message = std::make_unique<Message>();
    message->id = id;
    message->directory = directory;
    message->confirm_delay = config_.confirm_delay_cleared();
    // Agents get this descriptor and must not write, whatever cleanup's own is good for.
    if (transit_ != nullptr && directory == "incoming") {
        message->file = transit_->open_file(id, O_RDONLY);
        message->directory = message->file ? "transit" : directory;
    }
    if (!message->file) {
        message->file.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    }
    if (!message->file) {
        return errno_error("open " + path);
    }
    file.reset();
    const bool held = transit_ != nullptr && !message->is_in_transit() && transit_->is_held(id);
    const bool locked = !held && ::flock(message->file.get(), LOCK_EX | LOCK_NB) == 0;
    if (!locked || (message->is_in_transit() && !transit_->is_still(id, message->file.get()))) {
        return Error(Errc::temporary, "still being delivered");
    }
    std::vector<queue::JournalRecord> records;
    Result<queue::QueueFile> content = queue::QueueFile::read(message->file.get(), records);
    if (!content) {
        return content.error();
    }
    message->content = std::move(*content);
    message->must_sync = message->is_in_transit() && !records.empty();   // a queue manager that was killed wrote them to memory
    queue::JournalState past;
    const bool fresh = message->directory == "incoming" && message->envelope().arrival_usec >= started_usec_;
    const std::vector<queue::Recipient>& recipients = message->envelope().recipients;
    if (!records.empty() || std::any_of(recipients.begin(), recipients.end(), [](const auto& one) { return one.expanded; })) {
        past = queue::replay(records, recipients);
    }
    if (message->directory == "incoming" && !fresh) {   // from before a crash: what reached the disk?
        const Result<void> whole = message->content.verify_content(message->file.get());
        if (!whole) {
            return whole.error();
        }
    }
    if (message->directory == "incoming") {   // a crash of cleanup may have left it (maildrop.h); that of a torn file is still needed
        const Result<void> durable = queue::remove_maildrop_source(message->envelope(), message->file.get());
        if (!durable) {
            return durable.error();
        }
    }
    message->resume(past);
    return message;
}

void Manager::set_aside(const std::string& id, const std::string& directory, const std::string& why) {
    log_warning("{}: saving corrupt file: {}", id, why);
    if (transit_ != nullptr && transit_->contains(id)) {
        const Result<void> kept = transit_->keep_idle(id, "corrupt");
        if (!kept) {
            log_warning("{}: {}", id, kept.error().what);
        }
        return;
    }
    const std::string from = queue::queue_path(directory, id), to = queue::queue_path("corrupt", id);
    if (::rename(from.c_str(), to.c_str()) != 0) {
        log_warning("{}: rename {} to {}{}", id, from, to, errno_error("").what);
    }
}

/// load() has failed.
void Manager::cannot_load(const std::string& id, const std::string& directory, const Error& error) {
    if (error.code == Errc::corrupt) {
        set_aside(id, directory, error.what);
    } else if (error.code == Errc::temporary) {
        if (transit_ == nullptr || !transit_->contains(id)) {   // there it is so for a moment whenever we take over
            log_info("{}: skipped, still being delivered", id);
        }
        (directory == "incoming" ? incoming_ : deferred_).put(id, clock_() / kSecond + 1);
    } else if (error.code == Errc::not_found) {
        look_elsewhere(id);
    } else {
        log_warning("{}: {}", id, error.what);
        (directory == "incoming" ? incoming_ : deferred_).put(id, clock_() / kSecond + config_.minimal_backoff_time().count());
    }
}

void Manager::activate(const std::string& id, const std::string& directory, UniqueFd file) {
    if (by_id_.count(id) != 0) {
        return;
    }
    Result<std::unique_ptr<Message>> loaded = load(id, directory, std::move(file));
    if (!loaded) {
        return cannot_load(id, directory, loaded.error());
    }
    if (directory != "incoming" && !move_to_active(**loaded)) {
        if (errno != ENOENT) {   // ENOENT: postsuper was quicker
            deferred_.put(id, clock_() / kSecond + config_.minimal_backoff_time().count());
        }
        return;
    }
    deferred_.remove(id);
    const MessageKey key = ++last_key_;
    Message& message = *active_.emplace(key, std::move(*loaded)).first->second;
    message.key = key;
    message.active_usec = clock_();
    message.place = take_place(id);
    if (directory == "incoming") {
        young_.push_back(key);
        if (young_.size() == 1) {
            changed_.notify_all();
        }
    }
    message.old = directory != "incoming";
    active_old_ += message.old ? 1 : 0;
    by_id_.emplace(id, key);
    active_probes_ += message.is_probe() ? 1 : 0;
    loaded_recipients_ += message.fates.size();
    log_active(message);
    message.open.reserve(message.pending);
    for (std::uint32_t i = 0; i < message.fates.size(); ++i) {
        if (message.fates[i] == Fate::pending) {
            message.open.push_back(i);
        }
    }
    route_more(message);
}

/// False, with errno, when that failed.
bool Manager::move_to_active(Message& message) {
    const std::string from = message.path(), to = queue::queue_path("active", message.id);
    if (::rename(from.c_str(), to.c_str()) != 0) {
        const int why = errno;
        if (why != ENOENT) {
            log_warning("{}: rename {} to {}{}", message.id, from, to, errno_error("", why).what);
        }
        errno = why;
        return false;
    }
    message.directory = "active";
    return true;
}

void Manager::log_active(const Message& message) const {
    log_info("{}: from=<{}>, size={}, nrcpt={} (queue active)", message.id, logged_address(config_, message.envelope().sender),
             message.content.size_bytes(), message.pending);
}

// --- delivering -------------------------------------------------------------------------------------------

/// Gives out what may be given out.  Agents and suspended recipients may make more work meanwhile: the loop sees it.
void Manager::pump() {
    if (pumping_ || draining_) {
        return;
    }
    pumping_ = true;
    std::size_t left = kTurn;   // a dead destination may hand back ten thousand messages, each a journal to write
    for (bool more = true; more;) {
        more = false;
        while (std::optional<Batch> batch = scheduler_.next(clock_())) {
            dispatch(std::move(*batch));
            more = true;
        }
        for (Suspended& suspended : scheduler_.take_suspended(left)) {
            defer_suspended(suspended);
            more = true;
            --left;
        }
    }
    pumping_ = false;
    if (scheduler_.has_suspended()) {
        changed_.notify_all();
    }
    if (const std::optional<Usec> event = scheduler_.next_event(); event && *event < next_tick_usec_) {
        changed_.notify_all();   // tick() has promised to come later than that
    }
}

void Manager::dispatch(Batch batch) {
    const auto found = active_.find(batch.message);
    if (found == active_.end()) {
        scheduler_.abandoned(batch.id, clock_());
        return;
    }
    Message& message = *found->second;
    queue::Deliver deliver = request(message, batch);
    if (!deliver.message) {
        log_warning("{}: {}", message.id, errno_error("copy descriptor").what);
        for (const std::uint32_t index : batch.recipients) {
            settle(message, index, queue::kDeferred, "4.3.0", "queue file cannot be opened");
        }
        scheduler_.abandoned(batch.id, clock_());
        look_finished(message);
        return;
    }
    ++message.batches;
    flights_.emplace(batch.id, Flight{message.key, batch.recipients});
    agents_.deliver(batch.id, std::move(deliver));
}

queue::Deliver Manager::request(Message& message, const Batch& batch) {
    const queue::Envelope& envelope = message.envelope();
    queue::Deliver deliver;
    deliver.queue_id = message.id;
    // Our own stays open, so that the lock lasts until the message is disposed of.
    deliver.message = UniqueFd(::fcntl(message.file.get(), F_DUPFD_CLOEXEC, 3));
    deliver.headers = message.content.headers();
    deliver.body = message.content.body();
    deliver.transport = batch.transport;
    deliver.nexthop = batch.nexthop;
    const queue::Recipient& first = envelope.recipients[batch.recipients.front()];
    deliver.sender = message.is_verp() ? verp_sender(envelope.sender, first.original.empty() ? first.address : first.original, envelope.verp_delimiters)
                                       : envelope.sender;
    for (const std::uint32_t index : batch.recipients) {
        deliver.recipients.push_back({envelope.recipients[index], index});
    }
    deliver.arrival_usec = envelope.arrival_usec;
    deliver.active_usec = message.active_usec;
    deliver.handed_usec = clock_();
    deliver.dsn_envid = envelope.dsn_envid;
    deliver.dsn_ret = envelope.dsn_ret;
    deliver.encoding = envelope.encoding;
    deliver.smtputf8 = envelope.smtputf8;
    deliver.requiretls = envelope.requiretls;
    deliver.trace = envelope.trace;
    deliver.verify_only = envelope.verify_only;
    deliver.rewrite_local = envelope.rewrite_local;
    deliver.origin = envelope.origin;
    deliver.client = envelope.client;
    return deliver;
}

/// Recipients whose destination is known to be dead wait without being tried.
void Manager::defer_suspended(Suspended& suspended) {
    const auto found = active_.find(suspended.message);
    if (found == active_.end()) {
        return;
    }
    Message& message = *found->second;
    const std::string reason =
        suspended.transport_dead ? suspended.reason : "delivery temporarily suspended: " + suspended.reason;
    for (const std::uint32_t index : suspended.recipients) {
        settle(message, index, queue::kDeferred, suspended.dsn, reason);
    }
    look_finished(message);
}

void Manager::answered(std::uint64_t batch, std::vector<queue::RecipientDone> answers) {
    const auto found = flights_.find(batch);
    if (found == flights_.end()) {
        return;
    }
    Flight& flight = found->second;
    Message& message = *active_.at(flight.message);
    for (queue::RecipientDone& answer : answers) {
        // Only what this agent was asked about; it may not speak for others.
        const auto open = std::find(flight.open.begin(), flight.open.end(), answer.index);
        if (open == flight.open.end()) {
            log_warning("{}: an agent answered for recipient {}, which it does not have", message.id, answer.index);
            continue;
        }
        flight.open.erase(open);
        if (answer.outcome == queue::kBounced && config_.soft_bounce() && !message.envelope().verify_only) {   // a safety net while testing
            answer.outcome = queue::kDeferred;
            answer.dsn.replace(0, std::min<std::size_t>(1, answer.dsn.size()), "4");
        }
        message.record(std::move(answer));
    }
    const bool more_to_come = message.pending > 0 || !flight.open.empty();
    if (more_to_come) {
        (void)remember_delivered(message);
        recount(message);
    }
}

void Manager::ended(std::uint64_t batch, BatchEnd end) {
    const auto found = flights_.find(batch);
    if (found == flights_.end()) {
        return;
    }
    const Flight flight = std::move(found->second);
    flights_.erase(found);
    Message& message = *active_.at(flight.message);
    --message.batches;
    switch (end.kind) {
    case BatchEnd::Kind::complete:
        scheduler_.succeeded(batch, clock_());
        break;
    case BatchEnd::Kind::unreachable:
        scheduler_.failed(batch, end.dsn, end.reason, clock_());
        break;
    case BatchEnd::Kind::transport_dead:
        scheduler_.transport_failed(batch, end.dsn, end.reason, clock_());
        break;
    case BatchEnd::Kind::lost:
        scheduler_.abandoned(batch, clock_());
        ++message.lost_agents;
        break;
    }
    const bool again = end.kind == BatchEnd::Kind::lost && message.lost_agents <= 2 && !message.deleted;
    if (again && !flight.open.empty() && (message.is_in_transit() || message.directory == "active" || message.directory == "incoming")) {
        route(message, flight.open);
    } else {
        const std::string reason = end.kind == BatchEnd::Kind::complete || end.kind == BatchEnd::Kind::lost
                                       ? "unknown mail transport error"
                                       : end.reason;
        for (const std::uint32_t index : flight.open) {
            settle(message, index, queue::kDeferred, end.dsn.empty() ? "4.3.0" : end.dsn, reason);
        }
        look_finished(message);
    }
    pump();
}

std::int64_t Manager::tick() {
    move_the_older();
    fill_active();
    refill();
    pump();
    warn_of_clog();
    const std::int64_t now = clock_();
    std::int64_t next = now + 60 * kSecond;
    if (!deferred_.empty() && room_for_old()) {
        next = std::min(next, deferred_.first_due() * kSecond);
    }
    if (!incoming_.empty() && room()) {
        next = std::min(next, incoming_.first_due() * kSecond);
    }
    if (const std::optional<Usec> event = scheduler_.next_event()) {
        next = std::min(next, *event);
    }
    if (!young_.empty()) {
        next = std::min(next, std::max(now + kYoung, next_keep_usec_));
    }
    if (rescan_wanted_ && !scanning_ && next_rescan_usec_ <= now) {   // who scans gives notice at the end
        rescan_wanted_ = false;
        spawn(wanted_rescan());
    } else if (rescan_wanted_ && !scanning_) {
        next = std::min(next, next_rescan_usec_);
    }
    const bool soon = !draining_ && (more_is_due_ || !refill_.empty() || scheduler_.has_suspended());
    next_tick_usec_ = soon ? now + 1'000 : std::max(next, now + 10'000);
    return next_tick_usec_;
}

}  // namespace postern::qmgr
