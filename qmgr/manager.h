/// The queue manager itself: takes messages from incoming and deferred, gives them to delivery agents, and sees to it
/// that each comes to an end: delivered, returned, or put back to wait.
///
/// What survives a crash at any moment: a message leaves the queue (unlink) only when each recipient is
/// delivered or its failure is reported.  While others of the same message are still open, each delivery is
/// written to the journal as its answer comes; what the journal names is never tried again.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/queue/log_marks.h"
#include "lib/queue/log_recovery.h"
#include "lib/queue/messages.h"
#include "lib/queue/transit.h"
#include "lib/route/router.h"
#include "qmgr/message.h"
#include "qmgr/partners.h"
#include "qmgr/scheduler.h"
#include "qmgr/waiting.h"

namespace postern::qmgr {

struct SharedDirectory;

class Manager final : public AgentEvents {
public:
    /// The current directory is the queue directory.  Everything named outlives the manager.
    Manager(const Config& config, Router& router, Agents& agents, Notifier& notifier, Clock clock);
    ~Manager() override;
    /// Probes of verify(8) go where `router` says, and `listener` hears of them.  Without this they are removed unheard.
    void set_probes(Router& router, ProbeListener& listener) {
        probe_router_ = &router;
        probe_listener_ = &listener;
    }

    /// Commit logs are looked after as `options` say.  Without this they are left alone.
    void set_logs(queue::LogOptions options) { logs_ = std::move(options); }

    /// Where messages may be, beside the queue's directories.  `transit` outlives the manager.
    void set_transit(const queue::Transit& transit) { transit_ = &transit; }

    /// After start: what a power failure took is put back from commit logs, what was active goes back to be tried (a crash, or an
    /// orderly end), then incoming and deferred are read, off the loop.  What an earlier queue manager, or an agent, still holds locked
    /// is left to it, and looked at again every second.
    Task<> start();
    /// The process ends: what is in transit goes to active/, if we have it, or to incoming/, if nobody has, and logs of processes that
    /// have ended are settled.  Blocks.
    void end();
    /// Starts nothing more; what agents have, or is being reported, comes to its end.  The rest is let go, so that the successor can
    /// take it up at once.
    void drain();
    /// Nothing is in flight and no report is being made.
    bool quiet() const { return flights_.empty() && concluding_ == 0; }

    /// cleanup has queued a message.  `file` and `place` may be none.
    void new_message(const std::string& queue_id, UniqueFd file, queue::LogPlace place = {});
    /// Looks for files nobody told us about: at once, unless that was done a moment ago.
    void want_rescan() { rescan_wanted_ = true; changed_.notify_all(); }
    Task<> rescan(bool incoming, bool deferred);

    /// postqueue -f: everything that waits is tried now, dead destinations too.
    void flush_all();
    /// postqueue -i.  Errors: not_found.
    Result<void> flush_one(const std::string& queue_id);
    /// postqueue -s: what has a recipient in this domain.
    Task<> flush_site(std::string domain);
    /// postsuper has moved or removed files.
    void altered(std::uint8_t change, const std::vector<std::string>& queue_ids);

    /// For postern queue: up to `limit` destinations after `after`.
    queue::QueueStatus status(const std::string& after, std::uint32_t limit) const;

    /// Does what is due.  Yields when to come again at the latest.
    std::int64_t tick();
    /// Given when tick() should be called earlier.
    Notice& changed() { return changed_; }

    void answered(std::uint64_t batch, std::vector<queue::RecipientDone> answers) override;
    void ended(std::uint64_t batch, BatchEnd end) override;

    std::size_t active() const { return active_.size(); }
    std::size_t waiting() const { return deferred_.size() + incoming_.size(); }
    std::size_t memory_of_waiting() const { return deferred_.memory_bytes() + incoming_.memory_bytes(); }

private:
    struct Flight {
        MessageKey message = 0;
        std::vector<std::uint32_t> open;    ///< recipients without an answer
    };
    static constexpr std::int64_t kSecond = 1'000'000;
    static constexpr std::int64_t kSyncTime = 5;   ///< seconds in which cleanup has synced what it has written
    static constexpr std::int64_t kYoung = kSecond / 2;
    static constexpr std::int64_t kKeepPause = 10 * kSecond;   ///< after the disk was full
    static constexpr std::size_t kMaxBatch = 1000;
    /// Messages taken up, and recipients routed, before other work has a turn: some ten milliseconds.
    static constexpr std::size_t kTurn = 128;
    static constexpr std::size_t kRecipientTurn = 1000;
    /// Messages with more recipients than this many times qmgr_message_recipient_limit in all are not open together.
    static constexpr std::size_t kLoadedFactor = 50;
    /// Messages that may wait for tables that are servers; more are not taken up.
    static constexpr std::size_t kMaxRouting = 64;

    static TransportLimits limits_of(const void* self, std::string_view transport);

    // Taking messages up (manager.cc, manager_limits.cc)
    void fill_active();
    bool room() const;
    bool room_for_old() const;
    void warn_of_clog();
    void activate(const std::string& id, const std::string& directory, UniqueFd file);
    Result<std::unique_ptr<Message>> load(const std::string& id, const std::string& directory, UniqueFd file);
    void cannot_load(const std::string& id, const std::string& directory, const Error& error);
    void set_aside(const std::string& id, const std::string& directory, const std::string& why);
    void log_active(const Message& message) const;
    bool move_to_active(Message& message);
    std::size_t allowance(const Message& message) const;
    std::size_t route_more(Message& message);
    void refill();
    void recount(Message& message);

