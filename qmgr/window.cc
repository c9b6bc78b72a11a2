#include "qmgr/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace postern::qmgr {
namespace {

constexpr double kEpsilon = 1e-9;   // tenths must add up to one

}  // namespace

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
