#include "lib/store/mbox_file.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "lib/base/strings.h"
#include "lib/mail/header.h"
#include "lib/store/index_format.h"
#include "lib/store/store.h"

namespace postern::store {
namespace {

constexpr std::size_t kPadding = 50;              ///< spare bytes, so that most flag changes fit where they are
constexpr std::size_t kMaxStoredKeywords = 64;

struct StateLetter {
    char letter;
    std::uint32_t flag;
};
constexpr StateLetter kXStatus[] = {{'A', kAnswered}, {'F', kFlagged}, {'T', kDraft}, {'D', kDeleted}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Where "hh:mm" begins, npos if nowhere.
std::size_t find_time(std::string_view line) {
    for (std::size_t i = 5; i + 5 <= line.size(); ++i) {
        if (line[i + 2] == ':' && is_digit(line[i]) && is_digit(line[i + 1]) && is_digit(line[i + 3]) && is_digit(line[i + 4])) {
            return i;
        }
    }
    return std::string_view::npos;
}

/// End of the header block that starts at `at`: after its empty line, or the end.
std::uint64_t end_of_header(std::string_view text, std::uint64_t at, std::uint64_t limit) {
    while (at < limit) {
        const std::size_t newline = text.find('\n', at);
        const std::uint64_t next = newline == std::string_view::npos ? limit : std::min<std::uint64_t>(newline + 1, limit);
        if (next - at == 1 || (next - at == 2 && text[at] == '\r')) {
            return next;
        }
        at = next;
    }
    return limit;
}

/// The next `From ` line that follows an empty line, at or after `at`; the end when there is none.
std::uint64_t next_from_line(std::string_view text, std::uint64_t at) {
    for (std::size_t found = text.find("\nFrom ", at > 0 ? at - 1 : 0); found != std::string_view::npos;
         found = text.find("\nFrom ", found + 1)) {
        const bool after_empty = found == 0 || text[found - 1] == '\n' || (text[found - 1] == '\r' && found > 1 && text[found - 2] == '\n');
        if (found + 1 >= at && after_empty && is_from_line(text.substr(found + 1, 1000))) {
            return found + 1;
        }
    }
    return text.size();
}

void read_numbers(std::string_view value, MboxFile& file) {
    const std::vector<std::string> words = split(value, " \t\r\n");
    const std::uint64_t validity = words.empty() ? 0 : parse_number(words[0]).value_or(0);
    const std::uint64_t last = words.size() < 2 ? 0 : parse_number(words[1]).value_or(0);
    if (validity > 0 && validity <= 0xffffffffu && last < 0xffffffffu) {
        file.uidvalidity = static_cast<std::uint32_t>(validity);
        file.last_uid = static_cast<Uid>(last);
    }
}

void read_state_field(const HeaderField& field, MboxFile& file, MboxMessage& message) {
    const std::string_view value = trim(field.value);
    if (equals_ignoring_case(field.name, "status")) {
        message.flags |= value.find('R') != std::string_view::npos ? kSeen : 0u;
    } else if (equals_ignoring_case(field.name, "x-status")) {
        for (const StateLetter& state : kXStatus) {
            message.flags |= value.find(state.letter) != std::string_view::npos ? state.flag : 0u;
        }
    } else if (equals_ignoring_case(field.name, "x-keywords")) {
        message.keywords = split(value, " \t\r\n");
        message.keywords.resize(std::min(message.keywords.size(), kMaxStoredKeywords));
    } else if (equals_ignoring_case(field.name, "x-uid")) {
        const std::uint64_t uid = parse_number(value).value_or(0);
        message.uid = uid < 0xffffffffu ? static_cast<Uid>(uid) : 0;
    } else if (file.messages.empty() && (equals_ignoring_case(field.name, "x-imapbase") || equals_ignoring_case(field.name, "x-imap"))) {
        message.internal = equals_ignoring_case(field.name, "x-imap");
        read_numbers(value, file);
    }
}

/// Content-Length is believed when a message begins, or the file ends, right where it says.
std::uint64_t message_end(std::string_view text, const MboxMessage& message, std::uint64_t content_length) {
    if (content_length > 0 && content_length <= text.size() - message.body) {
        std::uint64_t at = message.body + content_length;
        if (at == text.size()) {
            return at;
        }
        if (text[at] == '\n') {
            ++at;
            if (at == text.size() || is_from_line(text.substr(at, 1000))) {
                return at;
            }
        }
    }
    return next_from_line(text, message.body);
}

}  // namespace

bool is_from_line(std::string_view line) {
    line = line.substr(0, line.find('\n'));
    return line.substr(0, 5) == "From " && find_time(line) != std::string_view::npos;
}

std::int64_t from_line_date(std::string_view line) {
    const std::size_t at = find_time(line.substr(0, line.find('\n')));
    if (at == std::string_view::npos || at < 11) {
        return 0;
    }
    // "Thu Nov 22 11:11:11 2026": the time is preceded by 11 bytes of day name, month and day.
    const std::string text(line.substr(at - 11, 24));
    tm parsed{};
    const char* const rest = strptime(text.c_str(), "%a %b %d %H:%M:%S %Y", &parsed);
    return rest == nullptr ? 0 : static_cast<std::int64_t>(timegm(&parsed));
}

std::string make_from_line(std::string_view sender, std::int64_t date) {
    const auto when = static_cast<time_t>(date);
    tm parts{};
    gmtime_r(&when, &parts);
    char text[64];
    strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &parts);
    return "From " + std::string(sender) + " " + text + "\n";
}

bool is_state_field(std::string_view name) {
    for (const std::string_view known : {"status", "x-status", "x-keywords", "x-uid", "x-imapbase", "x-imap"}) {
        if (equals_ignoring_case(name, known)) {
            return true;
        }
    }
    return false;
}

MboxFile parse_mbox(std::string_view text) {
    MboxFile file;
    std::unordered_map<std::string, unsigned> seen;
    std::uint64_t at = is_from_line(text.substr(0, 1000)) ? 0 : next_from_line(text, 0);
    while (at < text.size()) {
        MboxMessage message;
        message.start = at;
        const std::size_t newline = text.find('\n', at);
        message.header = newline == std::string_view::npos ? text.size() : newline + 1;
        message.date = from_line_date(text.substr(at, message.header - at));
        message.body = end_of_header(text, message.header, text.size());
        std::uint64_t content_length = 0;
        std::uint64_t hash = 0;
        HeaderReader reader(text.substr(message.header, message.body - message.header));
        HeaderField field;
        while (reader.next(field)) {
            if (is_state_field(field.name)) {
                read_state_field(field, file, message);
            } else if (equals_ignoring_case(field.name, "content-length")) {
                content_length = parse_number(trim(field.value)).value_or(0);
            } else {
                hash = checksum(field.whole, hash);
            }
        }
        message.end = std::max(message_end(text, message, content_length), message.body);
        message.text_end = message.end;
        if (message.end - message.body >= 1 && text[message.end - 1] == '\n' && message.end >= 2 &&
            text[message.end - 2] == '\n') {
            --message.text_end;
        }
        hash = checksum(std::to_string(message.date) + "," + std::to_string(message.text_end - message.body), hash);
        message.id = hex_encode(std::string_view(reinterpret_cast<const char*>(&hash), sizeof hash));
        if (const unsigned copies = seen[message.id]++; copies > 0) {
            message.id += "." + std::to_string(copies);
        }
        at = message.end;
        file.messages.push_back(std::move(message));
    }
    return file;
}

std::string header_without_state(std::string_view header, bool keep_length) {
    std::string out;
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        if (!is_state_field(field.name) && (keep_length || !equals_ignoring_case(field.name, "content-length"))) {
            out += field.whole;
            out += '\n';
        }
    }
    return out;
}

