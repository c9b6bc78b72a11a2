/// Deadlines that count for a whole request: smtp_per_request_deadline, smtpd_per_request_deadline and their data rates.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "lib/async/loop.h"

namespace postern {

/// What is left of `timeout`, which began at `begin`, for a request of which `bytes` of content have been moved: each byte
/// is given the time that it takes at `bytes_per_second`.  At least a millisecond, so that what is there already can be read.
inline Millis request_time_left(std::chrono::steady_clock::time_point begin, Millis timeout, std::uint64_t bytes, long bytes_per_second) {
    if (timeout == kForever) {
        return timeout;
    }
    const auto rate = static_cast<std::uint64_t>(std::max(bytes_per_second, 1L));
    const auto spent = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begin);
    return std::max(Millis(1), timeout + Millis(bytes * 1000 / rate) - spent);
}

}  // namespace postern
