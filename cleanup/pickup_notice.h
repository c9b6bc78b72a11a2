/// The notice that tells a local sender why a submission was refused for good (RFC 3464).
#pragma once

#include <string>

#include "lib/config/config.h"
#include "lib/queue/messages.h"

namespace postern::pickup {

/// A submission from the null sender to `envelope.sender`.  `header` is the original's header, already bounded.
queue::Begin refusal_notice(const Config& config, const queue::Envelope& envelope, const queue::Refused& refused,
                            const std::string& header);

}  // namespace postern::pickup
