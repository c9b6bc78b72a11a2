/// The journal at the end of a queue file: what happened to each recipient, in the order it happened.
///
/// Only qmgr appends while the system runs (postsuper does to files it has moved aside first).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/queue/envelope.h"

namespace postern::queue {

class FileIo;

inline constexpr std::uint8_t kJournalDelivered = 1;    ///< recipient done for good
inline constexpr std::uint8_t kJournalDeferred = 2;     ///< recipient not yet; text says why
inline constexpr std::uint8_t kJournalBounced = 3;      ///< recipient failed for good
inline constexpr std::uint8_t kJournalReported = 4;     ///< the bounce about this recipient is queued
inline constexpr std::uint8_t kJournalNextAttempt = 5;  ///< message: value_usec is when it is due
inline constexpr std::uint8_t kJournalDelayWarned = 6;  ///< message: the delay notice is queued
inline constexpr std::uint8_t kJournalExpire = 7;       ///< message: postsuper -e (value_usec 0) or -f (1)
inline constexpr std::uint8_t kJournalSuccessReported = 8;  ///< recipient: the success/relay notice is queued
/// Recipient: the notice about the failure that the next record tells of goes to `text`, not to the sender.
inline constexpr std::uint8_t kJournalNoticeSender = 9;

inline constexpr std::uint32_t kWholeMessage = 0xffffffff;  ///< JournalRecord::recipient of records about the message

/// One entry.  Strings are cut to kMaxJournalText when written.
struct JournalRecord {
    std::uint8_t kind = 0;
    std::uint32_t recipient = kWholeMessage;   ///< index into Envelope::recipients
    std::int64_t time_usec = 0;
    std::int64_t value_usec = 0;
    std::string dsn;
    std::string text;
    std::string relay;
    std::string action;
    std::string remote_mta;
    std::string diagnostic;
};
inline constexpr std::size_t kMaxJournalText = 4096;

/// What the records add up to.
struct RecipientState {
    std::uint8_t kind = 0;                     ///< 0 (never tried), kJournalDelivered, Deferred or Bounced
    bool reported = false;                     ///< bounced, and its notice is queued
    bool success_reported = false;
    std::string notice_sender;                 ///< bounced: who hears of it in place of the sender
    std::uint32_t attempts = 0;
    std::int64_t last_usec = 0;
    JournalRecord last;                        ///< the record that made `kind`
    /// Nothing is left to do: delivered, or bounced and reported.
    bool finished() const { return kind == 1 || (kind == 3 && reported); }
};
struct JournalState {
    std::vector<RecipientState> recipients;
    std::int64_t next_attempt_usec = 0;        ///< 0: none recorded
    bool delay_warned = false;
    bool expire = false;                       ///< forced expiry was asked for
    bool expire_now = false;                   ///< also without waiting for the next attempt
    std::size_t unfinished() const;
};

/// Adds up `records`; indices out of range are ignored (the file is not trusted).  Aliases that were expanded are done from the
/// first, whatever the journal says.
JournalState replay(const std::vector<JournalRecord>& records, const std::vector<Recipient>& recipients);

/// Records as bytes, ready to be appended.
std::string encode_journal(const std::vector<JournalRecord>& records);

/// All good records in `bytes`; damaged ones are stepped over.
std::vector<JournalRecord> decode_journal(std::string_view bytes);

/// Appends to the file's end with one write.  Not synced: the caller chooses when.  Blocks briefly.
/// Errors: no_space, io; then the file may end in a torn record, which readers step over.
Result<void> append_journal(int fd, const std::vector<JournalRecord>& records);
Result<void> append_journal(int fd, const std::vector<JournalRecord>& records, FileIo& io);

}  // namespace postern::queue
