/// The mbox format (RFC 4155, and mboxrd's quoting): where messages begin and end, and what the fields that mail
/// programs keep their state in say: Status, X-Status, X-Keywords, X-UID, X-IMAPbase (as Dovecot, UW and mutt do).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/store/uid_set.h"

namespace postern::store {

/// Offsets into the file.
struct MboxMessage {
    std::uint64_t start = 0;        ///< of the `From ` line
    std::uint64_t header = 0;       ///< first byte after it
    std::uint64_t body = 0;         ///< first byte after the empty line
    std::uint64_t text_end = 0;     ///< without the empty line that separates messages
    std::uint64_t end = 0;          ///< the next `From ` line, or the end of the file
    std::int64_t date = 0;          ///< from the `From ` line; 0 when it has none
    std::uint32_t flags = 0;        ///< of Flag (store.h)
    std::vector<std::string> keywords;
    Uid uid = 0;                    ///< X-UID; 0 when it has none
    bool internal = false;          ///< c-client's pseudo message: state, no mail
    std::string id;                 ///< the same however flags change; different for each message of the file
};

struct MboxFile {
    std::vector<MboxMessage> messages;
    std::uint32_t uidvalidity = 0;  ///< X-IMAPbase or X-IMAP of the first message; 0 when there is none
    Uid last_uid = 0;
};

/// Any text is accepted; what comes before the first `From ` line belongs to no message.
MboxFile parse_mbox(std::string_view text);

/// `From sender date`: a line that begins a message when it follows an empty line.
bool is_from_line(std::string_view line);
/// Seconds since 1970 from such a line; 0 when there is no date in it.
std::int64_t from_line_date(std::string_view line);
std::string make_from_line(std::string_view sender, std::int64_t date);

/// Fields that hold state and are not shown to clients.
bool is_state_field(std::string_view name);
/// The message as clients see it: no `From ` line, no state fields, `>From ` lines unquoted (mboxrd).
std::string visible_text(std::string_view file, const MboxMessage& message);
/// A header block without its state fields, and without Content-Length unless it is to be kept.
std::string header_without_state(std::string_view header, bool keep_length = true);
/// The state fields for a message; X-Keywords is filled up with spaces to make all `size` bytes long, if they fit.
std::string state_fields(std::uint32_t flags, const std::vector<std::string>& keywords, Uid uid, std::size_t size);
/// X-IMAPbase for the first message.
std::string base_field(std::uint32_t uidvalidity, Uid last_uid);
/// Body with one more `>` before each `From ` line that has any number of them already.
std::string quote_from(std::string_view text);

}  // namespace postern::store
