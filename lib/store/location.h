/// mail_location, as Dovecot writes it: `driver:path[:KEY=VALUE]...`.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern::store {

enum class Driver : unsigned char { maildir, mbox };

struct Location {
    Driver driver = Driver::maildir;
    std::string root;               ///< absolute, no slash at the end
    bool fs_layout = false;         ///< LAYOUT=fs: folders are nested directories; always so for mbox
    std::string index;              ///< directory for the index: INDEX=, or the root
    std::string control;            ///< CONTROL=: where uidlist, keywords and subscriptions are; or the root
    std::string inbox;              ///< INBOX=, or empty: the root (Maildir), root/inbox (mbox)
};

/// Expands %u (user) %n (before @) %d (after @) %h (home) %% and their long forms %{user} %{username} %{domain}
/// %{home}, the modifiers L and U (case) and N.M / M (part of the value, as in %1n), and ~/ at the start of a
/// path.  Errors: config, naming what is not understood.
Result<Location> parse_location(std::string_view text, std::string_view user, std::string_view home);

/// mkdir -p with mode 0700.
Result<void> make_directories(const std::string& path);

}  // namespace postern::store
