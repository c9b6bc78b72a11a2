// Messages in transit (lib/queue/transit.h): when they leave it, and how they are found there.
#include "lib/async/offload.h"
#include "lib/log/log.h"
#include "qmgr/manager.h"

namespace postern::qmgr {

/// Out of transit, to a directory of the queue.  Errors: not_found (postsuper was quicker), and what has been logged.
Result<void> Manager::keep(Message& message, const std::string& directory) {
    Result<UniqueFd> kept = transit_->keep(message.id, message.file.get(), directory, message.batches > 0);
    if (!kept) {
        if (kept.error().code != Errc::not_found) {
            log_warning("{}: {}", message.id, kept.error().what);
        }
        return kept.error();
    }
    message.held = message.batches > 0;
    message.file = std::move(*kept);
    message.journal.reset();
    message.directory = directory;
    return {};
}

/// To incoming/, if it is there and nobody's.  False when that failed.
bool Manager::keep_idle(const std::string& id) {
    const Result<void> kept = transit_->keep_idle(id, "incoming");
    if (kept || kept.error().code == Errc::not_found || kept.error().code == Errc::temporary) {
        return true;
    }
    log_warning("{}: {}", id, kept.error().what);
    return false;
}

/// What there is no room for does not stay in transit.
void Manager::keep_waiting(const std::string& id) {
    if (transit_ == nullptr || !incoming_.contains(id) || next_keep_usec_ > clock_()) {
        return;
    }
    if (!keep_idle(id)) {
        next_keep_usec_ = clock_() + kKeepPause;
    }
}

/// New mail is mostly delivered at once, and does not need a place among what takes longer: a message moves to active/
/// when it has been here for kYoung.  While we drain only what is in transit: our successor reads the directories.
void Manager::move_the_older() {
    const std::int64_t born = clock_() - kYoung;
    while (!young_.empty() && next_keep_usec_ <= clock_()) {
        const auto found = active_.find(young_.front());
        if (found != active_.end() && found->second->active_usec > born) {
            break;
        }
        if (found != active_.end() && found->second->is_in_transit()) {
            const Result<void> kept = keep(*found->second, "active");
            if (!kept && kept.error().code != Errc::not_found) {   // the others first, when it is tried again
                next_keep_usec_ = clock_() + kKeepPause;
                young_.push_back(young_.front());
                young_.pop_front();
                break;
            }
        } else if (found != active_.end() && found->second->directory == "incoming" && !draining_) {
            move_to_active(*found->second);
        }
        young_.pop_front();
    }
}

/// What killed processes have left half-done is put right; then messages that we do not have are taken up, or kept.
Task<> Manager::scan_transit() {
    if (transit_ == nullptr) {
        co_return;
    }
    for (bool resumed = false; !resumed && !draining_;) {
        auto resume = [this] { return transit_->resume(); };
        resumed = co_await offload(std::move(resume));
        if (!resumed) {
            co_await sleep_for(Millis(10));
        }
    }
    auto read = [this] { return transit_->ids(); };
    const std::vector<std::string> ids = co_await offload(std::move(read));
    std::size_t seen = 0;
    for (const std::string& id : ids) {
        if (by_id_.count(id) == 0 && !draining_) {
            // A notice that is on its way says where the copy is: without that it would still count when the message is delivered.
            const bool wait = logs_ && places_.count(id) == 0 && !incoming_.contains(id);
            incoming_.put(id, clock_() / kSecond + (wait ? 1 : 0));
            fill_active();
            if (!wait || !room()) {
                keep_waiting(id);
            }
            changed_.notify_all();
        }
        if (++seen % kTurn == 0) {
            co_await yield_to_others();
        }
    }
}

}  // namespace postern::qmgr
