/// File names in a Maildir: `unique[,S=size][,W=size][,V=uidvalidity.uid]:2,flags` (https://cr.yp.to/proto/maildir.html
/// and Dovecot's additions: S is the size in bytes, W the size with CRLF line ends, a-z are keywords; V is ours).
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/store/index_format.h"

namespace postern::store {

/// `suffix` is all from the first colon on; `base` never changes while the message exists.
struct NameParts {
    std::string_view base, suffix;
};
NameParts split_name(std::string_view file_name);

/// What a suffix says.
struct NameFlags {
    std::uint32_t flags = 0;        ///< of Flag, and kPassed
    std::uint64_t keywords = 0;     ///< bits 0-25
    bool usual = false;             ///< exactly what suffix_for() would write
};
NameFlags parse_suffix(std::string_view suffix);

/// ":2,FS" and keyword letters, in ASCII order.
std::string suffix_for(std::uint32_t flags, std::uint64_t keywords);
/// The same, keeping letters in `old_suffix` that mean nothing to us.
std::string changed_suffix(std::string_view old_suffix, std::uint32_t flags, std::uint64_t keywords);

/// Keywords that a name can have: a to z.
constexpr std::uint64_t kLetterKeywords = (std::uint64_t{1} << 26) - 1;

/// The number after ",S=" or ",W=".
std::optional<std::uint64_t> size_in_name(std::string_view base, char letter);

/// The UID that a message got when it was added.  It is the durable record of it until the index is: believed only of files
/// that the index does not know, in a mailbox with that UIDVALIDITY, when the UID was not given to another since.
struct NamedUid {
    std::uint32_t uidvalidity = 0;
    Uid uid = 0;
};
std::string with_uid(std::string base, NamedUid named);
std::optional<NamedUid> uid_in_name(std::string_view base);

/// A name nobody else on this or another host makes: seconds, microseconds, process, counter, host.
std::string unique_base();
std::string unique_base(std::uint64_t size, std::uint64_t crlf_size);

/// When a name says its message was delivered: its leading number of seconds, the microseconds after M.
struct DeliveryTime {
    std::uint64_t seconds = 0;
    std::uint64_t microseconds = 0;
    auto operator<=>(const DeliveryTime&) const = default;
};
DeliveryTime delivery_time(std::string_view base);

}  // namespace postern::store
