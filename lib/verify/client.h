/// The asking side of verify(8), and the sender that its probes have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/verify/messages.h"

namespace postern::verify {

/// What is known of `address`; waits up to `wait` for a probe's result.  `path` is the service's socket.
/// Errors: those of connect_unix(), closed, timeout.
Task<Result<VerifyAnswer>> query(std::string path, std::string address, Millis wait);

/// Reports a probe's result.  Errors: as query(); denied.
Task<Result<void>> update(std::string path, VerifyUpdate result);

/// The envelope sender of a probe at this time (internal form; empty for the null sender): address_verify_sender, with a
/// part that changes every address_verify_sender_ttl.
std::string probe_sender(const Config& config, std::int64_t now_seconds);

/// `address` is the sender of our own recent probes: mail for it is accepted and thrown away.  Never true for the null sender.
bool is_probe_sender(const Config& config, std::string_view address, std::int64_t now_seconds);

}  // namespace postern::verify
