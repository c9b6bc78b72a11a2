#include "lib/store/index_format.h"

#include <algorithm>

namespace postern::store {
namespace {

constexpr std::uint64_t kMix = 0x9E3779B97F4A7C15ull;

__extension__ typedef unsigned __int128 Wide;

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

template <class T>
void append_number(std::string& out, T number) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &number, sizeof(T));
    out.append(bytes, sizeof(T));
}

/// Takes numbers and texts off the front; remembers when there was not enough.
struct Taker {
    std::string_view rest;
    bool ok = true;
    template <class T>
    T number() {
        T value{};
        if (rest.size() < sizeof(T)) {
            ok = false;
            return value;
        }
        std::memcpy(&value, rest.data(), sizeof(T));
        rest.remove_prefix(sizeof(T));
        return value;
    }
    std::string_view text(std::size_t size) {
        if (rest.size() < size) {
            ok = false;
            return {};
        }
        const std::string_view out = rest.substr(0, size);
        rest.remove_prefix(size);
        return out;
    }
};

Error damage(const char* what) { return Error(Errc::corrupt, std::string("index: damaged ") + what); }

constexpr std::uint32_t kMailboxVersion = 1;
constexpr std::uint32_t kSummaryVersion = 1;

}  // namespace

std::uint64_t checksum(std::string_view bytes, std::uint64_t seed) {
    std::uint64_t h = fold(seed ^ kMix, bytes.size() + kMix);
    const char* p = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 16; p += 16, left -= 16) {
        std::uint64_t words[2];
        std::memcpy(words, p, 16);
        h = fold(h ^ words[0], words[1] ^ kMix) + words[1];
    }
    for (; left >= 8; p += 8, left -= 8) {
        std::uint64_t word;
        std::memcpy(&word, p, 8);
        h = fold(h ^ word, kMix) + word;
    }
    if (left > 0) {
        std::uint64_t word = 0;
        std::memcpy(&word, p, left);
        h = fold(h ^ word, kMix) + word;
    }
    return fold(h, kMix ^ seed);
}

std::string seal(Kind kind, std::string_view key, std::string_view payload) {
    std::string out;
    out.reserve(payload.size() + 8);
    append_number(out, checksum(payload, checksum(key, static_cast<std::uint64_t>(kind))));
    out.append(payload);
    return out;
}

Result<std::string_view> unseal(Kind kind, std::string_view key, std::string_view value) {
    if (value.size() < 8) {
        return damage("value");
    }
    std::uint64_t stored;
    std::memcpy(&stored, value.data(), 8);
    value.remove_prefix(8);
    if (stored != checksum(value, checksum(key, static_cast<std::uint64_t>(kind)))) {
        return damage("value");
    }
    return value;
}

std::string be32(std::uint32_t n) {
    return {static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n)};
}

std::string key_of(std::uint32_t mailbox, std::uint32_t n) { return be32(mailbox) + be32(n); }

std::string key_of(std::uint32_t mailbox, std::uint64_t n) {
    return be32(mailbox) + be32(static_cast<std::uint32_t>(n >> 32)) + be32(static_cast<std::uint32_t>(n));
}

std::uint32_t read_be32(std::string_view bytes) {
    std::uint32_t n = 0;
    for (std::size_t i = 0; i < 4 && i < bytes.size(); ++i) {
        n = n << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return n;
}

std::string encode_mailbox(const MailboxRecord& record) {
    std::string out;
    append_number(out, kMailboxVersion);
    append_number(out, record.id);
    append_number(out, record.uidvalidity);
    append_number(out, record.uidnext);
    append_number(out, record.recent_from);
    append_number(out, record.highest_modseq);
    append_number(out, record.vanished_floor);
    append_number(out, record.messages);
    append_number(out, record.unseen);
    append_number(out, record.in_new);
    append_number(out, record.vanished_records);
    out.append(record.guid.data(), record.guid.size());
    append_number(out, static_cast<std::uint32_t>(record.keywords.size()));
    for (const std::string& keyword : record.keywords) {
        append_number(out, static_cast<std::uint16_t>(keyword.size()));
        out += keyword;
    }
    return out;
}

Result<MailboxRecord> decode_mailbox(std::string_view payload) {
    Taker take{payload};
    MailboxRecord record;
    if (take.number<std::uint32_t>() != kMailboxVersion) {
        return damage("mailbox record");
    }
    record.id = take.number<std::uint32_t>();
    record.uidvalidity = take.number<std::uint32_t>();
    record.uidnext = take.number<Uid>();
    record.recent_from = take.number<Uid>();
    record.highest_modseq = take.number<Modseq>();
    record.vanished_floor = take.number<Modseq>();
    record.messages = take.number<std::uint32_t>();
    record.unseen = take.number<std::uint32_t>();
    record.in_new = take.number<std::uint32_t>();
    record.vanished_records = take.number<std::uint32_t>();
    const std::string_view guid = take.text(record.guid.size());
    std::copy(guid.begin(), guid.end(), record.guid.begin());
    const std::uint32_t keywords = take.number<std::uint32_t>();
    if (!take.ok || keywords > kMaxKeywords || record.uidnext == 0 || record.uidvalidity == 0) {
        return damage("mailbox record");
    }
    for (std::uint32_t i = 0; i < keywords; ++i) {
        record.keywords.emplace_back(take.text(take.number<std::uint16_t>()));
    }
    if (!take.ok || !take.rest.empty()) {
        return damage("mailbox record");
    }
    return record;
}

std::string encode_entries(const std::vector<Entry>& entries) {
    Modseq highest = 0;
    for (const Entry& entry : entries) {
        highest = std::max(highest, entry.modseq);
    }
    std::string out;
    out.reserve(16 + entries.size() * sizeof(Entry));
    append_number(out, static_cast<std::uint64_t>(entries.size()));
    append_number(out, highest);
    out.append(reinterpret_cast<const char*>(entries.data()), entries.size() * sizeof(Entry));
    return out;
}

Result<EntriesView> EntriesView::parse(std::string_view payload, std::uint32_t block) {
    Taker take{payload};
    EntriesView view;
    const auto count = take.number<std::uint64_t>();
    view.max_modseq_ = take.number<Modseq>();
    if (!take.ok || count > (1u << kBlockBits) || take.rest.size() != count * sizeof(Entry)) {
        return damage("block");
    }
    view.first_ = take.rest.data();
    view.count_ = count;
    Uid last = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Uid uid = view.at(i).uid;
        if (uid <= last || uid >> kBlockBits != block) {
            return damage("block");
        }
        last = uid;
    }
    return view;
}

