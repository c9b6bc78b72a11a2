// How much is taken up at a time: places among the active messages, recipients of big mailings, warnings when it is full.
#include <algorithm>

#include "lib/log/log.h"
#include "qmgr/manager.h"

namespace postern::qmgr {

// --- places ---------------------------------------------------------------------------------------------------

bool Manager::room() const {
    const auto recipients = static_cast<std::size_t>(config_.qmgr_message_recipient_limit());
    return active_.size() < active_limit_ && routing_ < kMaxRouting && (active_.empty() || loaded_recipients_ / kLoadedFactor < recipients);
}

/// A fifth of the places is for new mail: what was deferred is more likely to wait long for its destination.
bool Manager::room_for_old() const { return room() && active_old_ < active_limit_ - active_limit_ / 5; }

/// qmgr_clog_warn_time: says which destination fills the active queue, in Postfix's words.
void Manager::warn_of_clog() {
    const std::int64_t every = config_.qmgr_clog_warn_time().count() * kSecond;
    if (every == 0 || !config_.helpful_warnings() || room_for_old() || clock_() < last_clog_usec_ + every) {
        return;
    }
    last_clog_usec_ = clock_();
    const Scheduler::Longest longest = scheduler_.longest();
    if (longest.messages <= active_limit_ / 2) {
        return;
    }
    log_warning("mail for {} is using up {} of {} active queue entries", longest.nexthop, longest.messages, active_.size());
    log_warning("you may need to reduce {} connect and helo timeouts", longest.transport);
    log_warning("please avoid flushing the whole queue when you have");
    log_warning("lots of deferred mail, that is bad for performance");
    log_warning("to turn off these warnings specify: qmgr_clog_warn_time = 0");
}

// --- messages with many recipients ----------------------------------------------------------------------------
//
// The scheduler gets a big mailing in pieces, so that neither routing it nor remembering its recipients' destinations
// takes long or much: the next piece when most of the last is decided.

/// How many recipients of `message` the scheduler may have now.
std::size_t Manager::allowance(const Message& message) const {
    const auto limit = static_cast<std::size_t>(config_.qmgr_message_recipient_limit());
    const auto minimum = static_cast<std::size_t>(config_.qmgr_message_recipient_minimum());
    const std::size_t others = active_recipients_ - message.counted;
    return std::max(minimum, std::min(kRecipientTurn, limit > others ? limit - others : 0));
}

/// Gives the scheduler as many more as it may have.  `message` may be gone afterwards.
std::size_t Manager::route_more(Message& message) {
    const std::size_t have = message.scheduled(), may = allowance(message);
    std::size_t count = std::min(may > have ? may - have : 0, message.open.size() - message.routed);
    if (!message.envelope().redirect.empty()) {
        count = message.open.size() - message.routed;   // one delivery, whoever they were
    }
    const auto first = message.open.begin() + static_cast<std::ptrdiff_t>(message.routed);
    std::vector<std::uint32_t> piece(first, first + static_cast<std::ptrdiff_t>(count));
    message.routed += count;
    route(message, std::move(piece));
    return count;
}

/// Notes what the scheduler has of `message`, and whether it should soon have more: default_recipient_refill_limit.
void Manager::recount(Message& message) {
    const std::size_t have = message.scheduled();
    active_recipients_ = active_recipients_ - message.counted + have;
    message.counted = have;
    if (message.routed == message.open.size() || message.wants_refill || message.stopped || message.deleted) {
        return;
    }
    const auto worthwhile = static_cast<std::size_t>(config_.default_recipient_refill_limit());
    const std::size_t may = allowance(message);
    if (have == 0 || (may > have && may - have >= worthwhile)) {
        message.wants_refill = true;
        refill_.push_back(message.key);
        changed_.notify_all();
    }
}

/// One piece for each message that wants more, until it has been enough for once.
void Manager::refill() {
    std::size_t done = 0;
    for (std::size_t left = refill_.size(); left > 0 && done < kRecipientTurn && !draining_; --left) {
        const auto found = active_.find(refill_.front());
        refill_.pop_front();
        if (found == active_.end() || found->second->concluding) {
            continue;
        }
        Message& message = *found->second;
        message.wants_refill = false;
        done += route_more(message);
    }
}

}  // namespace postern::qmgr
