/// The header fields that are kept in the cache, because clients ask for them when they show a list.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

namespace postern::store {

/// Lower case, sorted.
constexpr std::array<std::string_view, 26> kCachedHeaders = {
    "bcc",      "cc",          "content-language", "content-type", "date",         "delivered-to", "disposition-notification-to",
    "from",     "importance",  "in-reply-to",      "list-id",      "list-post",    "list-unsubscribe", "message-id",
    "newsgroups", "priority",  "references",       "reply-to",     "resent-from",  "resent-to",    "return-path",
    "sender",   "subject",     "to",               "x-mailer",     "x-priority"};

/// Position in kCachedHeaders; its size when it is not there.
std::size_t cached_header_index(std::string_view name);
inline bool is_cached_header(std::string_view name) { return cached_header_index(name) < kCachedHeaders.size(); }


/// Fields called one of `names` (lower case).
std::string named_fields(std::string_view header, std::span<const std::string> names);

/// Those of kCachedHeaders, packed so that picking some of them is quick: for each its position there (1 byte),
/// its length (4 bytes, host order) and its text with CRLF.
std::string pack_cached_fields(std::string_view header);
/// Fields called one of `names` (lower case, all in kCachedHeaders) from what was packed; appends to `out`.
/// False when `packed` makes no sense.
bool pick_cached_fields(std::string_view packed, std::span<const std::string> names, std::string& out);

}  // namespace postern::store
