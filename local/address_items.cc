#include "local/address_items.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"

namespace postern::local {
namespace {

constexpr std::string_view kInclude = ":include:";

/// Length of the item at the front of `text`: up to a comma or line end outside quotes and comments.
std::size_t item_length(std::string_view text) {
    bool in_quotes = false;
    int comments = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\n') {
            return i;
        }
        if (c == '\\') {
            ++i;
        } else if (c == '"' && comments == 0) {
            in_quotes = !in_quotes;
        } else if (!in_quotes && c == '(') {
            ++comments;
        } else if (!in_quotes && c == ')' && comments > 0) {
            --comments;
        } else if (!in_quotes && comments == 0 && c == ',') {
            return i;
        }
    }
    return text.size();
}

/// `text` without one pair of quotes around all of it, and without the backslashes inside.
std::string unquoted(std::string_view text) {
    if (text.size() < 2 || text.front() != '"' || text.back() != '"') {
        return std::string(text);
    }
    std::string plain;
    const std::string_view inside = text.substr(1, text.size() - 2);
    for (std::size_t i = 0; i < inside.size(); ++i) {
        if (inside[i] == '\\' && i + 1 < inside.size()) {
            ++i;
        }
        plain += inside[i];
    }
    return plain;
}

/// All of `text` is one quoted string.
bool is_quoted_string(std::string_view text) {
    if (text.size() < 2 || text.front() != '"') {
        return false;
    }
    for (std::size_t i = 1; i < text.size(); ++i) {
        if (text[i] == '\\') {
            ++i;
        } else if (text[i] == '"') {
            return i + 1 == text.size();
        }
    }
    return false;
}

/// Takes comments off the front; one without an end takes all.
std::string_view without_comments(std::string_view text) {
    while (!text.empty() && text.front() == '(') {
        int depth = 0;
        std::size_t end = 0;
        for (; end < text.size() && (end == 0 || depth > 0); ++end) {
            depth += text[end] == '(' ? 1 : text[end] == ')' ? -1 : 0;
            end += text[end] == '\\' ? 1 : 0;
        }
        text = trim(text.substr(std::min(end, text.size())));
    }
    return text;
}

/// "friends: a" and "b;", the ends of a group (RFC 5322 section 3.4) whose commas have parted it.
std::string_view without_group(std::string_view text) {
    if (!text.empty() && std::string_view("|/~:\"").find(text.front()) != std::string_view::npos) {
        return text;
    }
    const std::size_t colon = text.find(':');
    const bool plain = text.find_first_of("\"@<|/\\(") >= std::min(colon, text.size());
    if (colon != std::string_view::npos && colon > 0 && plain) {
        text = trim(text.substr(colon + 1));
    }
    if (!text.empty() && text.back() == ';') {
        text = trim(text.substr(0, text.size() - 1));
    }
    return text;
}

AddressItem parse_item(std::string_view raw) {
    // A quoted command, file or include is unwrapped whole; a quoted local part is the address parser's business.
    const std::string text = is_quoted_string(raw) ? unquoted(raw) : std::string(raw);
    const std::string_view view = text;
    if (view.empty()) {
        return {AddressItem::Kind::invalid, std::string(raw)};
    }
    if (view.front() == '|') {
        return {AddressItem::Kind::command, unquoted(trim(view.substr(1)))};
    }
    if (view.front() == '/' || view.starts_with("~/")) {
        return {AddressItem::Kind::file, text};
    }
    if (starts_with_ignoring_case(view, kInclude)) {
        return {AddressItem::Kind::include, unquoted(trim(view.substr(kInclude.size())))};
    }
    if (view.front() == '\\') {
        return {AddressItem::Kind::address, text};
    }
    const Result<Address> address = parse_address(raw);
    if (!address || address->empty()) {
        return {AddressItem::Kind::invalid, std::string(raw)};
    }
    return {AddressItem::Kind::address, address->internal()};
}

/// Adds one item, or the words of one: "anna otto" are two addresses.
void add_item(std::string_view raw, std::vector<AddressItem>& items) {
    raw = without_comments(without_group(raw));
    if (raw.empty()) {
        return;
    }
    AddressItem item = parse_item(raw);
    const bool words = item.kind == AddressItem::Kind::invalid && raw.find_first_of("\"<>()") == std::string_view::npos;
    if (!words) {
        items.push_back(std::move(item));
        return;
    }
    for (const std::string& word : split(raw, " \t\r")) {
        items.push_back(parse_item(word));
    }
}

}  // namespace

std::vector<AddressItem> parse_address_items(std::string_view text) {
    std::vector<AddressItem> items;
    bool line_start = true;
    while (!text.empty()) {
        if (line_start && text.front() == '#') {
            const std::size_t end = text.find('\n');
            text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
            continue;
        }
        const std::size_t length = item_length(text);
        const std::string_view raw = trim(text.substr(0, length));
        add_item(raw, items);
        line_start = length < text.size() && text[length] == '\n';
        text.remove_prefix(length < text.size() ? length + 1 : length);
    }
    return items;
}

}  // namespace postern::local
