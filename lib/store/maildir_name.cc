#include "lib/store/maildir_name.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

namespace postern::store {
namespace {

struct Letter {
    char letter;
    std::uint32_t flag;
};
constexpr Letter kLetters[] = {{'D', kDraft}, {'F', kFlagged}, {'P', kPassed},
                               {'R', kAnswered}, {'S', kSeen}, {'T', kDeleted}};

std::uint64_t leading_number(std::string_view text) {
    std::uint64_t n = 0;
    for (const char c : text.substr(0, 18)) {
        if (c < '0' || c > '9') {
            break;
        }
        n = n * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return n;
}

std::uint64_t microseconds(std::string_view name) {
    const std::size_t dot = name.find('.');
    const std::string_view rest = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
    const std::size_t m = rest.substr(0, rest.find_first_of(".,")).find('M');
    return m == std::string_view::npos ? 0 : leading_number(rest.substr(m + 1));
}

std::string host_name() {
    char buffer[256] = "localhost";
    gethostname(buffer, sizeof buffer - 1);
    std::string out;
    for (const char c : std::string_view(buffer)) {
        if (c == '/') {
            out += "\\057";
        } else if (c == ':') {
            out += "\\072";
        } else if (c == ',') {
            out += "\\054";
        } else {
            out += c;
        }
    }
    return out;
}

bool is_number(std::string_view digits) {
    return !digits.empty() && digits.size() < 18 &&
           std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// What follows ",letter=", up to the next comma; empty when there is no such field.
std::string_view field_of(std::string_view base, char letter) {
    for (std::size_t comma = base.find(','); comma != std::string_view::npos; comma = base.find(',', comma + 1)) {
        const std::string_view field = base.substr(comma + 1);
        if (field.size() >= 3 && field[0] == letter && field[1] == '=') {
            return field.substr(2, field.substr(2).find(','));
        }
    }
    return {};
}

}  // namespace

NameParts split_name(std::string_view file_name) {
    const std::size_t colon = file_name.find(':');
    if (colon == std::string_view::npos) {
        return {file_name, {}};
    }
    return {file_name.substr(0, colon), file_name.substr(colon)};
}

NameFlags parse_suffix(std::string_view suffix) {
    NameFlags out;
    if (suffix.substr(0, 3) != ":2,") {
        return out;
    }
    out.usual = true;
    char last = 0;
    for (const char c : suffix.substr(3)) {
        out.usual = out.usual && c > last;
        last = c;
        if (c >= 'a' && c <= 'z') {
            out.keywords |= std::uint64_t{1} << (c - 'a');
            continue;
        }
        const auto* const known = std::find_if(std::begin(kLetters), std::end(kLetters),
                                               [c](const Letter& l) { return l.letter == c; });
        if (known == std::end(kLetters)) {
            out.usual = false;
        } else {
            out.flags |= known->flag;
        }
    }
    return out;
}

std::string suffix_for(std::uint32_t flags, std::uint64_t keywords) {
    std::string out = ":2,";
    for (const Letter& letter : kLetters) {
        if ((flags & letter.flag) != 0) {
            out += letter.letter;
        }
    }
    for (int i = 0; i < 26 && keywords >> i != 0; ++i) {
        if ((keywords >> i & 1) != 0) {
            out += static_cast<char>('a' + i);
        }
    }
    return out;
}

std::string changed_suffix(std::string_view old_suffix, std::uint32_t flags, std::uint64_t keywords) {
    std::string out = suffix_for(flags, keywords);
    if (old_suffix.substr(0, 3) != ":2,") {
        return out;
    }
    std::string strange;
    for (const char c : old_suffix.substr(3)) {
        const bool known = (c >= 'a' && c <= 'z') || std::any_of(std::begin(kLetters), std::end(kLetters),
                                                                  [c](const Letter& l) { return l.letter == c; });
        if (!known) {
            strange += c;
        }
    }
    return out + strange;
}

std::optional<std::uint64_t> size_in_name(std::string_view base, char letter) {
    const std::string_view digits = field_of(base, letter);
    return is_number(digits) ? std::optional<std::uint64_t>(leading_number(digits)) : std::nullopt;
}

std::string with_uid(std::string base, NamedUid named) {
    return std::move(base) + ",V=" + std::to_string(named.uidvalidity) + "." + std::to_string(named.uid);
}

std::optional<NamedUid> uid_in_name(std::string_view base) {
    const std::string_view field = field_of(base, 'V');
    const std::size_t dot = field.find('.');
    if (dot == std::string_view::npos || !is_number(field.substr(0, dot)) || !is_number(field.substr(dot + 1))) {
        return std::nullopt;
    }
    const std::uint64_t uidvalidity = leading_number(field.substr(0, dot));
    const std::uint64_t uid = leading_number(field.substr(dot + 1));
    if (uidvalidity == 0 || uid == 0 || uidvalidity > 0xffffffffu || uid >= 0xffffffffu) {
        return std::nullopt;
    }
    return NamedUid{static_cast<std::uint32_t>(uidvalidity), static_cast<Uid>(uid)};
}

std::string unique_base() {
    static std::atomic<unsigned> counter{0};
    static const std::string host = host_name();
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return std::to_string(now.tv_sec) + ".M" + std::to_string(now.tv_nsec / 1000) + "P" + std::to_string(getpid()) +
           "Q" + std::to_string(counter.fetch_add(1)) + "." + host;
}

std::string unique_base(std::uint64_t size, std::uint64_t crlf_size) {
    return unique_base() + ",S=" + std::to_string(size) + ",W=" + std::to_string(crlf_size);
}

DeliveryTime delivery_time(std::string_view base) { return DeliveryTime{leading_number(base), microseconds(base)}; }

}  // namespace postern::store
