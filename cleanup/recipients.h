/// The final recipients of a message: rewriting, alias expansion, automatic Bcc, duplicates.
#pragma once

#include <string>
#include <vector>

#include "cleanup/maps.h"
#include "lib/queue/messages.h"

namespace postern::cleanup {

/// What `begin.envelope.recipients` become.  `sender` is the rewritten sender; `extra_bcc` come from BCC actions.
/// The order of the recipients is kept.  Errors: temporary.
Result<std::vector<queue::Recipient>> final_recipients(const Config& config, AddressMaps& maps,
                                                       const queue::Begin& begin, const std::string& sender,
                                                       const std::vector<std::string>& extra_bcc);

}  // namespace postern::cleanup
