/// "* STATUS", asked for by STATUS and by LIST RETURN (STATUS ...).
#pragma once

#include <string>

#include "imapd/session.h"

namespace postern::imapd {

/// Writes the response for `items` (bits of StatusItem).  On an error nothing is written.
Result<void> write_status(Session& session, const std::string& mailbox, unsigned items);

}  // namespace postern::imapd
