/// The final recipients of a message: rewriting, alias expansion, automatic Bcc, duplicates.
#pragma once

#include <string>
#include <vector>

#include "cleanup/maps.h"
#include "lib/queue/messages.h"

namespace postern::cleanup {

struct FinalRecipients {
    std::vector<queue::Recipient> recipients;
    /// Addresses with NOTIFY=SUCCESS that have become several.  Nothing goes to them, but the sender hears that they were
    /// expanded (RFC 3461 section 5.2.7.3), and not of each member's success.
    std::vector<queue::Recipient> expanded;
};

/// What `begin.envelope.recipients` become.  `sender` is the rewritten sender; `extra_bcc` come from BCC actions.
/// The order of the recipients is kept.  Errors: temporary.
Result<FinalRecipients> final_recipients(const Config& config, AddressMaps& maps, const queue::Begin& begin,
                                         const std::string& sender, const std::vector<std::string>& extra_bcc);

}  // namespace postern::cleanup
