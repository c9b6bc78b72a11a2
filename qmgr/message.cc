#include "qmgr/message.h"

#include <algorithm>

namespace postern::qmgr {
namespace {

queue::JournalRecord record_of(const queue::RecipientDone& done, std::uint8_t kind, std::int64_t now_usec) {
    queue::JournalRecord record;
    record.kind = kind;
    record.recipient = done.index;
    record.time_usec = now_usec;
    record.dsn = done.dsn;
    record.text = done.reason;
    record.relay = done.relay;
    record.action = done.action;
    record.remote_mta = done.remote_mta;
    record.diagnostic = done.diagnostic;
    return record;
}

queue::RecipientDone done_of(const queue::JournalRecord& record, std::uint32_t index, std::uint8_t outcome) {
    queue::RecipientDone done;
    done.index = index;
    done.outcome = outcome;
    done.dsn = record.dsn;
    done.reason = record.text;
    done.relay = record.relay;
    done.action = record.action;
    done.remote_mta = record.remote_mta;
    done.diagnostic = record.diagnostic;
    return done;
}

queue::JournalRecord mark(std::uint8_t kind, std::uint32_t index, std::int64_t now_usec) {
    queue::JournalRecord record;
    record.kind = kind;
    record.recipient = index;
    record.time_usec = now_usec;
    return record;
}

}  // namespace

bool Message::has(Fate fate) const { return std::find(fates.begin(), fates.end(), fate) != fates.end(); }

bool Message::wants_success(std::uint32_t index) const {
    const std::uint8_t notify = envelope().recipients[index].notify;
    const bool relieved = confirm_delay && delay_warned && (notify == 0 || (notify & queue::kNotifyDelay) != 0);
    return relieved || (notify & queue::kNotifySuccess) != 0;
}

queue::RecipientDone* Message::result_of(std::uint32_t index) {
    const auto found = std::find_if(results.begin(), results.end(), [&](const auto& result) { return result.index == index; });
    return found == results.end() ? nullptr : &*found;
}

void Message::resume(const queue::JournalState& state) {
    const std::vector<queue::Recipient>& recipients = envelope().recipients;
    fates.assign(recipients.size(), Fate::pending);
    pending = static_cast<std::uint32_t>(recipients.size());
    delay_warned = state.delay_warned;
    expire = state.expire;
    for (std::uint32_t i = 0; i < recipients.size() && i < state.recipients.size(); ++i) {
        const queue::RecipientState& past = state.recipients[i];
        trace_reported = trace_reported || past.success_reported;
        if (past.kind == queue::kJournalDelivered) {
            fates[i] = Fate::delivered;
            if (!past.success_reported && wants_success(i)) {
                results.push_back(done_of(past.last, i, queue::kDelivered));
            }
        } else if (past.kind == queue::kJournalBounced) {
            fates[i] = past.reported ? Fate::reported : Fate::bounced;
            if (!past.reported) {
                results.push_back(done_of(past.last, i, queue::kBounced));
                results.back().notice_sender = past.notice_sender;
            }
        } else {
            continue;
        }
        --pending;
    }
}

bool Message::record(queue::RecipientDone done) {
    if (done.index >= fates.size() || fates[done.index] != Fate::pending) {
        return false;
    }
    const std::uint32_t index = done.index;
    --pending;
    switch (done.outcome) {
    case queue::kDelivered:
        fates[index] = Fate::delivered;
        unjournaled.push_back(index);
        if (is_traced() || wants_success(index)) {
            results.push_back(std::move(done));
        }
        return true;
    case queue::kBounced:
        fates[index] = Fate::bounced;
        break;
    default:
        fates[index] = Fate::deferred;
        done.outcome = queue::kDeferred;
    }
    results.push_back(std::move(done));
    return true;
}

std::vector<queue::JournalRecord> Message::delivered_records(std::int64_t now_usec) {
    std::vector<queue::JournalRecord> records;
    records.reserve(unjournaled.size());
    for (const std::uint32_t index : unjournaled) {
        const bool told = wants_success(index);
        const queue::RecipientDone* known = told ? result_of(index) : nullptr;
        records.push_back(known != nullptr ? record_of(*known, queue::kJournalDelivered, now_usec)
                                           : mark(queue::kJournalDelivered, index, now_usec));
    }
    unjournaled.clear();
    return records;
}

std::vector<queue::JournalRecord> Message::journal_records(std::int64_t now_usec, std::size_t first, std::size_t count) const {
    std::vector<queue::JournalRecord> records;
    const std::size_t end = first + std::min(count, results.size() - std::min(first, results.size()));
    for (std::size_t i = first; i < end; ++i) {
        const queue::RecipientDone& done = results[i];
        const Fate fate = fates[done.index];
        if (fate == Fate::deferred) {
            records.push_back(record_of(done, queue::kJournalDeferred, now_usec));
        } else if (fate == Fate::bounced || fate == Fate::reported) {
            if (!done.notice_sender.empty()) {   // before the failure: half written, the two must not send it to the sender
                records.push_back(mark(queue::kJournalNoticeSender, done.index, now_usec));
                records.back().text = done.notice_sender;
            }
            records.push_back(record_of(done, queue::kJournalBounced, now_usec));
            if (fate == Fate::reported) {
                records.push_back(mark(queue::kJournalReported, done.index, now_usec));
            }
        }
    }
    return records;
}

}  // namespace postern::qmgr
