#include "imapd/parser.h"

#include <algorithm>
#include <array>
#include <limits>

#include "lib/base/strings.h"
#include "lib/mail/date.h"
#include "lib/store/store.h"

namespace postern::imapd {

namespace {

/// ATOM-CHAR (RFC 3501 section 9): a printable character that is no atom-special.
bool is_atom_char(char c) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7F) {
        return false;
    }
    constexpr std::string_view kSpecials = "(){%*\"\\]";
    return kSpecials.find(c) == std::string_view::npos;
}

bool is_astring_char(char c) { return c == ']' || is_atom_char(c); }
bool is_list_char(char c) { return c == '%' || c == '*' || is_astring_char(c); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

constexpr std::array<std::string_view, 12> kMonths = {"jan", "feb", "mar", "apr", "may", "jun",
                                                      "jul", "aug", "sep", "oct", "nov", "dec"};

bool valid_day(int year, int month, int day) {
    constexpr std::array<int, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    const int last = kDays[static_cast<std::size_t>(month - 1)] + (month == 2 && leap ? 1 : 0);
    return day >= 1 && day <= last;
}

}  // namespace

store::UidSet SequenceSet::resolve(std::uint32_t largest) const {
    std::vector<SequenceRange> ordered;
    ordered.reserve(ranges.size());
    for (const SequenceRange& range : ranges) {
        const std::uint32_t first = range.first == 0 ? largest : range.first;
        const std::uint32_t last = range.last == 0 ? largest : range.last;
        if (first != 0 && last != 0) {             // "*" in an empty mailbox is nothing
            ordered.push_back({std::min(first, last), std::max(first, last)});
        }
    }
    std::sort(ordered.begin(), ordered.end(),
              [](const SequenceRange& a, const SequenceRange& b) { return a.first < b.first; });
    store::UidSet out;
    for (const SequenceRange& range : ordered) {
        out.add(store::UidRange{range.first, range.last});
    }
    return out;
}

bool ends_in_literal(std::string_view line, LiteralHeader& header) {
    if (line.size() < 3 || line.back() != '}') {
        return false;
    }
    const std::size_t brace = line.rfind('{');
    if (brace == std::string_view::npos) {
        return false;
    }
    std::string_view inside = line.substr(brace + 1, line.size() - brace - 2);
    header = LiteralHeader{};
    if (!inside.empty() && (inside.back() == '+' || inside.back() == '-')) {
        header.waits = false;
        inside.remove_suffix(1);
    }
    if (inside.empty() || !std::all_of(inside.begin(), inside.end(), is_digit)) {
        return false;
    }
    const auto size = parse_number(inside);
    constexpr std::uint64_t kLargest = std::uint64_t{1} << 62;
    header.overflow = !size || *size > kLargest;
    header.size = header.overflow ? 0 : *size;
    header.start = brace;
    // "~{" only where a token may begin, so that the atom "a~" before a quoted brace is not meant.
    if (brace > 0 && line[brace - 1] == '~' && (brace == 1 || line[brace - 2] == ' ' || line[brace - 2] == '(')) {
        header.binary = true;
        header.start = brace - 1;
    }
    return true;
}

bool Parser::fail(std::string_view message) {
    if (error_.empty()) {
        error_ = message;
    }
    return false;
}

bool Parser::next_is_word(std::string_view word) const {
    const std::string_view left = rest();
    return starts_with_ignoring_case(left, word) &&
           (left.size() == word.size() || !is_atom_char(left[word.size()]));
}

bool Parser::take(char c) {
    if (!next_is(c)) {
        return false;
    }
    ++at_;
    return true;
}

bool Parser::space() {
    if (!take(' ')) {
        return fail(at_end() ? "Missing argument" : "Space expected");
    }
    return true;
}

bool Parser::expect(char c) { return take(c) || fail(std::string("'") + c + "' expected"); }

bool Parser::end() {
    while (next_is(' ')) {
        ++at_;
    }
    return at_end() || fail("Unexpected argument");
}

