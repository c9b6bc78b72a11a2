/// What clients call mailboxes: the store's names behind namespace_prefix, in modified UTF-7 (RFC 3501 section 5.1.3).
///
/// The prefix ends in the separator ("INBOX.", "Mail/").  INBOX itself has none: it is "INBOX" to everybody.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/store.h"

namespace postern::imapd {

class MailboxNames {
public:
    /// `forgiving`: one separator at a name's end, which Thunderbird adds, is not there (imap_client_workarounds).
    MailboxNames(std::string prefix, char separator, bool forgiving)
        : prefix_(std::move(prefix)), separator_(separator), forgiving_(forgiving) {}

    const std::string& prefix() const { return prefix_; }
    char separator() const { return separator_; }

    /// The store's name, in UTF-8, for what the client sent; INBOX in any case becomes "INBOX".
    /// Errors: syntax (no modified UTF-7, control characters, empty, without the prefix); not_found for what is above the
    /// mailboxes themselves, such as "Mail" when the prefix is "Mail/".
    Result<std::string> from_client(std::string_view name) const;

    /// The name with its prefix, in UTF-8.
    std::string to_client(const std::string& name) const { return name == "INBOX" ? name : prefix_ + name; }

    /// A listing with the names clients know, and those of the prefix's own levels in it, which hold no mail.
    std::vector<store::MailboxInfo> listing(std::vector<store::MailboxInfo> boxes) const;

    /// The store's name of one in listing().
    std::string store_name(const store::MailboxInfo& box) const {
        return box.name == "INBOX" ? box.name : box.name.substr(std::min(prefix_.size(), box.name.size()));
    }

private:
    std::string prefix_;
    char separator_;
    bool forgiving_;
};

}  // namespace postern::imapd