std::string visible_text(std::string_view file, const MboxMessage& message) {
    std::string out;
    out.reserve(message.text_end - message.header);
    HeaderReader reader(file.substr(message.header, message.body - message.header));
    HeaderField field;
    while (reader.next(field)) {
        if (!is_state_field(field.name) && !equals_ignoring_case(field.name, "content-length")) {
            out += field.whole;
            out += '\n';
        }
    }
    if (reader.saw_separator()) {
        out += '\n';
    }
    std::string_view body = file.substr(message.body, std::max(message.text_end, message.body) - message.body);
    while (!body.empty()) {
        const std::size_t newline = body.find('\n');
        std::string_view line = body.substr(0, newline == std::string_view::npos ? newline : newline + 1);
        body.remove_prefix(line.size());
        if (line[0] == '>') {
            const std::size_t quotes = line.find_first_not_of('>');
            if (quotes != std::string_view::npos && line.substr(quotes, 5) == "From ") {
                line.remove_prefix(1);
            }
        }
        out += line;
    }
    return out;
}

std::string state_fields(std::uint32_t flags, const std::vector<std::string>& keywords, Uid uid, std::size_t size) {
    std::string out = (flags & kSeen) != 0 ? "Status: RO\n" : "Status: O\n";
    out += "X-Status: ";
    for (const StateLetter& state : kXStatus) {
        if ((flags & state.flag) != 0) {
            out += state.letter;
        }
    }
    out += "\nX-UID: " + std::to_string(uid) + "\nX-Keywords:";
    for (const std::string& keyword : keywords) {
        out += " " + keyword;
    }
    const std::size_t target = size > out.size() ? size : out.size() + kPadding;
    out.append(target - 1 - out.size(), ' ');
    out += '\n';
    return out;
}

std::string base_field(std::uint32_t uidvalidity, Uid last_uid) {
    char text[64];
    std::snprintf(text, sizeof text, "X-IMAPbase: %010u %010u\n", uidvalidity, last_uid);
    return text;
}

std::string quote_from(std::string_view text) {
    std::string out;
    out.reserve(text.size() + text.size() / 64);
    while (!text.empty()) {
        const std::size_t newline = text.find('\n');
        const std::string_view line = text.substr(0, newline == std::string_view::npos ? newline : newline + 1);
        text.remove_prefix(line.size());
        const std::size_t quotes = line.find_first_not_of('>');
        if (quotes != std::string_view::npos && line.substr(quotes, 5) == "From ") {
            out += '>';
        }
        out += line;
    }
    return out;
}

}  // namespace postern::store
