/// default_destination_concurrency_positive_feedback and its negative sibling, and those of single transports (Postfix
/// SCHEDULER_README): "1", "1/8", "1/concurrency", "1/sqrt_concurrency".
#pragma once

#include <string_view>

#include "lib/base/result.h"

namespace postern {

struct Feedback {
    enum class Per { constant, concurrency, square_root };
    double base = 1;
    Per per = Per::constant;

    /// Errors: config.
    static Result<Feedback> parse(std::string_view text);
    /// What one delivery counts while `window` deliveries may run at the same time.
    double amount(double window) const;
};

/// What parse() takes, for the administrator.
inline constexpr std::string_view kAcceptedFeedback = "a number from 0 to 1, which may be divided by a number, concurrency or sqrt_concurrency";

}  // namespace postern
