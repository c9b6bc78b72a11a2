/// Writing a message to a file or Maildir.  Everything here blocks and runs on a thread that has the recipient's
/// rights (work_as()).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/config/config.h"
#include "local/message.h"
#include "local/outcome.h"

namespace postern::local {

/// Lines in front of a delivered message.
struct CopyHeaders {
    bool from_line = false;         ///< mbox separator "From sender date"
    bool return_path = true;
    bool original_to = true;        ///< X-Original-To
    bool delivered_to = true;
    std::optional<std::string> sender{};   ///< instead of the message's
};
/// Those lines for one recipient.  `delivered_to` is the address in Delivered-To.
std::string copy_headers(const Message& message, const queue::Recipient& recipient, std::string_view delivered_to,
                         const CopyHeaders& wanted);

/// How mailbox files are locked and bounded.
struct MailboxRules {
    bool dotlock = true;
    bool fcntl_lock = true;
    bool flock_lock = false;
    long lock_attempts = 20;        ///< deliver_lock_attempts
    long lock_delay = 1;            ///< deliver_lock_delay, seconds
    long stale_lock_time = 500;
    long size_limit = 0;            ///< bytes of a mailbox or Maildir file; 0: none
    bool strict_ownership = true;
    std::string hostname{};         ///< for Maildir names
    std::string failure_dsn = "5.2.0";   ///< for errors that have no better code
    std::string file_text = "mailbox";   ///< "delivered to mailbox", "delivered to file: /x"
    std::string trouble_text{};     ///< in front of what went wrong
    std::uint16_t biff_port = 0;    ///< biff: of comsat(8); 0: nobody is told
    std::string biff_user{};        ///< whose mailbox it is; empty: nobody is told
    bool plain_file = false;        ///< named by an alias: must not be executable, and may be where no lock file can be made
};
/// `lock_names` is mailbox_delivery_lock or virtual_mailbox_lock; `limit_name` names where `size_limit` comes from.
/// Errors: config, for an unknown lock, and for a limit that the largest message would not pass.
Result<MailboxRules> mailbox_rules(const Config& config, const std::string& lock_names, std::string_view limit_name,
                                   long size_limit);

/// Maildir at `directory` (with or without its last "/"), made where it is missing.  The name in new/ is derived
/// from queue id, arrival and recipient: a delivery that was finished before a crash is found and not repeated.
/// Durable when it returns success.
Outcome deliver_maildir(const Message& message, const queue::Recipient& recipient, const std::string& directory,
                        const std::string& prefix, const MailboxRules& rules);

/// Appends to the mbox `path`, locked, with "From " lines quoted; truncated again when writing fails.  `owner` is
/// who must own an existing file (strict_mailbox_ownership).
Outcome deliver_mbox(const Message& message, const std::string& path, const std::string& prefix, uid_t owner,
                     const MailboxRules& rules);

}  // namespace postern::local
