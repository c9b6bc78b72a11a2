/// The parts of FETCH that need the text of a message: BODY[...], RFC822, BINARY[...].
#pragma once

#include <string>

#include "imapd/session.h"

namespace postern::imapd {

/// "BODY[1.HEADER.FIELDS (Subject)]<0>" as the response names the item (RFC 3501 section 7.4.2).
std::string item_label(const FetchItem& item);

/// Whether the item needs the text of the message.
bool needs_text(const FetchItem& item);

/// How an item that needs the text went.
enum class Sent : unsigned char {
    done,
    gone,          ///< the message was expunged meanwhile; nothing was written
    failed,        ///< it cannot be read now; logged, nothing was written
    undecodable,   ///< BINARY: the transfer encoding is not known; nothing was written
    lost,          ///< the client is gone
};

/// Writes `label`, a space and the data of `item` for message `uid`.  Sends what is written when there is
/// much of it; a whole message is never in memory unless a part of it is asked for.
Task<Sent> send_text_item(Session& session, store::Reader& reader, store::Uid uid, const FetchItem& item,
                          const std::string& label);

}  // namespace postern::imapd
