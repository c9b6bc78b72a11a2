#include "lib/queue/journal.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "lib/queue/checksum.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

/// Each record: mark, u32 payload length, u32 CRC-32C of the payload, payload.
constexpr std::string_view kMark = "\xf1PJ\n";
constexpr std::size_t kRecordHeader = 12;
/// Longest payload that decode accepts: six full strings and the numbers.
constexpr std::size_t kMaxPayload = 6 * (kMaxJournalText + 2) + 64;

void put_text(std::string& out, const std::string& text) {
    const std::size_t size = std::min(text.size(), kMaxJournalText);
    put_number(out, static_cast<std::uint16_t>(size));
    out.append(text, 0, size);
}

std::string take_text(StoredReader& in) {
    const auto size = in.number<std::uint16_t>();
    return std::string(in.take(size));
}

std::string encode_one(const JournalRecord& record) {
    std::string payload;
    put_number(payload, record.kind);
    put_number(payload, record.recipient);
    put_number(payload, record.time_usec);
    put_number(payload, record.value_usec);
    put_text(payload, record.dsn);
    put_text(payload, record.text);
    put_text(payload, record.relay);
    put_text(payload, record.action);
    put_text(payload, record.remote_mta);
    put_text(payload, record.diagnostic);
    return payload;
}

bool decode_one(std::string_view payload, JournalRecord& record) {
    StoredReader in(payload);
    record.kind = in.number<std::uint8_t>();
    record.recipient = in.number<std::uint32_t>();
    record.time_usec = in.number<std::int64_t>();
    record.value_usec = in.number<std::int64_t>();
    record.dsn = take_text(in);
    record.text = take_text(in);
    record.relay = take_text(in);
    record.action = take_text(in);
    record.remote_mta = take_text(in);
    record.diagnostic = take_text(in);
    return in.ok() && in.empty();
}

/// Length of the good record at the front of `bytes`, 0 when there is none.
std::size_t take_record(std::string_view bytes, JournalRecord& record) {
    if (bytes.size() < kRecordHeader || bytes.substr(0, kMark.size()) != kMark) {
        return 0;
    }
    StoredReader in(bytes.substr(kMark.size()));
    const auto length = in.number<std::uint32_t>();
    const auto crc = in.number<std::uint32_t>();
    if (length > kMaxPayload) {
        return 0;
    }
    const std::string_view payload = in.take(length);
    if (!in.ok() || crc32c(0, payload) != crc || !decode_one(payload, record)) {
        return 0;
    }
    return kRecordHeader + length;
}

/// What became of an alias of which cleanup made several recipients.
JournalRecord expansion(std::uint32_t recipient) {
    JournalRecord record;
    record.kind = kJournalDelivered;
    record.recipient = recipient;
    record.dsn = "2.0.0";
    record.text = "alias expanded";
    record.relay = "none";
    record.action = "expanded";
    return record;
}

void apply_to_recipient(const JournalRecord& record, RecipientState& state) {
    switch (record.kind) {
    case kJournalDelivered:
    case kJournalDeferred:
    case kJournalBounced:
        state.kind = record.kind;
        state.attempts += 1;
        state.last_usec = record.time_usec;
        state.last = record;
        break;
    case kJournalNoticeSender:
        state.notice_sender = record.text;
        break;
    case kJournalReported:
        state.reported = true;
        break;
    case kJournalSuccessReported:
        state.success_reported = true;
        break;
    default:
        break;   // a kind of a later version
    }
}

}  // namespace

std::size_t JournalState::unfinished() const {
    return static_cast<std::size_t>(
        std::count_if(recipients.begin(), recipients.end(), [](const RecipientState& r) { return !r.finished(); }));
}

JournalState replay(const std::vector<JournalRecord>& records, const std::vector<Recipient>& recipients) {
    JournalState state;
    state.recipients.resize(recipients.size());
    for (std::uint32_t i = 0; i < recipients.size(); ++i) {
        if (recipients[i].expanded) {
            apply_to_recipient(expansion(i), state.recipients[i]);
        }
    }
    for (const JournalRecord& record : records) {
        const bool expanded = record.recipient < recipients.size() && recipients[record.recipient].expanded;
        if (expanded && record.kind != kJournalSuccessReported) {
            continue;
        }
        if (record.recipient < recipients.size()) {
            apply_to_recipient(record, state.recipients[record.recipient]);
        } else if (record.kind == kJournalNextAttempt) {
            state.next_attempt_usec = record.value_usec;
        } else if (record.kind == kJournalDelayWarned) {
            state.delay_warned = true;
        } else if (record.kind == kJournalExpire) {
            state.expire = true;
            state.expire_now = state.expire_now || record.value_usec != 0;
        }
    }
    return state;
}

std::string encode_journal(const std::vector<JournalRecord>& records) {
    std::string out;
    for (const JournalRecord& record : records) {
        const std::string payload = encode_one(record);
        out += kMark;
        put_number(out, static_cast<std::uint32_t>(payload.size()));
        put_number(out, crc32c(0, payload));
        out += payload;
    }
    return out;
}

std::vector<JournalRecord> decode_journal(std::string_view bytes) {
    std::vector<JournalRecord> records;
    while (!bytes.empty()) {
        JournalRecord record;
        const std::size_t length = take_record(bytes, record);
        if (length > 0) {
            records.push_back(std::move(record));
            bytes.remove_prefix(length);
            continue;
        }
        const std::size_t next = bytes.find(kMark, 1);   // step over the damage
        bytes.remove_prefix(next == std::string_view::npos ? bytes.size() : next);
    }
    return records;
}

Result<void> append_journal(int fd, const std::vector<JournalRecord>& records) {
    return append_journal(fd, records, FileIo::system());
}

Result<void> append_journal(int fd, const std::vector<JournalRecord>& records, FileIo& io) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        return errno_error("journal: fstat");
    }
    return write_exactly(io, fd, encode_journal(records), static_cast<std::uint64_t>(status.st_size), "journal");
}

}  // namespace postern::queue