bool Parser::tag(std::string& out) {
    const std::size_t start = at_;
    while (!at_end() && is_astring_char(text_[at_]) && text_[at_] != '+') {
        ++at_;
    }
    if (at_ == start || at_ - start > kMaxTag) {
        return fail("Invalid tag");
    }
    out = text_.substr(start, at_ - start);
    return true;
}

bool Parser::atom(std::string& out) {
    const std::size_t start = at_;
    while (!at_end() && is_atom_char(text_[at_])) {
        ++at_;
    }
    out = text_.substr(start, at_ - start);
    return at_ > start || fail("Atom expected");
}

bool Parser::word(std::string& out) {
    const std::size_t start = at_;
    while (!at_end()) {
        const char c = lower(text_[at_]);
        if (!((c >= 'a' && c <= 'z') || is_digit(c) || c == '.' || c == '-' || c == '=')) {
            break;
        }
        ++at_;
    }
    out = to_upper(text_.substr(start, at_ - start));
    return at_ > start || fail("Name expected");
}

bool Parser::astring(std::string& out) {
    if (next_is('"') || next_is('{')) {
        return string(out);
    }
    const std::size_t start = at_;
    while (!at_end() && is_astring_char(text_[at_])) {
        ++at_;
    }
    out = text_.substr(start, at_ - start);
    return at_ > start || fail("String expected");
}

bool Parser::list_mailbox(std::string& out) {
    if (next_is('"') || next_is('{')) {
        return string(out);
    }
    const std::size_t start = at_;
    while (!at_end() && is_list_char(text_[at_])) {
        ++at_;
    }
    out = text_.substr(start, at_ - start);
    return at_ > start || fail("Mailbox pattern expected");
}

bool Parser::string(std::string& out) {
    if (next_is('"')) {
        return quoted(out);
    }
    return next_is('{') ? literal(out) : fail("String expected");
}

bool Parser::nstring(std::string& out, bool& nil) {
    nil = next_is_word("NIL");
    if (nil) {
        at_ += 3;
        out.clear();
        return true;
    }
    return string(out);
}

bool Parser::quoted(std::string& out) {
    out.clear();
    ++at_;
    while (!at_end()) {
        char c = text_[at_++];
        if (c == '"') {
            return true;
        }
        if (c == '\\') {
            if (!next_is('"') && !next_is('\\')) {
                return fail("Invalid escape in a quoted string");
            }
            c = text_[at_++];
        } else if (c == '\r' || c == '\n' || c == '\0') {
            return fail("Invalid character in a quoted string");
        }
        out += c;
    }
    return fail("Missing '\"'");
}

bool Parser::literal(std::string& out) {
    ++at_;
    std::uint64_t size = 0;
    if (!digits(std::numeric_limits<std::uint32_t>::max(), size)) {
        return false;
    }
    if (!take('+')) {
        take('-');
    }
    if (!take('}') || !take('\r') || !take('\n') || size > text_.size() - at_) {
        return fail("Invalid literal");
    }
    const std::string_view bytes = text_.substr(at_, static_cast<std::size_t>(size));
    if (bytes.find('\0') != std::string_view::npos) {
        return fail("NUL in a literal");           // RFC 3501 section 9: CHAR8 is %x01-ff
    }
    out = bytes;
    at_ += bytes.size();
    return true;
}

bool Parser::digits(std::uint64_t limit, std::uint64_t& out) {
    const std::size_t start = at_;
    out = 0;
    while (!at_end() && is_digit(text_[at_])) {
        const auto digit = static_cast<std::uint64_t>(text_[at_] - '0');
        if (out > (limit - digit) / 10) {
            return fail("Number too large");
        }
        out = out * 10 + digit;
        ++at_;
    }
    return at_ > start || fail("Number expected");
}

bool Parser::number64(std::uint64_t& out) {
    return digits(static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()), out);
}

bool Parser::number(std::uint32_t& out) {
    std::uint64_t wide = 0;
    if (!digits(std::numeric_limits<std::uint32_t>::max(), wide)) {
        return false;
    }
    out = static_cast<std::uint32_t>(wide);
    return true;
}

bool Parser::nonzero(std::uint32_t& out) { return number(out) && (out != 0 || fail("Number must not be 0")); }

