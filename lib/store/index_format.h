/// The records of the index (maildir_index(5)): how they lie in LMDB, and the checks on what is read back.
///
/// Numbers in values are in host order (the index is not carried between machines; its `format` record tells
/// the byte order); numbers in keys are big-endian so that they sort.  Every value begins with a checksum over
/// the rest, bound to its key, so that a damaged or misplaced value is noticed.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/store.h"

namespace postern::store {

constexpr std::uint32_t kIndexFormat = 1;
constexpr std::uint32_t kBlockBits = 7;           ///< UIDs per block: 128
constexpr std::size_t kMaxMailboxName = 480;      ///< bytes; LMDB keys end at 511

/// Bits of Entry::flags beside Flag.
enum EntryBits : std::uint32_t {
    kPassed = 1u << 8,              ///< Maildir's P; no IMAP system flag
    kInNew = 1u << 9,               ///< the file is still in new/
    kOddName = 1u << 10,            ///< the file name's end is not the usual one: stored with the name
};

/// One message, as stored.
struct Entry {
    Uid uid = 0;
    std::uint32_t flags = 0;
    std::uint64_t keywords = 0;
    Modseq modseq = 0;
};
static_assert(sizeof(Entry) == 24);

/// One mailbox.
struct MailboxRecord {
    std::uint32_t id = 0;
    std::uint32_t uidvalidity = 0;
    Uid uidnext = 1;
    Uid recent_from = 1;            ///< messages from here on are recent to the next who selects
    Modseq highest_modseq = 1;
    Modseq vanished_floor = 0;      ///< the log of expunged UIDs is complete above this
    std::uint32_t messages = 0;
    std::uint32_t unseen = 0;
    std::uint32_t in_new = 0;       ///< messages with kInNew
    std::uint32_t vanished_records = 0;
    std::array<char, 16> guid{};
    std::vector<std::string> keywords;
};

/// 64 bits that change when any byte changes; not against forgery.
std::uint64_t checksum(std::string_view bytes, std::uint64_t seed);

/// The kinds of value, part of each checksum.
enum class Kind : std::uint64_t { mailbox = 1, entries, names, vanished, meta, summary, headers, directory };

/// `payload` with its checksum in front.
std::string seal(Kind kind, std::string_view key, std::string_view payload);
/// Errors: corrupt.
Result<std::string_view> unseal(Kind kind, std::string_view key, std::string_view value);

std::string be32(std::uint32_t n);
std::string key_of(std::uint32_t mailbox, std::uint32_t n);           ///< mailbox + block or UID
std::string key_of(std::uint32_t mailbox, std::uint64_t n);           ///< mailbox + modseq
std::uint32_t read_be32(std::string_view bytes);                      ///< needs 4 bytes

std::string encode_mailbox(const MailboxRecord& record);
Result<MailboxRecord> decode_mailbox(std::string_view payload);

/// A block of entries, read in place.
class EntriesView {
public:
    EntriesView() = default;
    /// Errors: corrupt.
    static Result<EntriesView> parse(std::string_view payload, std::uint32_t block);
    std::size_t size() const { return count_; }
    Modseq max_modseq() const { return max_modseq_; }
    Entry at(std::size_t n) const {
        Entry entry;
        std::memcpy(&entry, first_ + n * sizeof(Entry), sizeof(Entry));
        return entry;
    }
    /// Position of `uid`, size() when it is not there.
    std::size_t find(Uid uid) const;

private:
    const char* first_ = nullptr;
    std::size_t count_ = 0;
    Modseq max_modseq_ = 0;
};
std::string encode_entries(const std::vector<Entry>& entries);

/// The file a message is in: `base` never changes; `odd_suffix` (with kOddName) is what follows it.
struct StoredName {
    Uid uid = 0;
    std::string base;
    std::string odd_suffix;
};

/// Walks over a block of names in place.
class NamesView {
public:
    static Result<NamesView> parse(std::string_view payload);
    bool next();                    ///< false at the end or where the block makes no sense
    bool damaged() const { return damaged_; }
    Uid uid() const { return uid_; }
    std::string_view base() const { return base_; }
    std::string_view odd_suffix() const { return suffix_; }

private:
    std::string_view rest_;
    std::uint32_t left_ = 0;
    bool damaged_ = false;
    Uid uid_ = 0;
    std::string_view base_, suffix_;
};
std::string encode_names(const std::vector<StoredName>& names);

std::string encode_ranges(const UidSet& set);
Result<UidSet> decode_ranges(std::string_view payload);

/// What is kept of a message in the cache.
struct CachedSummary {
    std::uint64_t size = 0;
    std::int64_t internal_date = 0;
    std::uint64_t header_size = 0;
    std::string_view envelope, body, bodystructure;
};
std::string encode_summary(const CachedSummary& summary);
Result<CachedSummary> decode_summary(std::string_view payload);

/// When a mailbox's directories were last looked at (nanoseconds since 1970).
struct DirState {
    std::int64_t new_mtime = 0, cur_mtime = 0;
    std::int64_t new_checked = 0, cur_checked = 0;
    std::int64_t keywords_mtime = 0;
    std::int64_t tmp_cleaned = 0;
    std::uint32_t own_change = 0;   ///< the last change of cur/ was ours; others' may hide behind it
    std::uint32_t uidvalidity = 0;
    Modseq modseq = 0;              ///< the index had this then; an older index makes the state void
};

}  // namespace postern::store
