/// A message that is being delivered.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/queue/commit_log_format.h"
#include "lib/queue/deliver.h"
#include "lib/queue/journal.h"
#include "lib/queue/queue_file.h"
#include "qmgr/report.h"
#include "qmgr/scheduler.h"

namespace postern::qmgr {

/// Where one recipient stands in this attempt.
enum class Fate : std::uint8_t {
    pending,     ///< not yet tried, or being tried
    delivered,
    deferred,
    bounced,     ///< failed for good; the sender has not been told
    reported,    ///< failed for good; the sender was told, or did not want to be
};

struct Message {
    std::string id;
    std::string directory = "active";     ///< where its file is now: "transit", "incoming" or "active", or where postsuper moved it
    MessageKey key = 0;
    UniqueFd file;                        ///< for reading; its lock goes with the copies agents get
    UniqueFd journal;                     ///< for appending; opened when there is something to remember
    queue::QueueFile content;
    queue::LogPlace place;                ///< of its copy in a commit log, when cleanup told us
    std::vector<Fate> fates;              ///< one for each recipient of the envelope
    std::deque<queue::RecipientDone> results;   ///< what must be told to somebody or remembered, in any order
    std::vector<std::uint32_t> unjournaled;     ///< delivered, and only memory knows
    std::size_t noted = 0;                      ///< of `results`: the journal has them
    bool must_sync = false;                     ///< the journal has deliveries that the disk may not have yet
    std::vector<std::uint32_t> open;            ///< recipients this attempt is about
    std::size_t routed = 0;                     ///< of `open`: the scheduler has them, or had them
    std::size_t counted = 0;                    ///< what the manager's total of scheduled recipients has of this message
    bool wants_refill = false;                  ///< stands in the manager's queue of such messages
    std::int64_t active_usec = 0;
    std::uint32_t pending = 0;            ///< recipients with Fate::pending
    std::uint32_t batches = 0;            ///< in flight
    std::uint32_t routing = 0;            ///< pieces whose routes are being looked up
    std::uint32_t lost_agents = 0;        ///< how often an agent died on it in this attempt
    bool old = false;                     ///< was deferred before
    bool stopped = false;                 ///< postsuper: nothing more is given out in this attempt
    bool deleted = false;                 ///< postsuper removed or requeued its file
    bool held = false;                    ///< agents began with the file that was in transit: Transit::release() when they have ended
    bool delay_warned = false;
    bool trace_reported = false;          ///< what sendmail -v asked for has been told
    bool confirm_delay = false;           ///< confirm_delay_cleared: who was warned hears when it is over
    bool expire = false;                  ///< postsuper -e
    bool concluding = false;

    const queue::Envelope& envelope() const { return content.envelope(); }
    /// A probe of verify(8).
    bool is_probe() const { return envelope().verify_only && envelope().origin == queue::kOriginVerify; }
    /// Each recipient gets it from a sender address of its own.
    bool is_verp() const { return envelope().verp_delimiters.size() == 2 && !envelope().sender.empty(); }
    bool is_in_transit() const { return directory == "transit"; }
    std::string path() const { return directory + "/" + id; }
    bool has(Fate fate) const;
    /// Recipients that the scheduler or an agent has now.
    std::size_t scheduled() const { return pending - (open.size() - routed); }
    /// Somebody wants to hear that this recipient has it.
    bool wants_success(std::uint32_t index) const;
    /// The result for a recipient; null when there is none.
    queue::RecipientDone* result_of(std::uint32_t index);

    /// Takes over what earlier attempts left in the journal.
    void resume(const queue::JournalState& state);
    /// Sets a recipient's fate from an agent's answer.  False when the index is not pending (the agent lies).
    bool record(queue::RecipientDone done);
    /// A report about every recipient is due: sendmail -bv, and the first attempt of sendmail -v.
    bool is_traced() const { return envelope().verify_only || (envelope().trace && !trace_reported); }
    /// Records for what the journal does not know yet, of `count` results from `first` on: a mailing's all at once would
    /// take more memory than everything else about it.
    std::vector<queue::JournalRecord> journal_records(std::int64_t now_usec, std::size_t first, std::size_t count) const;
    /// Only for the delivered ones among them, which must never be tried again.
    std::vector<queue::JournalRecord> delivered_records(std::int64_t now_usec);
};

}  // namespace postern::qmgr
