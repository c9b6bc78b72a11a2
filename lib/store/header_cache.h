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

bool is_cached_header(std::string_view name);


/// Fields called one of `names` (lower case).
std::string named_fields(std::string_view header, std::span<const std::string> names);
/// Those of kCachedHeaders.
std::string cached_fields(std::string_view header);

}  // namespace postern::store