    // In transit (manager_transit.cc)
    Result<void> keep(Message& message, const std::string& directory);
    bool keep_idle(const std::string& id);
    void keep_waiting(const std::string& id);
    void move_the_older();
    Task<> scan_transit();

    // Choosing transports (manager_route.cc)
    struct Target;
    void route(Message& message, std::vector<std::uint32_t> indices);
    void find_routes(Message& message, const std::vector<std::uint32_t>& indices);
    std::string destination_key(const Target& target) const;
    bool choose_filter(const Message& message, Target& target) const;
    bool choose(Message& message, std::uint32_t index, Target& target);
    void settle(Message& message, std::uint32_t index, std::uint8_t outcome, std::string dsn, std::string reason);

    // Delivering (manager.cc)
    void pump();
    void dispatch(Batch batch);
    void defer_suspended(Suspended& suspended);
    queue::Deliver request(Message& message, const Batch& batch);

    // Coming to an end (manager_end.cc)
    void look_finished(Message& message);
    Task<> conclude(Message& message);
    std::string notice_sender(const Message& message, const queue::RecipientDone& done) const;
    Task<> report_failures(Message& message);
    Task<> send_failures(Message& message, Report report, const std::vector<std::uint32_t>& told);
    Task<> report_successes(Message& message);
    Task<> report_delay(Message& message);
    void report_probe(const Message& message);
    Report report_for(Message& message, std::uint8_t kind);
    bool expired(const Message& message) const;
    void let_go(Message& message);
    bool put_away(Message& message);
    void dispose(Message& message);
    void remove(Message& message);
    bool defer(Message& message);
    std::int64_t backoff(std::int64_t age_seconds) const;
    bool remember_delivered(Message& message);
    UniqueFd open_journal(const Message& message, const std::string& directory) const;
    bool append(Message& message, const std::vector<queue::JournalRecord>& records);
    bool journal_results(Message& message);
    Message* find(const std::string& id);

    // Reading directories (manager_scan.cc)
    Task<std::size_t> recover_active();
    bool recover(const std::string& id);
    Task<> recover_rest();
    void look_elsewhere(const std::string& id);
    Task<> scan(std::string directory);
    Task<> read_directory(std::string directory, SharedDirectory& shared);
    bool found(const std::string& directory, const std::string& id, std::int64_t modified, std::int64_t changed);
    Task<> sync_young(SharedDirectory& shared);
    Task<> wanted_rescan();
    Task<std::size_t> replay_logs();
    Task<> read_places();
    Task<> look_after_logs();
    void remember_place(const std::string& id, queue::LogPlace place);
    queue::LogPlace take_place(const std::string& id);
    Task<> flush_matching(std::vector<std::string> ids, std::string domain);

    const Config& config_;
    Router& router_;
    Agents& agents_;
    Notifier& notifier_;
    Router* probe_router_ = nullptr;
    ProbeListener* probe_listener_ = nullptr;
    Clock clock_;
    Scheduler scheduler_;
    WaitingSet incoming_;       ///< what there was no room for
    WaitingSet deferred_;
    std::unordered_map<MessageKey, std::unique_ptr<Message>> active_;
    std::unordered_map<std::string, MessageKey> by_id_;
    std::unordered_map<std::uint64_t, Flight> flights_;
    std::deque<MessageKey> young_;      ///< active messages whose file may still be in transit or incoming/, oldest first
    std::vector<std::string> defer_transports_;
    const queue::Transit* transit_ = nullptr;
    std::int64_t next_keep_usec_ = 0;   ///< not before
    std::optional<queue::LogOptions> logs_;
    queue::LogMarks marks_{"."};
    struct Remembered {
        queue::LogPlace place;
        std::int64_t since_usec = 0;
    };
    std::unordered_map<std::string, Remembered> places_;   ///< of messages that are not active, for a moment: logs are soon settled
    Notice changed_;
    MessageKey last_key_ = 0;
    std::size_t active_limit_ = 20000;
    std::size_t active_probes_ = 0;
    std::size_t active_recipients_ = 0;    ///< that the scheduler or an agent has
    std::size_t loaded_recipients_ = 0;    ///< of all active messages
    std::size_t routing_ = 0;              ///< pieces of messages whose routes are being looked up
    std::deque<MessageKey> refill_;        ///< active messages that have recipients the scheduler does not know yet
    bool more_is_due_ = false;
    std::size_t active_old_ = 0;           ///< active messages that were deferred before
    std::int64_t last_clog_usec_ = 0;
    std::int64_t started_usec_ = 0;
    std::int64_t next_tick_usec_ = 0;
    std::int64_t next_rescan_usec_ = 0;    ///< not before
    bool rescan_wanted_ = false;
    bool take_deferred_next_ = false;
    bool pumping_ = false;
    std::size_t concluding_ = 0;    ///< messages whose reports are being made
    std::set<std::string> flushing_;    ///< sites whose deferred mail is being looked for
    bool scanning_ = false;
    bool recovering_ = false;
    bool draining_ = false;
};

}  // namespace postern::qmgr
