// How a delivery attempt ends: reports to the sender, then the file is removed or put back to wait.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/async/offload.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/mail/logged_address.h"
#include "lib/mail/verp.h"
#include "lib/queue/queue_id.h"
#include "qmgr/manager.h"

namespace postern::qmgr {
namespace {

ReportRecipient report_line(const Message& message, const queue::RecipientDone& done, std::string_view action, std::int64_t now) {
    ReportRecipient line;
    line.recipient = message.envelope().recipients[done.index];
    line.dsn = done.dsn;
    line.reason = done.reason;
    const bool ours = done.action.empty() || action == "failed" || action == "delayed" || (message.envelope().verify_only && done.action != "expanded");
    line.action = ours ? std::string(action) : done.action == "none" ? "relayed" : done.action;
    line.remote_mta = done.remote_mta;
    line.diagnostic = done.diagnostic;
    line.time_usec = now;
    return line;
}

/// What the sender asked for is not the list owner's wish (RFC 3461 section 5.2.7.3).
void forget_requests(Report& report, ReportRecipient& line) {
    report.dsn_envid.clear();
    report.dsn_ret = queue::kRetNone;
    line.recipient.notify = 0;
    line.recipient.dsn_orcpt.clear();
    line.recipient.original.clear();
}

/// Makes journal entries about finished deliveries survive a power failure too; nobody waits for it.
Task<> sync_later(UniqueFd file) {
    auto sync = [fd = file.get()] { return ::fdatasync(fd); };
    co_await offload(std::move(sync));
}

std::string_view trace_action(const Message& message, const queue::RecipientDone& done) {
    const bool verify = message.envelope().verify_only;
    if (done.outcome == queue::kDelivered) {
        return verify ? "deliverable" : "delivered";
    }
    return verify ? "undeliverable" : done.outcome == queue::kBounced ? "failed" : "delayed";
}

}  // namespace

/// Called whenever something about the message was decided.
void Manager::look_finished(Message& message) {
    const bool busy = message.concluding || message.batches > 0 || message.routing > 0;
    const bool unfinished = message.pending > 0 && !message.deleted && !message.stopped;
    if (!busy && unfinished && draining_) {
        return let_go(message);
    }
    if (busy || unfinished) {
        recount(message);
        return;
    }
    message.concluding = true;
    scheduler_.cancel(message.key);
    if (message.deleted || (message.results.empty() && message.pending == 0 && !message.is_traced())) {
        (void)put_away(message);
        dispose(message);   // the ordinary end: everybody has it and nobody asked to be told
        return;
    }
    ++concluding_;
    spawn(conclude(message));
}

bool Manager::expired(const Message& message) const {
    const Seconds lifetime = message.envelope().sender.empty() ? config_.bounce_queue_lifetime() : config_.maximal_queue_lifetime();
    return message.expire || clock_() >= message.envelope().arrival_usec + lifetime.count() * kSecond;
}

/// `message` lives until dispose().  What is delivered is journaled first, because reports take time.
Task<> Manager::conclude(Message& message) {
    (void)remember_delivered(message);
    if (message.has(Fate::deferred) && expired(message)) {
        log_info("{}: from=<{}>, status={}, returned to sender", message.id, logged_address(config_, message.envelope().sender),
                 message.expire ? "force-expired" : "expired");
        std::replace(message.fates.begin(), message.fates.end(), Fate::deferred, Fate::bounced);
    }
    if (message.is_probe()) {
        report_probe(message);
    } else {
        if (!message.envelope().verify_only) {
            co_await report_failures(message);
        }
        co_await report_successes(message);
        co_await report_delay(message);
    }
    // What cannot be written down, because the disk is full or broken, stays here until it can: otherwise recipients who have
    // the message would get it again.
    for (Millis pause(1000); !put_away(message); pause = std::chrono::seconds(10)) {
        co_await sleep_for(pause);
    }
    dispose(message);
    --concluding_;
    changed_.notify_all();
}

/// The address that was asked about is the original one; what it leads to is known now as well.
void Manager::report_probe(const Message& message) {
    if (probe_listener_ == nullptr || message.deleted) {
        return;
    }
    for (const queue::RecipientDone& done : message.results) {
        const queue::Recipient& recipient = message.envelope().recipients[done.index];
        verify::VerifyUpdate update;
        update.status = done.outcome == queue::kDelivered ? verify::kDeliverable
                        : done.outcome == queue::kBounced ? verify::kUndeliverable
                                                          : verify::kDeferred;
        update.text = done.reason;
        for (const std::string& address : {recipient.original, recipient.address}) {
            if (!address.empty() && address != update.address) {
                update.address = address;
                probe_listener_->probed(update);
            }
        }
    }
}

Report Manager::report_for(Message& message, std::uint8_t kind) {
    const queue::Envelope& envelope = message.envelope();
    Report report;
    report.kind = kind;
    report.queue_id = message.id;
    report.headers = message.content.headers();
    report.body = message.content.body();
    report.sender = envelope.sender;
    report.dsn_envid = envelope.dsn_envid;
    report.dsn_ret = envelope.dsn_ret;
    report.encoding = envelope.encoding;
    report.smtputf8 = envelope.smtputf8;
    report.requiretls = envelope.requiretls;
    report.arrival_usec = envelope.arrival_usec;
    return report;
}

/// Who hears of this failure alone: the owner of the list that failed; with VERP, the sender that the recipient was given.
/// Empty: the sender, of all others together.
std::string Manager::notice_sender(const Message& message, const queue::RecipientDone& done) const {
    if (!done.notice_sender.empty() || !message.is_verp() || config_.disable_verp_bounces()) {
        return done.notice_sender;
    }
    const queue::Recipient& recipient = message.envelope().recipients[done.index];
    return verp_sender(message.envelope().sender, recipient.original.empty() ? recipient.address : recipient.original,
                       message.envelope().verp_delimiters);
}

/// Who need not be told of what (NOTIFY without FAILURE), bounce knows.
Task<> Manager::report_failures(Message& message) {
    Report report = report_for(message, kReportFailure);
    std::vector<std::uint32_t> told;
    for (std::size_t i = 0; i < message.results.size(); ++i) {
        const queue::RecipientDone& done = message.results[i];
        if (message.fates[done.index] != Fate::bounced) {
            continue;
        }
        ReportRecipient line = report_line(message, done, "failed", clock_());
        const std::string sender = notice_sender(message, done);
        if (sender.empty()) {
            report.recipients.push_back(std::move(line));
            told.push_back(done.index);
            continue;
        }
        Report single = report_for(message, kReportFailure);
        if (done.notice_sender.empty()) {
            single.sender = sender;
        } else {
            single.list_owner = sender;
            forget_requests(single, line);
        }
        single.recipients.push_back(std::move(line));
        const std::vector<std::uint32_t> one{done.index};
        co_await send_failures(message, std::move(single), one);
    }
    if (!told.empty()) {
        co_await send_failures(message, std::move(report), told);
    }
}

Task<> Manager::send_failures(Message& message, Report report, const std::vector<std::uint32_t>& told) {
    report.message = UniqueFd(::fcntl(message.file.get(), F_DUPFD_CLOEXEC, 3));
    const Result<void> reported = co_await notifier_.report(std::move(report));
    if (!reported) {
        log_warning("{}: bounce service: {}", message.id, reported.error().what);
        co_return;
    }
    for (const std::uint32_t index : told) {
        message.fates[index] = Fate::reported;
    }
}

/// NOTIFY=SUCCESS (RFC 3461 section 4.1), and what sendmail -v and -bv asked for.  Not tried a second time.
Task<> Manager::report_successes(Message& message) {
    const bool traced = message.is_traced();
    Report report = report_for(message, traced ? kReportTrace : kReportSuccess);
    std::vector<queue::JournalRecord> records;
    for (const queue::RecipientDone& done : message.results) {
        // "none": the next host reports what was asked for, but knows nothing of our warnings.
        const bool passed_on = done.action == "none" && (message.envelope().recipients[done.index].notify & queue::kNotifySuccess) != 0;
        const bool success = message.fates[done.index] == Fate::delivered && !passed_on && message.wants_success(done.index);
        if (traced || success) {
            ReportRecipient line = report_line(message, done, trace_action(message, done), clock_());
            if (!done.relay.empty() && done.relay != "none") {
                line.reason = "delivery via " + done.relay + ": " + done.reason;
            }
            report.recipients.push_back(std::move(line));
            queue::JournalRecord record;
            record.kind = queue::kJournalSuccessReported;
            record.recipient = done.index;
            record.time_usec = clock_();
            records.push_back(record);
        }
    }
    if (report.recipients.empty()) {
        co_return;
    }
    report.message = UniqueFd(::fcntl(message.file.get(), F_DUPFD_CLOEXEC, 3));
    const Result<void> reported = co_await notifier_.report(std::move(report));
    if (!reported) {
        log_warning("{}: trace service: {}", message.id, reported.error().what);
        co_return;
    }
    if (message.has(Fate::deferred) && !message.envelope().verify_only) {
        append(message, records);
    }
}

/// delay_warning_time: once for each message.
Task<> Manager::report_delay(Message& message) {
    const Seconds patience = config_.delay_warning_time();
    const std::int64_t warn_usec = message.envelope().arrival_usec + patience.count() * kSecond;
    if (patience.count() == 0 || message.delay_warned || clock_() < warn_usec || !message.has(Fate::deferred)) {
        co_return;
    }
    Report report = report_for(message, kReportDelay);
    report.expires_usec = message.envelope().arrival_usec + config_.maximal_queue_lifetime().count() * kSecond;
    for (const queue::RecipientDone& done : message.results) {
        if (message.fates[done.index] == Fate::deferred) {
            report.recipients.push_back(report_line(message, done, "delayed", clock_()));
        }
    }
    if (report.recipients.empty()) {
        co_return;
    }
    report.message = UniqueFd(::fcntl(message.file.get(), F_DUPFD_CLOEXEC, 3));
    const Result<void> reported = co_await notifier_.report(std::move(report));
    if (!reported) {
        log_warning("{}: bounce service: {}", message.id, reported.error().what);
        co_return;
    }
    queue::JournalRecord record;
    record.kind = queue::kJournalDelayWarned;
    record.time_usec = clock_();
    append(message, {record});
}

UniqueFd Manager::open_journal(const Message& message, const std::string& directory) const {
    if (directory == "transit") {
        return transit_->open_file(message.id, O_RDWR | O_APPEND);
    }
    return UniqueFd(::open(queue::queue_path(directory, message.id).c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
}

/// True too when the file is gone: postsuper has taken it away.
bool Manager::append(Message& message, const std::vector<queue::JournalRecord>& records) {
    if (records.empty()) {
        return true;
    }
    for (const char* directory : {message.directory.c_str(), "hold", "maildrop"}) {   // postsuper -h or -r may have been quick
        if (!message.journal) {
            message.journal = open_journal(message, directory);
        }
    }
    if (!message.journal) {
        const bool gone = errno == ENOENT;
        if (!gone) {
            log_warning("{}: open {} for its journal{}", message.id, message.path(), errno_error("").what);
        }
        return gone;
    }
    const Result<void> written = queue::append_journal(message.journal.get(), records);
    if (!written && message.is_in_transit() && keep(message, "active")) {   // memory is full, the disk need not be
        return append(message, records);
    }
    if (!written) {
        log_warning("{}: journal: {}", message.id, written.error().what);
    }
    return written.ok();
}

/// False when they could not be written; they are not forgotten then.
bool Manager::remember_delivered(Message& message) {
    std::vector<std::uint32_t> indices = message.unjournaled;
    if (!append(message, message.delivered_records(clock_()))) {
        message.unjournaled = std::move(indices);
        return false;
    }
    message.must_sync = message.must_sync || !indices.empty();
    return true;
}

void Manager::drain() {
    draining_ = true;
    std::vector<MessageKey> keys;
    for (const auto& [key, message] : active_) {
        keys.push_back(key);
    }
    for (const MessageKey key : keys) {
        look_finished(*active_.at(key));
    }
}

/// Nobody has it and it is not finished: our successor finds it where it is.
void Manager::let_go(Message& message) {
    scheduler_.cancel(message.key);
    (void)remember_delivered(message);
    ::flock(message.file.get(), LOCK_UN);   // an agent may be slow to close its copy
    dispose(message);
}

/// The end of the attempt on disk.  False when that failed and must be tried again.
bool Manager::put_away(Message& message) {
    const bool verified = message.envelope().verify_only && message.pending == 0;
    const bool unfinished = message.pending > 0 || message.has(Fate::deferred) || message.has(Fate::bounced);
    if (message.deleted) {
        (void)remember_delivered(message);   // what postsuper -r put into maildrop/ waits for us there (lib/queue/maildrop.h)
        return true;
    }
    if (unfinished && !verified) {
        return defer(message);
    }
    remove(message);
    return true;
}

/// The end of the attempt in memory: nothing of `message` is left afterwards.
void Manager::dispose(Message& message) {
    active_probes_ -= message.is_probe() ? 1 : 0;
    active_recipients_ -= message.counted;
    loaded_recipients_ -= message.fates.size();
    active_old_ -= message.old ? 1 : 0;
    const MessageKey key = message.key;
    by_id_.erase(message.id);
    remember_place(message.id, std::move(message.place));   // none when it was removed
    if (message.held) {
        transit_->release(message.id);
    }
    active_.erase(key);
    if (!incoming_.empty() || (!deferred_.empty() && deferred_.first_due() <= clock_() / kSecond)) {
        changed_.notify_all();
    }
}

void Manager::remove(Message& message) {
    // First: should we end between the two, the file is still there.
    marks_.mark(message.place);
    message.place = {};
    if (message.is_in_transit() && config_.dont_remove() != 0) {
        (void)keep(message, "active");
    }
    if (message.is_in_transit() && (transit_->remove(message.id) || errno == ENOENT)) {
        log_info("{}: removed", message.id);
        return;
    }
    const std::string path = message.path(), held = queue::queue_path("hold", message.id);
    if (config_.dont_remove() != 0 && ::rename(path.c_str(), queue::queue_path("saved", message.id).c_str()) == 0) {
        log_info("{}: removed", message.id);
        return;
    }
    if (::unlink(path.c_str()) == 0 || (errno == ENOENT && (::unlink(held.c_str()) == 0 || errno == ENOENT))) {
        log_info("{}: removed", message.id);
        return;
    }
    // It must not be delivered again: what cannot be removed is at least remembered as done.
    log_warning("{}: remove {}{}", message.id, path, errno_error("").what);
    (void)remember_delivered(message);
}

/// As long again as the message has been here, within minimal_backoff_time and maximal_backoff_time; and never less than
/// queue_run_delay, since Postfix would not look sooner.
std::int64_t Manager::backoff(std::int64_t age_seconds) const {
    const std::int64_t least = std::max(config_.minimal_backoff_time(), config_.queue_run_delay()).count();
    return std::clamp<std::int64_t>(age_seconds, least, std::max<std::int64_t>(least, config_.maximal_backoff_time().count()));
}

/// Portion by portion, from where it was left.  False when something is missing that would be done again without it; why
/// a recipient waits is not.
bool Manager::journal_results(Message& message) {
    constexpr std::size_t kPortion = 1000;
    for (; message.noted < message.results.size(); message.noted += kPortion) {
        if (!append(message, message.journal_records(clock_(), message.noted, kPortion))) {
            return !message.has(Fate::bounced) && !message.has(Fate::reported);
        }
    }
    return true;
}

/// Writes down what happened and lets the message wait.  False when that failed.
bool Manager::defer(Message& message) {
    const std::int64_t now = clock_();
    if (message.is_in_transit()) {
        const Result<void> kept = keep(message, "active");
        if (!kept) {
            return kept.error().code == Errc::not_found;
        }
    }
    if (!remember_delivered(message) || !journal_results(message)) {
        return false;
    }
    const std::int64_t age = std::max<std::int64_t>(0, now - message.envelope().arrival_usec) / kSecond;
    const std::int64_t due = now / kSecond + backoff(age);
    if (message.directory == "hold") {
        return true;   // postsuper will tell when it is free
    }
    const timespec times[2] = {{due, 0}, {due, 0}};
    const std::string from = message.path(), to = queue::queue_path("deferred", message.id);
    const int set = message.journal ? ::futimens(message.journal.get(), times)
                                    : ::utimensat(AT_FDCWD, from.c_str(), times, AT_SYMLINK_NOFOLLOW);
    if (set != 0 && errno != ENOENT) {
        log_warning("{}: set time of queue file{}", message.id, errno_error("").what);
    }
    if (::rename(from.c_str(), to.c_str()) != 0) {
        const bool gone = errno == ENOENT;
        if (!gone) {
            log_warning("{}: rename {} to {}{}", message.id, from, to, errno_error("").what);
        }
        return gone;
    }
    ::flock(message.file.get(), LOCK_UN);   // an agent may be slow to close its copy
    deferred_.put(message.id, due);
    changed_.notify_all();
    if (message.must_sync) {
        UniqueFd copy(message.journal ? message.journal.release() : ::fcntl(message.file.get(), F_DUPFD_CLOEXEC, 3));
        spawn(sync_later(std::move(copy)));
    }
    return true;
}

}  // namespace postern::qmgr
