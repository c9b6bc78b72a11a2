#include "imapd/search.h"

#include <algorithm>
#include <ctime>

#include "imapd/fold.h"
#include "imapd/targets.h"
#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/mail/charset.h"
#include "lib/mail/date.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/header.h"

namespace postern::imapd {

namespace {

using Kind = SearchKey::Kind;

/// A body is decoded as a whole; a larger message is not searched.
constexpr std::uint64_t kMaxSearched = 256U << 20;

int cost_of(Kind kind) {
    switch (kind) {
    case Kind::body:
    case Kind::text: return 1000;
    case Kind::header:
    case Kind::sent_before:
    case Kind::sent_on:
    case Kind::sent_since: return 50;
    case Kind::before:
    case Kind::on:
    case Kind::since:
    case Kind::larger:
    case Kind::smaller:
    case Kind::older:
    case Kind::younger: return 10;
    default: return 1;
    }
}

/// The searched text as folded UTF-8 (RFC 3501: US-ASCII and UTF-8 at least; here whatever iconv knows).
Result<std::string> needle_of(const SearchKey& key, const std::string& charset) {
    if (charset.empty() || charset == "UTF-8" || charset == "US-ASCII") {
        return fold_case(sanitize_utf8(key.value));
    }
    const auto converted = to_utf8(charset, key.value);
    if (!converted) {
        return Error(Errc::unsupported, "unknown charset " + charset);
    }
    return fold_case(*converted);
}

std::uint64_t keyword_bit(const store::Mailbox& mailbox, const std::string& keyword) {
    const std::vector<std::string>& names = mailbox.keywords();
    for (std::size_t i = 0; i < names.size() && i < 64; ++i) {
        if (equals_ignoring_case(names[i], keyword)) {
            return std::uint64_t{1} << i;
        }
    }
    return 0;
}

store::UidSet named(const SearchKey& key, const SearchContext& context) {
    const store::UidSet& all = context.mailbox.uids();
    if (key.set.saved) {
        return intersection(all, context.saved);
    }
    const std::uint32_t exists = context.mailbox.exists();
    if (key.kind == Kind::uid) {
        return intersection(all, key.set.resolve(exists > 0 ? context.mailbox.uid_of(exists) : 0));
    }
    return uids_at(all, key.set.resolve(exists));
}

std::int64_t floor_day(std::int64_t seconds) { return (seconds >= 0 ? seconds : seconds - 86399) / 86400; }

/// The day of an internal date, as INTERNALDATE shows it.
std::int64_t local_day(std::int64_t seconds) { return floor_day(seconds + local_date(seconds).zone_minutes * 60); }

/// Whether a field holds addresses, which are also searched in their plain form: RFC 5322 allows comments and
/// spaces within them.
bool is_address_field(std::string_view name) {
    constexpr std::string_view kNames[] = {"from", "to", "cc", "bcc", "sender", "reply-to"};
    return std::any_of(std::begin(kNames), std::end(kNames), [&](std::string_view n) { return n == name; });
}

std::string plain_addresses(std::string_view value) {
    std::string out;
    for (const ListAddress& address : parse_address_list(value)) {
        if (address.kind == ListAddress::Kind::mailbox) {
            out += (out.empty() ? "" : ", ") + decode_encoded_words(address.name) + " <" + address.local + "@" +
                   address.domain + ">";
        }
    }
    return out;
}

bool compare_day(Kind kind, std::int64_t have, std::int64_t wanted) {
    switch (kind) {
    case Kind::before:
    case Kind::sent_before: return have < wanted;
    case Kind::on:
    case Kind::sent_on: return have == wanted;
    default: return have >= wanted;
    }
}

}  // namespace

Result<Condition> compile(const SearchKey& key, const SearchContext& context) {
    Condition out;
    out.kind = key.kind;
    out.flags = key.flags;
    out.day = key.day;
    out.number = key.number;
    out.cost = cost_of(key.kind);
    switch (key.kind) {
    case Kind::header:
        out.field.push_back(to_lower(key.field));
        [[fallthrough]];
    case Kind::body:
    case Kind::text: {
        Result<std::string> needle = needle_of(key, context.charset);
        if (!needle) {
            return needle.error();
        }
        out.needle = std::move(*needle);
        break;
    }
    case Kind::keyword:
    case Kind::unkeyword: out.keyword_bit = keyword_bit(context.mailbox, key.value); break;
    case Kind::sequence:
    case Kind::uid: out.uids = named(key, context); break;
    case Kind::older:
    case Kind::younger: out.number = static_cast<std::uint64_t>(std::max<std::int64_t>(0, context.now - static_cast<std::int64_t>(key.number))); break;
    case Kind::sent_before:
    case Kind::sent_on:
    case Kind::sent_since: out.field.emplace_back("date"); break;
    default: break;
    }
    for (const SearchKey& child : key.children) {
        Result<Condition> compiled = compile(child, context);
        if (!compiled) {
            return compiled.error();
        }
        out.cost += compiled->cost;
        out.children.push_back(std::move(*compiled));
    }
    std::stable_sort(out.children.begin(), out.children.end(),
                     [](const Condition& a, const Condition& b) { return a.cost < b.cost; });
    return out;
}

store::UidSet candidates(const Condition& condition, const store::UidSet& snapshot) {
    if (condition.kind == Kind::sequence || condition.kind == Kind::uid) {
        return condition.uids;
    }
    store::UidSet out = snapshot;
    if (condition.kind == Kind::and_all) {
        for (const Condition& child : condition.children) {
            if (child.kind == Kind::sequence || child.kind == Kind::uid) {
                out = intersection(out, child.uids);
            }
        }
    }
    return out;
}

bool Matcher::matches(store::Uid uid, store::Modseq& modseq) {
    const Result<store::Row> row = reader_.row(uid);
    if (!row) {
        return false;
    }
    row_ = *row;
    modseq = row_.modseq;
    text_loaded_ = false;
    return holds(condition_);
}

bool Matcher::holds(const Condition& condition) {
    const auto child_holds = [this](const Condition& child) { return holds(child); };
    const std::vector<Condition>& children = condition.children;
    switch (condition.kind) {
    case Kind::all: return true;
    case Kind::and_all: return std::all_of(children.begin(), children.end(), child_holds);
    case Kind::or_any: return std::any_of(children.begin(), children.end(), child_holds);
    case Kind::negate: return !holds(children.front());
    case Kind::sequence:
    case Kind::uid: return condition.uids.contains(row_.uid);
    case Kind::flags_set: return (row_.flags & condition.flags) != 0;
    case Kind::flags_clear: return (row_.flags & condition.flags) == 0;
    case Kind::keyword: return (row_.keywords & condition.keyword_bit) != 0;
    case Kind::unkeyword: return (row_.keywords & condition.keyword_bit) == 0;
    case Kind::recent: return (row_.flags & store::kRecent) != 0;
    case Kind::old: return (row_.flags & store::kRecent) == 0;
    case Kind::new_message: return (row_.flags & (store::kRecent | store::kSeen)) == store::kRecent;
    case Kind::modseq: return row_.modseq >= condition.number;
    case Kind::sent_before:
    case Kind::sent_on:
    case Kind::sent_since: return holds_sent(condition);
    case Kind::header: return holds_header(condition);
    case Kind::body:
    case Kind::text: return holds_text(condition);
    default: return holds_summary(condition);
    }
}

bool Matcher::holds_summary(const Condition& condition) {
    const Result<store::Summary> summary = reader_.summary(row_.uid, store::Need::size_and_date);
    if (!summary) {
        return false;
    }
    switch (condition.kind) {
    case Kind::larger: return summary->size > condition.number;
    case Kind::smaller: return summary->size < condition.number;
    case Kind::older: return summary->internal_date <= static_cast<std::int64_t>(condition.number);
    case Kind::younger: return summary->internal_date >= static_cast<std::int64_t>(condition.number);
    default: return compare_day(condition.kind, local_day(summary->internal_date), condition.day);
    }
}

/// SENTBEFORE and its siblings: the day as the Date field has it, zone disregarded (RFC 3501 section 6.4.4).
bool Matcher::holds_sent(const Condition& condition) {
    const Result<std::string_view> fields = reader_.header_fields(row_.uid, condition.field);
    if (!fields || fields->empty()) {
        return false;
    }
    const auto date = parse_rfc5322_date(unfold(find_field(*fields, "date").value));
    return date && compare_day(condition.kind, floor_day(date->unix_time + date->zone_minutes * 60), condition.day);
}

bool Matcher::holds_header(const Condition& condition) {
    const Result<std::string_view> fields = reader_.header_fields(row_.uid, condition.field);
    if (!fields || fields->empty()) {
        return false;
    }
    if (condition.needle.empty()) {
        return true;                                 // the field is there: that is all that was asked
    }
    HeaderReader reader(*fields);
    HeaderField field;
    while (reader.next(field)) {
        if (contains_folded(decode_header_text(field.value), condition.needle)) {
            return true;
        }
        const bool rewritten = field.value.find('(') != std::string_view::npos && is_address_field(condition.field[0]);
        if (rewritten && contains_folded(plain_addresses(field.value), condition.needle)) {
            return true;
        }
    }
    return false;
}

bool Matcher::holds_text(const Condition& condition) {
    if (condition.needle.empty()) {
        return true;
    }
    const std::string* const message = text();
    return message != nullptr && message_contains(*message, condition.needle, condition.kind == Kind::text);
}

const std::string* Matcher::text() {
    if (!text_loaded_) {
        Result<std::string> loaded = reader_.text(row_.uid, kMaxSearched);
        if (!loaded) {
            if (loaded.error().code != Errc::not_found) {
                log_warning("search: {}", loaded.error().what);
            }
            return nullptr;
        }
        text_ = std::move(*loaded);
        text_loaded_ = true;
    }
    return &text_;
}

}  // namespace postern::imapd