bool Parser::set_number(std::uint32_t& out) {
    if (take('*')) {
        out = 0;
        return true;
    }
    return nonzero(out);
}

bool Parser::set(SequenceSet& out) {
    out = SequenceSet{};
    if (take('$')) {
        out.saved = true;
        return true;
    }
    do {
        SequenceRange range;
        if (!set_number(range.first)) {
            return false;
        }
        range.last = range.first;
        if (take(':') && !set_number(range.last)) {
            return false;
        }
        out.ranges.push_back(range);
    } while (take(','));
    return true;
}

bool Parser::flag(FlagList& out) {
    const bool system = take('\\');
    std::string name;
    if (!atom(name)) {
        return false;
    }
    if (!system) {
        if (name.size() > kMaxKeywordLength) {
            return fail("Keyword too long");
        }
        const bool known = std::any_of(out.keywords.begin(), out.keywords.end(), [&](const std::string& other) {
            return equals_ignoring_case(other, name);
        });
        if (!known) {
            out.keywords.push_back(std::move(name));
        }
        return true;
    }
    constexpr std::array<std::string_view, 5> kNames = {"seen", "answered", "flagged", "deleted", "draft"};
    constexpr std::array<std::uint32_t, 5> kFlags = {store::kSeen, store::kAnswered, store::kFlagged,
                                                     store::kDeleted, store::kDraft};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        if (equals_ignoring_case(name, kNames[i])) {
            out.system |= kFlags[i];
            return true;
        }
    }
    return fail("Invalid system flag");
}

bool Parser::flag_list(FlagList& out) {
    out = FlagList{};
    if (!expect('(')) {
        return false;
    }
    if (take(')')) {
        return true;
    }
    do {
        if (!flag(out)) {
            return false;
        }
    } while (take(' '));
    return expect(')');
}

bool Parser::fixed_digits(std::size_t count, int& out) {
    out = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (at_end() || !is_digit(text_[at_])) {
            return fail("Invalid date");
        }
        out = out * 10 + (text_[at_++] - '0');
    }
    return true;
}

bool Parser::month(int& out) {
    for (std::size_t i = 0; i < kMonths.size(); ++i) {
        if (starts_with_ignoring_case(rest(), kMonths[i])) {
            at_ += kMonths[i].size();
            out = static_cast<int>(i) + 1;
            return true;
        }
    }
    return fail("Invalid date");
}

bool Parser::date(std::int64_t& day_number) {
    const bool quotes = take('"');
    std::uint64_t day = 0;
    int month_number = 0;
    int year = 0;
    if (!digits(99, day) || !expect('-') || !month(month_number) || !expect('-') || !fixed_digits(4, year)) {
        return fail("Invalid date");
    }
    if ((quotes && !expect('"')) || !valid_day(year, month_number, static_cast<int>(day))) {
        return fail("Invalid date");
    }
    day_number = days_from_civil(year, month_number, static_cast<int>(day));
    return true;
}

bool Parser::date_time(std::int64_t& seconds, int& zone_minutes) {
    int day = 0, month_number = 0, year = 0, hour = 0, minute = 0, second = 0, zone = 0;
    if (!expect('"') || !fixed_digits(take(' ') ? 1 : 2, day) || !expect('-') || !month(month_number) ||
        !expect('-') || !fixed_digits(4, year) || !expect(' ') || !fixed_digits(2, hour) || !expect(':') ||
        !fixed_digits(2, minute) || !expect(':') || !fixed_digits(2, second) || !expect(' ')) {
        return fail("Invalid date-time");
    }
    const bool west = next_is('-');
    if ((!take('+') && !take('-')) || !fixed_digits(4, zone) || !expect('"')) {
        return fail("Invalid date-time");
    }
    if (!valid_day(year, month_number, day) || hour > 23 || minute > 59 || second > 60 || zone % 100 > 59) {
        return fail("Invalid date-time");
    }
    zone_minutes = (zone / 100 * 60 + zone % 100) * (west ? -1 : 1);
    seconds = days_from_civil(year, month_number, day) * 86400 + hour * 3600 + minute * 60 + second -
              zone_minutes * 60;
    return true;
}

}  // namespace postern::imapd