std::size_t EntriesView::find(Uid uid) const {
    std::size_t low = 0;
    std::size_t high = count_;
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (at(middle).uid < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count_ && at(low).uid == uid ? low : count_;
}

std::string encode_names(const std::vector<StoredName>& names) {
    std::string out;
    append_number(out, static_cast<std::uint32_t>(names.size()));
    for (const StoredName& name : names) {
        append_number(out, name.uid);
        append_number(out, static_cast<std::uint16_t>(name.base.size()));
        append_number(out, static_cast<std::uint16_t>(name.odd_suffix.size()));
        out += name.base;
        out += name.odd_suffix;
    }
    return out;
}

Result<NamesView> NamesView::parse(std::string_view payload) {
    Taker take{payload};
    NamesView view;
    view.left_ = take.number<std::uint32_t>();
    view.rest_ = take.rest;
    if (!take.ok || view.left_ > (1u << kBlockBits)) {
        return damage("names");
    }
    return view;
}

bool NamesView::next() {
    if (left_ == 0) {
        damaged_ = damaged_ || !rest_.empty();
        return false;
    }
    Taker take{rest_};
    uid_ = take.number<Uid>();
    const auto base = take.number<std::uint16_t>();
    const auto suffix = take.number<std::uint16_t>();
    base_ = take.text(base);
    suffix_ = take.text(suffix);
    rest_ = take.rest;
    --left_;
    damaged_ = !take.ok;
    return take.ok;
}

std::string encode_ranges(const UidSet& set) {
    std::string out;
    for (const UidRange& range : set.ranges()) {
        append_number(out, range.first);
        append_number(out, range.last);
    }
    return out;
}

Result<UidSet> decode_ranges(std::string_view payload) {
    UidSet set;
    Taker take{payload};
    while (take.ok && !take.rest.empty()) {
        const Uid first = take.number<Uid>();
        const Uid last = take.number<Uid>();
        if (!take.ok || first == 0 || first > last) {
            return damage("log of expunged messages");
        }
        set.add(UidRange{first, last});
    }
    return set;
}

std::string encode_summary(const CachedSummary& summary) {
    std::string out;
    out.reserve(48 + summary.envelope.size() + summary.body.size() + summary.bodystructure.size());
    append_number(out, kSummaryVersion);
    append_number(out, static_cast<std::uint32_t>(summary.envelope.size()));
    append_number(out, static_cast<std::uint32_t>(summary.body.size()));
    append_number(out, static_cast<std::uint32_t>(summary.bodystructure.size()));
    append_number(out, summary.size);
    append_number(out, summary.internal_date);
    append_number(out, summary.header_size);
    out += summary.envelope;
    out += summary.body;
    out += summary.bodystructure;
    return out;
}

Result<CachedSummary> decode_summary(std::string_view payload) {
    Taker take{payload};
    CachedSummary summary;
    if (take.number<std::uint32_t>() != kSummaryVersion) {
        return damage("summary");
    }
    const auto envelope = take.number<std::uint32_t>();
    const auto body = take.number<std::uint32_t>();
    const auto bodystructure = take.number<std::uint32_t>();
    summary.size = take.number<std::uint64_t>();
    summary.internal_date = take.number<std::int64_t>();
    summary.header_size = take.number<std::uint64_t>();
    summary.envelope = take.text(envelope);
    summary.body = take.text(body);
    summary.bodystructure = take.text(bodystructure);
    if (!take.ok || !take.rest.empty()) {
        return damage("summary");
    }
    return summary;
}

}  // namespace postern::store
