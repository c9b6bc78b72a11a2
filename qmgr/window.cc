#include "qmgr/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "lib/base/strings.h"

namespace postern::qmgr {
namespace {

constexpr double kEpsilon = 1e-9;   // tenths must add up to one

/// "1", "0.25"; nothing for what is more, less than nothing, or out of all proportion.
std::optional<double> parse_fraction(std::string_view text) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && number >= 0 && number <= 1e6 ? std::optional(number) : std::nullopt;
}

}  // namespace

Result<Feedback> Feedback::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    const std::optional<double> numerator = parse_fraction(trim(text.substr(0, slash)));
    Feedback feedback;
    bool good = numerator.has_value();
    feedback.base = numerator.value_or(0);
    if (good && slash != text.npos) {
        const std::string_view divisor = trim(text.substr(slash + 1));
        const std::optional<double> number = parse_fraction(divisor);
        if (number && *number > 0) {
            feedback.base /= *number;
        } else if (equals_ignoring_case(divisor, "concurrency")) {
            feedback.per = Per::concurrency;
        } else if (equals_ignoring_case(divisor, "sqrt_concurrency")) {
            feedback.per = Per::square_root;
        } else {
            good = false;
        }
    }
    if (!good || feedback.base > 1) {
        return Error(Errc::config, "bad concurrency feedback \"" + std::string(text) +
                                       "\": a number from 0 to 1, which may be divided by a number, concurrency or sqrt_concurrency");
    }
    return feedback;
}

double Feedback::amount(double window) const {
    switch (per) {
    case Per::concurrency:
        return base / window;
    case Per::square_root:
        return base / std::sqrt(window);
    case Per::constant:
        break;
    }
    return base;
}

void Window::reset(const WindowLimits& limits) {
    window_ = limits.maximum > 0 ? std::min(limits.initial, limits.maximum) : limits.initial;
    success_ = failure_ = failed_cohorts_ = 0;
    closed_ = false;
}

void Window::succeeded(const WindowLimits& limits, int busy) {
    failed_cohorts_ = 0;
    if (closed_) {
        reset(limits);
        return;
    }
    const bool below_limit = limits.maximum <= 0 || window_ < limits.maximum;
    if (!below_limit || window_ >= busy + limits.initial) {
        return;   // a window that is not used up tells nothing
    }
    const double feedback = limits.positive.amount(window_);
    success_ += feedback;
    while (success_ + feedback / 2 >= 1) {
        window_ += 1;
        success_ -= 1;
        failure_ = 0;
    }
    if (limits.maximum > 0) {
        window_ = std::min(window_, limits.maximum);
    }
}

void Window::failed(const WindowLimits& limits) {
    if (closed_) {
        return;
    }
    failed_cohorts_ += 1 / window_;
    if (limits.failed_cohorts > 0 && failed_cohorts_ + kEpsilon >= limits.failed_cohorts) {
        closed_ = true;
        return;
    }
    const double feedback = limits.negative.amount(window_);
    failure_ -= feedback;
    while (failure_ - feedback / 2 < 0) {   // at the beginning of a cycle, so that failure is heeded at once
        window_ -= 1;
        failure_ += 1;
        success_ = 0;
    }
    window_ = std::max(window_, 1.0);
}

std::string Window::text(const WindowLimits& limits) const {
    return fmt::format("limit {:g} window {} success {:g} failure {:g} fail_cohorts {:g}", limits.maximum, size(), success_, failure_, failed_cohorts_);
}

}  // namespace postern::qmgr
