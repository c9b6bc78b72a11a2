/// What a commit log looks like, version 1 (commit_log(5)): a header, a mark for each record, and a ring of records.
///
///     header | marks | ring
///
/// Nothing here reads or writes files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern::queue {

/// Records begin at multiples of this, which a disk writes whole.
inline constexpr std::uint64_t kLogSector = 512;
inline constexpr std::uint64_t kLogHeaderSize = 4096;
/// Of LogHeader::life.
inline constexpr std::size_t kLogLifeSize = 80;
/// Of a record before its content.
inline constexpr std::uint64_t kLogRecordHeaderSize = 96;
/// What commit_log_size may be, beside 0.
inline constexpr std::uint64_t kMinLogRing = 1 << 20;
inline constexpr std::uint64_t kMaxLogRing = 1 << 30;
/// As many records can never be in one log together: one that is numbered as far from the header's first is not of its time.
inline constexpr std::uint64_t kLogWindow = std::uint64_t{1} << 32;

/// commit_log_size as a log can have it.
constexpr std::uint64_t log_ring_size_for(std::uint64_t wanted) {
    const std::uint64_t whole = (wanted + kLogHeaderSize - 1) / kLogHeaderSize * kLogHeaderSize;
    return wanted == 0 ? 0 : whole < kMinLogRing ? kMinLogRing : whole > kMaxLogRing ? kMaxLogRing : whole;
}

struct LogHeader {
    bool in_use = false;           ///< records may be in it that nothing but this log keeps
    std::uint64_t ring_size = 0;   ///< a multiple of kLogHeaderSize
    std::uint64_t first = 0;       ///< records with lower numbers are settled
    std::string life;              ///< as read_file_system_life() says; empty: not known
};

/// kLogSector bytes.
std::string encode_log_header(const LogHeader& header);
/// Errors: corrupt.
Result<LogHeader> decode_log_header(std::string_view bytes);

struct LogRecord {
    std::string queue_id;
    std::uint64_t number = 0;      ///< counts up, from anywhere; never 0
    std::uint32_t length = 0;      ///< of the content: a whole queue file
    std::uint32_t content_crc = 0;
};

/// kLogRecordHeaderSize bytes.
std::string encode_log_record(const LogRecord& record);
/// The record whose header `bytes` begins with; none when that is none.  `room` is how many bytes there are for header and content.
std::optional<LogRecord> decode_log_record(std::string_view bytes, std::uint64_t room);

/// How much of the ring a record takes.
constexpr std::uint64_t log_record_size(std::uint64_t content_length) {
    return (kLogRecordHeaderSize + content_length + kLogSector - 1) / kLogSector * kLogSector;
}

/// There is a mark for as many records as the ring could hold.  A mark is eight bytes, and its record is done when they are the
/// record's number.
constexpr std::uint64_t log_marks(std::uint64_t ring_size) { return ring_size / kLogSector; }
constexpr std::uint64_t log_mark_offset(std::uint64_t ring_size, std::uint64_t number) {
    return kLogHeaderSize + number % log_marks(ring_size) * sizeof(std::uint64_t);
}
constexpr std::uint64_t log_ring_offset(std::uint64_t ring_size) {
    const std::uint64_t marks = log_marks(ring_size) * sizeof(std::uint64_t);
    return kLogHeaderSize + (marks + kLogHeaderSize - 1) / kLogHeaderSize * kLogHeaderSize;
}
constexpr std::uint64_t log_file_size(std::uint64_t ring_size) { return log_ring_offset(ring_size) + ring_size; }

/// A log's file is called "RING_SIZE.INDEX".
std::string log_name(std::uint64_t ring_size, unsigned index);
/// The ring size in a name; none when it is no log's.
std::optional<std::uint64_t> log_ring_size(std::string_view name);

/// Where a message stands in a log, so that qmgr can mark it.
struct LogPlace {
    std::string log;             ///< its name; empty: in none
    std::uint64_t number = 0;
    explicit operator bool() const { return !log.empty(); }
};
template <class A>
void fields(A& a, LogPlace& place) { a(place.log, place.number); }

/// What names the time for which the kernel remembers what was written to the file system of `path`, flushed or not: until it
/// is unmounted, or the machine ends.  As long as this is the same, files are as they were left, whoever was killed.  Empty when it
/// cannot be told.  Before the root directory is changed.
std::string read_file_system_life(const std::string& path);

}  // namespace postern::queue
