#include "qmgr/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "lib/base/strings.h"

namespace postern::qmgr {
namespace {

constexpr double kEpsilon = 0.01;   // thirds and sevenths must add up to one

}  // namespace

Result<Feedback> Feedback::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    const auto numerator = parse_number(trim(text.substr(0, slash)));
    Feedback feedback;
    bool good = numerator.has_value() && *numerator <= 1'000'000;
    feedback.base = good ? static_cast<double>(*numerator) : 0;
    if (good && slash != text.npos) {
        const std::string_view divisor = trim(text.substr(slash + 1));
        const auto number = parse_number(divisor);
        if (number && *number > 0) {
            feedback.base /= static_cast<double>(*number);
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
                                       "\": a number from 0 to 1, or 1/concurrency, or 1/sqrt_concurrency");
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
    success_ += limits.positive.amount(window_);
    while (success_ + kEpsilon >= 1) {
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
    failure_ += limits.negative.amount(window_);
    while (failure_ + kEpsilon >= 1) {
        window_ -= 1;
        failure_ -= 1;
        success_ = 0;
    }
    window_ = std::max(window_, 1.0);
}

std::string Window::text(const WindowLimits& limits) const {
    return fmt::format("limit {:g} window {} success {:g} failure {:g} fail_cohorts {:g}", limits.maximum, size(), success_, failure_, failed_cohorts_);
}

}  // namespace postern::qmgr
