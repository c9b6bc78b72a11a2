/// Pieces of IMAP responses, appended to the stream's output.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/store.h"

namespace postern::imapd {

void append_number(std::string& out, std::uint64_t value);

/// An astring: as an atom where that is possible, else quoted or as a literal.
void append_astring(std::string& out, std::string_view text);

/// A mailbox name as the client must see it: UTF-8 in, modified UTF-7 out (RFC 3501 section 5.1.3).
void append_mailbox(std::string& out, std::string_view utf8_name);

/// The separator between levels of names, as a quoted string (LIST, NAMESPACE).
void append_separator(std::string& out, char separator);

/// The UTF-8 name for what the client sent; INBOX in any case becomes "INBOX".
/// Errors: syntax (no modified UTF-7, control characters, empty).
Result<std::string> mailbox_from_client(std::string_view name, char separator);

/// "(\Seen $Junk)".
void append_flags(std::string& out, std::uint32_t flags, std::uint64_t keyword_bits,
                  const std::vector<std::string>& keywords);

/// UIDs as a set, in the order given: COPYUID needs the n-th of one to match the n-th of the other.
std::string format_uids(const std::vector<store::Uid>& uids);

/// The tagged reply (without tag) for a failure of the store (RFC 5530 response codes), logging what an
/// administrator should see.
std::string reply_for(const Error& error);

}  // namespace postern::imapd
